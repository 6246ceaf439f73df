# mypy: ignore-errors
"""The augmented Lagrangian L: its value, its Gauss-Newton model, its multiplier update."""

import math

import numpy as np

from .rk4 import jit, rk4
from .slot import NU, NX, NZ, POSITION, Z_SCALE, rk4_tangent

SCALE = np.array(Z_SCALE)
HAS_POSITION = len(POSITION) == 3
PX, PY, PZ = POSITION if HAS_POSITION else (0, 0, 0)
_CENTRE_EPS = 1e-12  # [m^2] keeps the normal finite when a knot sits on a centre


@jit
def to_centre(z, centre):
    """Vector (dx, dy, dz) from the centre to the knot's position, and its length."""
    dx = z[PX] - centre[0]
    dy = z[PY] - centre[1]
    dz = z[PZ] - centre[2]
    return dx, dy, dz, math.sqrt(dx * dx + dy * dy + dz * dz + _CENTRE_EPS)


@jit
def _hinge(multiplier, mu, h):
    """1 / (2 mu) (max(0, lambda + mu h)^2 - lambda^2)."""
    force = max(0.0, multiplier + mu * h)
    return (force * force - multiplier * multiplier) / (2.0 * mu)


@jit
def lagrangian(data, tau, duals, mu, vectors):
    """Value of L at tau (T, NZ)."""
    horizon = tau.shape[0]
    value = 0.0
    out = vectors[5]
    for t in range(horizon):
        z = tau[t]
        for i in range(NX):
            value += 0.5 * data.q[t, i] * (z[i] - data.x_ref[t, i]) ** 2
        for i in range(NU):
            value += 0.5 * data.r[t, i] * (z[NX + i] - data.u_ref[t, i]) ** 2
        for i in range(NX if t == 0 else 0, NZ):
            if data.upper[t, i] < np.inf:
                value += _hinge(duals.upper[t, i], mu, (z[i] - data.upper[t, i]) / SCALE[i])
            if data.lower[t, i] > -np.inf:
                value += _hinge(duals.lower[t, i], mu, (data.lower[t, i] - z[i]) / SCALE[i])
        if HAS_POSITION and t > 0:
            for j in range(data.radii.shape[0]):
                if data.radii[j] > 0.0:
                    distance = to_centre(z, data.centres[t, j])[3]
                    value += _hinge(duals.sphere[t, j], mu, data.radii[j] - distance)
        if t + 1 < horizon:
            rk4(z[:NX], z[NX:], data.p, data.dt, vectors, out)
            for i in range(NX):
                k = (tau[t + 1, i] - out[i]) / SCALE[i]
                value += duals.eta[t, i] * k + 0.5 * mu * k * k
    return value


@jit
def add_sphere(dx, dy, dz, distance, force, mu, exact, hess):
    """Add the Hessian of an active sphere term, mu n n^T - force (I - n n^T) / distance; the second part if exact."""
    n = (dx / distance, dy / distance, dz / distance)
    place = (PX, PY, PZ)
    for a in range(3):
        for b in range(3):
            curvature = mu * n[a] * n[b]
            if exact:
                curvature -= force * ((1.0 if a == b else 0.0) - n[a] * n[b]) / distance
            hess[place[a], place[b]] += curvature
    return n


@jit
def linearise(data, tau, duals, mu, model):
    """Fill the Gauss-Newton model of L at tau, see `Linearisation`."""
    hess, grad = model.hess, model.grad
    horizon = tau.shape[0]
    out = model.vectors[5]
    for t in range(horizon):
        z = tau[t]
        hess[t, :, :] = 0.0
        for i in range(NX):
            hess[t, i, i] = data.q[t, i]
            grad[t, i] = data.q[t, i] * (z[i] - data.x_ref[t, i])
        for i in range(NU):
            hess[t, NX + i, NX + i] = data.r[t, i]
            grad[t, NX + i] = data.r[t, i] * (z[NX + i] - data.u_ref[t, i])
        for i in range(NX if t == 0 else 0, NZ):
            stiffness = mu / (SCALE[i] * SCALE[i])
            force = duals.upper[t, i] + mu * (z[i] - data.upper[t, i]) / SCALE[i]
            if force > 0.0:
                hess[t, i, i] += stiffness
                grad[t, i] += force / SCALE[i]
            force = duals.lower[t, i] + mu * (data.lower[t, i] - z[i]) / SCALE[i]
            if force > 0.0:
                hess[t, i, i] += stiffness
                grad[t, i] -= force / SCALE[i]
        if HAS_POSITION and t > 0:
            for j in range(data.radii.shape[0]):
                if data.radii[j] > 0.0:
                    dx, dy, dz, distance = to_centre(z, data.centres[t, j])
                    force = duals.sphere[t, j] + mu * (data.radii[j] - distance)
                    if force > 0.0:
                        n = add_sphere(dx, dy, dz, distance, force, mu, False, hess[t])
                        grad[t, PX] -= force * n[0]
                        grad[t, PY] -= force * n[1]
                        grad[t, PZ] -= force * n[2]
        if t + 1 < horizon:
            rk4_tangent(z[:NX], z[NX:], data.p, data.dt, out, model.jac[t])
            for i in range(NX):  # the change of x_{t+1} that the dynamics terms of L ask for: -(k + eta / mu) s
                model.shift[t, i] = out[i] - tau[t + 1, i] - SCALE[i] * duals.eta[t, i] / mu


@jit
def _slack(multiplier, mu, h):
    """How far an inequality is from complementary: min(lambda / mu, -h); 0 for an infinite bound, which cannot pull."""
    return min(multiplier / mu, -h) if h > -np.inf else 0.0


@jit
def update_multipliers(data, tau, duals, mu, vectors):
    """lambda <- max(0, lambda + mu h), eta <- eta + mu k in place; returns max |k|, max h^+, max min(lambda / mu, -h).

    These are in scaled units, with lambda as it was: the last is large where a constraint pulls that is not touched.
    Multipliers of what is no constraint, on x_0 and for spheres switched off, become zero.
    """
    horizon = tau.shape[0]
    out = vectors[5]
    dynamics, violation, slack = 0.0, 0.0, 0.0
    duals.lower[0, :NX] = 0.0
    duals.upper[0, :NX] = 0.0
    for t in range(horizon):
        z = tau[t]
        for i in range(NX if t == 0 else 0, NZ):
            h = (z[i] - data.upper[t, i]) / SCALE[i]
            violation, slack = max(violation, h), max(slack, _slack(duals.upper[t, i], mu, h))
            duals.upper[t, i] = max(0.0, duals.upper[t, i] + mu * h)
            h = (data.lower[t, i] - z[i]) / SCALE[i]
            violation, slack = max(violation, h), max(slack, _slack(duals.lower[t, i], mu, h))
            duals.lower[t, i] = max(0.0, duals.lower[t, i] + mu * h)
        for j in range(data.radii.shape[0]):
            if HAS_POSITION and t > 0 and data.radii[j] > 0.0:
                h = data.radii[j] - to_centre(z, data.centres[t, j])[3]
                violation, slack = max(violation, h), max(slack, _slack(duals.sphere[t, j], mu, h))
                duals.sphere[t, j] = max(0.0, duals.sphere[t, j] + mu * h)
            else:
                duals.sphere[t, j] = 0.0
        if t + 1 < horizon:
            rk4(z[:NX], z[NX:], data.p, data.dt, vectors, out)
            for i in range(NX):
                k = (tau[t + 1, i] - out[i]) / SCALE[i]
                dynamics = max(dynamics, abs(k))
                duals.eta[t, i] += mu * k
    return dynamics, violation, slack
