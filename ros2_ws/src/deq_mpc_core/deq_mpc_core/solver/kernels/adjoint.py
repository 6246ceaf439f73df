# mypy: ignore-errors
"""The gradient rule: implicit function theorem on grad L = 0 at the returned iterate.

    d tau = -H^{-1} d(grad L) / d data,   so   data_bar = -(d grad L / d data)^T v   with   H v = tau_bar.

The multipliers after their update are the forces of the last minimisation (eta + mu k and max(0, lambda + mu h)), so H
needs only what a solve returns: a constraint is active where its multiplier is positive.
"""

import numpy as np
from numba import njit

from deq_mpc_core.solver.arrays import Gradients

from .lagrangian import HAS_POSITION, PX, PY, PZ, SCALE, add_sphere, to_centre
from .riccati import factor, substitute, workspace
from .rk4 import jit, rk4_hessian
from .slot import FASTMATH, NU, NX, NZ, rk4_tangent
from .solve import all_finite, sample, sample_duals

EXACT, GAUSS_NEWTON, FAILED = 0, 1, 2


@jit
def _hessian(data, tau, duals, mu, exact, model):
    """Stage Hessians of L without the dynamics' Gauss-Newton part (which `factor` adds), and dF/dz."""
    horizon = tau.shape[0]
    force = np.empty(NX)
    for t in range(horizon):
        z, hess = tau[t], model.hess[t]
        hess[:, :] = 0.0
        for i in range(NX):
            hess[i, i] = data.q[t, i]
        for i in range(NU):
            hess[NX + i, NX + i] = data.r[t, i]
        for i in range(NX if t == 0 else 0, NZ):
            if duals.upper[t, i] > 0.0 or duals.lower[t, i] > 0.0:
                hess[i, i] += mu / (SCALE[i] * SCALE[i])
        if HAS_POSITION and t > 0:
            for j in range(data.radii.shape[0]):
                if data.radii[j] > 0.0 and duals.sphere[t, j] > 0.0:
                    dx, dy, dz, distance = to_centre(z, data.centres[t, j])
                    add_sphere(dx, dy, dz, distance, duals.sphere[t, j], mu, exact, hess)
        if t + 1 < horizon:
            rk4_tangent(z[:NX], z[NX:], data.p, data.dt, model.vectors[5], model.jac[t])
            if exact:
                for i in range(NX):
                    force[i] = -duals.eta[t, i] / SCALE[i]
                rk4_hessian(z[:NX], z[NX:], data.p, data.dt, force, hess)


@jit
def _stage_gradients(data, tau, duals, mu, v, grads):
    """-(d grad L / d data)^T v for all data but x_init."""
    grads.radii[:] = 0.0
    for t in range(tau.shape[0]):
        for i in range(NX):  # v is zero at x_0, which is data and no variable
            grads.x_ref[t, i] = data.q[t, i] * v[t, i]
            grads.q[t, i] = -(tau[t, i] - data.x_ref[t, i]) * v[t, i]
        for i in range(NU):
            grads.u_ref[t, i] = data.r[t, i] * v[t, NX + i]
            grads.r[t, i] = -(tau[t, NX + i] - data.u_ref[t, i]) * v[t, NX + i]
        for i in range(NZ):
            stiffness = mu / (SCALE[i] * SCALE[i])
            grads.upper[t, i] = stiffness * v[t, i] if duals.upper[t, i] > 0.0 else 0.0
            grads.lower[t, i] = stiffness * v[t, i] if duals.lower[t, i] > 0.0 else 0.0
        for j in range(data.radii.shape[0]):
            grads.centres[t, j, :] = 0.0
            if HAS_POSITION and t > 0 and data.radii[j] > 0.0 and duals.sphere[t, j] > 0.0:
                dx, dy, dz, distance = to_centre(tau[t], data.centres[t, j])
                n = (dx / distance, dy / distance, dz / distance)
                w = (v[t, PX], v[t, PY], v[t, PZ])
                along = n[0] * w[0] + n[1] * w[1] + n[2] * w[2]
                for a in range(3):
                    across = w[a] - n[a] * along
                    grads.centres[t, j, a] = mu * n[a] * along - duals.sphere[t, j] / distance * across
                grads.radii[j] += mu * along


@jit
def _initial_state_gradient(first_row, jac, mu, g, v, grad):
    """tau_bar at x_0 minus H_{x_0, z} v; first_row (NX, NZ): H_{x_0, z_0} without the dynamics' Gauss-Newton part."""
    for i in range(NX):
        grad[i] = g[0, i]
        for j in range(NX, NZ):
            grad[i] -= first_row[i, j] * v[0, j]
    if v.shape[0] > 1:
        for a in range(NX):
            change = v[1, a]
            for j in range(NX, NZ):
                change -= jac[0, a, j] * v[0, j]
            for i in range(NX):
                grad[i] += jac[0, a, i] * mu / (SCALE[a] * SCALE[a]) * change


@jit
def adjoint_one(data, tau, duals, mu, exact, g, v, grads, work):
    """Solve H v = g (T, NZ) and write the gradients.

    exact: with the curvature of dynamics and spheres; where that H is indefinite, the Gauss-Newton one serves.
    Returns EXACT, GAUSS_NEWTON or FAILED (all gradients zero).
    """
    model, riccati = work.model, work.riccati
    model.shift[:, :] = 0.0
    model.grad[:, :] = -g
    for attempt in range(0 if exact else 1, 2):
        _hessian(data, tau, duals, mu, attempt == 0, model)
        first_row = model.hess[0, :NX].copy()
        if factor(model.hess, model.jac, mu, riccati):
            substitute(model.grad, model.shift, model.jac, riccati, model.vectors, v)
            if all_finite(v):
                _stage_gradients(data, tau, duals, mu, v, grads)
                _initial_state_gradient(first_row, model.jac, mu, g, v, grads.x_init)
                return attempt
    v[:, :] = 0.0
    grads.x_init[:] = 0.0
    _stage_gradients(data, tau, duals, mu, v, grads)
    return FAILED


@njit(cache=True, fastmath=FASTMATH, error_model="numpy", nogil=True)
def adjoint_range(data, tau, duals, penalty, exact, g, v, grads, out, first, last):
    """`adjoint_one` on the samples first..last-1 of a batch; out (B,): its return values. Releases the GIL."""
    work = workspace(tau.shape[1])
    for b in range(first, last):
        one = Gradients(
            grads.x_init[b],
            grads.x_ref[b],
            grads.u_ref[b],
            grads.q[b],
            grads.r[b],
            grads.lower[b],
            grads.upper[b],
            grads.centres[b],
            grads.radii[b],
        )
        out[b] = adjoint_one(sample(data, b), tau[b], sample_duals(duals, b), penalty[b], exact, g[b], v[b], one, work)
