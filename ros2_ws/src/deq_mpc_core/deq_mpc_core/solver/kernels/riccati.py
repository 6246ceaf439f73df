# mypy: ignore-errors
"""Stage-wise minimisation of the Gauss-Newton model of L.

Eliminating stages from the end gives a Riccati recursion. With the cost to go 1/2 x^T P x + p^T x of stage t+1, the
dynamics term 1/2 |x_{t+1} - A z_t - d|^2_M, M = mu / s_x^2, and one symmetric matrix a stage, E = M (P + M)^{-1} M:

    H  = H_t + A^T (M - E) A,    g  = g_t + A^T (M d + E (M^{-1} p - d))      (Moreau envelope of the cost to go)
    u  = -H_uu^{-1} (g_u + H_ux x),   P_t = H_xx - H_xu H_uu^{-1} H_ux,   p_t = g_x - H_xu H_uu^{-1} g_u
    x_{t+1} = M^{-1} E (A z_t + d - M^{-1} p)

M grows with the penalty, but E and M - E = P (P + M)^{-1} M do not lose P before mu comes near P / eps.
"""

import numpy as np

from deq_mpc_core.solver.arrays import Linearisation, Riccati, Workspace

from .lagrangian import SCALE
from .rk4 import jit
from .slot import NU, NX, NZ, add_congruence, add_pulled_back, eliminate, envelope, push_forward


@jit
def workspace(horizon):
    """Scratch arrays of one sample, see `Workspace`."""
    model = Linearisation(
        np.empty((horizon, NZ, NZ)),
        np.empty((horizon, NZ)),
        np.zeros((horizon, NX, NZ)),
        np.zeros((horizon, NX)),
        np.empty((6, NX)),
    )
    riccati = Riccati(
        np.empty(NX),
        np.empty((horizon, NX, NX)),
        np.empty((horizon, NU, NU)),
        np.empty((horizon, NU, NX)),
        np.empty((horizon, NX)),
        np.empty((horizon, NU)),
        np.empty((NX, NX)),
    )
    return Workspace(model, riccati, np.empty((horizon, NZ)), np.empty((horizon, NZ)))


@jit
def factor(hess, jac, mu, riccati):
    """Eliminate the stages from the end; hess (T, NZ, NZ) is overwritten. False if a block is not positive definite."""
    horizon = hess.shape[0]
    for i in range(NX):
        riccati.weight[i] = mu / (SCALE[i] * SCALE[i])
    for back in range(horizon):
        t = horizon - 1 - back
        if t + 1 < horizon:
            if not envelope(riccati.cost_to_go, riccati.weight, riccati.envelope[t]):
                return False
            add_congruence(riccati.envelope[t], riccati.weight, jac[t], hess[t])
        if not eliminate(hess[t], riccati.u_chol[t], riccati.gain[t], riccati.cost_to_go):
            return False
    return True


@jit
def _backward(grad, shift, jac, riccati, work):
    """p_t into riccati.linear and L_u^{-1} g_u into riccati.forward. work: (2, NX)."""
    weight, gain, u_chol = riccati.weight, riccati.gain, riccati.u_chol
    linear, forward = riccati.linear, riccati.forward
    horizon = grad.shape[0]
    w, y = work[0], work[1]
    g = np.empty(NZ)
    for back in range(horizon):
        t = horizon - 1 - back
        for i in range(NZ):
            g[i] = grad[t, i]
        if t + 1 < horizon:
            for i in range(NX):
                w[i] = linear[t + 1, i] / weight[i] - shift[t, i]
            for i in range(NX):
                entry = weight[i] * shift[t, i]
                for j in range(NX):
                    entry += riccati.envelope[t, i, j] * w[j]
                y[i] = entry
            add_pulled_back(jac[t], y, g)
        for i in range(NU):
            entry = g[NX + i]
            for k in range(i):
                entry -= u_chol[t, i, k] * forward[t, k]
            forward[t, i] = entry * u_chol[t, i, i]
        for i in range(NX):
            linear[t, i] = g[i]
        for k in range(NU):
            for i in range(NX):
                linear[t, i] -= gain[t, k, i] * forward[t, k]


@jit
def substitute(grad, shift, jac, riccati, vectors, step):
    """Minimise the quadratic model with the factors of `factor`: writes step (T, NZ); the x-part of knot 0 is zero."""
    weight, gain, u_chol = riccati.weight, riccati.gain, riccati.u_chol
    horizon = step.shape[0]
    w = vectors[0]
    _backward(grad, shift, jac, riccati, vectors)
    step[0, :NX] = 0.0
    for t in range(horizon):
        for back in range(NU):  # u = -L_u^{-T} (forward + gain x)
            i = NU - 1 - back
            entry = -riccati.forward[t, i]
            for j in range(NX):
                entry -= gain[t, i, j] * step[t, j]
            for k in range(i + 1, NU):
                entry -= u_chol[t, k, i] * step[t, NX + k]
            step[t, NX + i] = entry * u_chol[t, i, i]
        if t + 1 < horizon:
            push_forward(jac[t], step[t], w)
            for i in range(NX):
                w[i] += shift[t, i] - riccati.linear[t + 1, i] / weight[i]
            for i in range(NX):
                entry = 0.0
                for j in range(NX):
                    entry += riccati.envelope[t, i, j] * w[j]
                step[t + 1, i] = entry / weight[i]
