# mypy: ignore-errors
"""Stage-wise minimisation of the Gauss-Newton model of L.

Eliminating stages from the end gives a Riccati recursion in which the dynamics penalty M = mu / s_x^2 appears only
through (P + M)^{-1}, so it stays well conditioned for any mu. With the cost to go 1/2 x^T P x + p^T x of stage t+1 and
the dynamics term 1/2 |x_{t+1} - A z_t - d|^2_M:

    P~ = P - P (P + M)^{-1} P,   p~ = M (P + M)^{-1} p              (Moreau envelope of the cost to go)
    H  = H_t + A^T P~ A,         g  = g_t + A^T (P~ d + p~)
    u  = -H_uu^{-1} (g_u + H_ux x),   P_t = H_xx - H_xu H_uu^{-1} H_ux,   p_t = g_x - H_xu H_uu^{-1} g_u
    x_{t+1} = (P + M)^{-1} (M (A z_t + d) - p)
"""

import math

import numpy as np

from deq_mpc_core.solver.arrays import Linearisation, Riccati

from .lagrangian import SCALE
from .rk4 import jit
from .slot import NU, NX, NZ


@jit
def workspace(horizon):
    """Scratch arrays of one sample: (Linearisation, Riccati)."""
    model = Linearisation(
        np.empty((horizon, NZ, NZ)),
        np.empty((horizon, NZ)),
        np.zeros((horizon, NX, NZ)),
        np.zeros((horizon, NX)),
        np.empty((6, NX)),
        np.empty((2, NX, NZ)),
    )
    riccati = Riccati(
        np.empty((horizon, NU, NX)),
        np.empty((horizon, NX, NX)),
        np.empty((horizon, NX, NX)),
        np.empty((horizon, NX, NX)),
        np.empty((horizon, NU, NU)),
        np.empty((horizon, NX)),
        np.empty((horizon, NU)),
        np.empty((NX, NX)),
        np.empty((NX, NZ)),
    )
    return model, riccati


@jit
def _cholesky(a, n):
    """In-place lower Cholesky factor of the leading n x n block, reciprocal diagonal; False if it is indefinite."""
    for j in range(n):
        pivot = a[j, j]
        for k in range(j):
            pivot -= a[j, k] * a[j, k]
        if not pivot > 0.0 or not pivot < np.inf:
            return False
        inverse = 1.0 / math.sqrt(pivot)
        a[j, j] = inverse
        for i in range(j + 1, n):
            entry = a[i, j]
            for k in range(j):
                entry -= a[i, k] * a[j, k]
            a[i, j] = entry * inverse
    return True


@jit
def _solve(c, b, n):
    """Solve L L^T y = b in place, with the factor of `_cholesky`."""
    for i in range(n):
        entry = b[i]
        for k in range(i):
            entry -= c[i, k] * b[k]
        b[i] = entry * c[i, i]
    for back in range(n):
        i = n - 1 - back
        entry = b[i]
        for k in range(i + 1, n):
            entry -= c[k, i] * b[k]
        b[i] = entry * c[i, i]


@jit
def _add_envelope(cost_to_go, jac, mu, chol, envelope, y, product, hess):
    """P~ of stage t+1 into envelope, chol(P + M) into chol, and hess += A^T P~ A. False if P + M is indefinite."""
    for i in range(NX):
        for j in range(i + 1):
            chol[i, j] = cost_to_go[i, j]
        chol[i, i] += mu / (SCALE[i] * SCALE[i])
    if not _cholesky(chol, NX):
        return False
    for i in range(NX):  # y = L^{-1} P, then P~ = P - y^T y
        for j in range(NX):
            y[i, j] = cost_to_go[i, j]
            envelope[i, j] = cost_to_go[i, j]
        for k in range(i):
            for j in range(NX):
                y[i, j] -= chol[i, k] * y[k, j]
        for j in range(NX):
            y[i, j] *= chol[i, i]
    for k in range(NX):
        for i in range(NX):
            for j in range(NX):
                envelope[i, j] -= y[k, i] * y[k, j]
    for i in range(NX):
        for j in range(NZ):
            product[i, j] = 0.0
        for k in range(NX):
            for j in range(NZ):
                product[i, j] += envelope[i, k] * jac[k, j]
    for k in range(NX):
        for i in range(NZ):
            if jac[k, i] != 0.0:
                for j in range(NZ):
                    hess[i, j] += jac[k, i] * product[k, j]
    return True


@jit
def factor(hess, jac, mu, riccati):
    """Eliminate the stages from the end; hess (T, NZ, NZ) is overwritten. False if a block is not positive definite."""
    horizon = hess.shape[0]
    for back in range(horizon):
        t = horizon - 1 - back
        h = hess[t]
        if t + 1 < horizon and not _add_envelope(
            riccati.cost_to_go[t + 1], jac[t], mu, riccati.chol[t], riccati.envelope[t], riccati.y, riccati.product, h
        ):
            return False
        u_chol, gain, cost_to_go = riccati.u_chol[t], riccati.gain[t], riccati.cost_to_go[t]
        for i in range(NU):
            for j in range(NU):
                u_chol[i, j] = h[NX + i, NX + j]
        if not _cholesky(u_chol, NU):
            return False
        for i in range(NU):  # gain = L_u^{-1} H_ux
            for j in range(NX):
                gain[i, j] = h[NX + i, j]
            for k in range(i):
                for j in range(NX):
                    gain[i, j] -= u_chol[i, k] * gain[k, j]
            for j in range(NX):
                gain[i, j] *= u_chol[i, i]
        for i in range(NX):
            for j in range(NX):
                cost_to_go[i, j] = h[i, j]
            for k in range(NU):
                for j in range(NX):
                    cost_to_go[i, j] -= gain[k, i] * gain[k, j]
    return True


@jit
def substitute(grad, shift, jac, mu, riccati, step):
    """Minimise the quadratic model with the factors of `factor`: writes step (T, NZ); the x-part of knot 0 is zero."""
    horizon = step.shape[0]
    gain, u_chol, linear, forward = riccati.gain, riccati.u_chol, riccati.linear, riccati.forward
    g = np.empty(NZ)
    b = np.empty(NX)
    for back in range(horizon):
        t = horizon - 1 - back
        for i in range(NZ):
            g[i] = grad[t, i]
        if t + 1 < horizon:
            for i in range(NX):
                b[i] = linear[t + 1, i]
            _solve(riccati.chol[t], b, NX)
            for i in range(NX):
                entry = mu / (SCALE[i] * SCALE[i]) * b[i]
                for j in range(NX):
                    entry += riccati.envelope[t, i, j] * shift[t, j]
                for j in range(NZ):
                    g[j] += jac[t, i, j] * entry
        for i in range(NU):
            entry = g[NX + i]
            for k in range(i):
                entry -= u_chol[t, i, k] * forward[t, k]
            forward[t, i] = entry * u_chol[t, i, i]
        for i in range(NX):
            entry = g[i]
            for k in range(NU):
                entry -= gain[t, k, i] * forward[t, k]
            linear[t, i] = entry
    step[0, :NX] = 0.0
    for t in range(horizon):
        for back in range(NU):  # u = -L_u^{-T} (forward + gain x)
            i = NU - 1 - back
            entry = -forward[t, i]
            for j in range(NX):
                entry -= gain[t, i, j] * step[t, j]
            for k in range(i + 1, NU):
                entry -= u_chol[t, k, i] * step[t, NX + k]
            step[t, NX + i] = entry * u_chol[t, i, i]
        if t + 1 < horizon:
            for i in range(NX):
                entry = shift[t, i]
                for j in range(NZ):
                    entry += jac[t, i, j] * step[t, j]
                b[i] = mu / (SCALE[i] * SCALE[i]) * entry - linear[t + 1, i]
            _solve(riccati.chol[t], b, NX)
            for i in range(NX):
                step[t + 1, i] = b[i]
