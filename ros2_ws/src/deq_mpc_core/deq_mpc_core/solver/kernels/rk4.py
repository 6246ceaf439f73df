# mypy: ignore-errors
"""Runge-Kutta 4 over one knot: F(x, u) and its Hessian by a second-order adjoint; the slot has its Jacobian."""

import numpy as np
from numba import njit

from .slot import FASTMATH, NX, NZ, f, f_hessian, f_tangent

jit = njit(cache=True, fastmath=FASTMATH, error_model="numpy")


@jit
def rk4(x, u, p, dt, work, out):
    """out = F(x, u): one Runge-Kutta 4 step. work: (5, NX)."""
    k1, k2, k3, k4, a = work[0], work[1], work[2], work[3], work[4]
    f(x, u, p, k1)
    for i in range(NX):
        a[i] = x[i] + 0.5 * dt * k1[i]
    f(a, u, p, k2)
    for i in range(NX):
        a[i] = x[i] + 0.5 * dt * k2[i]
    f(a, u, p, k3)
    for i in range(NX):
        a[i] = x[i] + dt * k3[i]
    f(a, u, p, k4)
    for i in range(NX):
        out[i] = x[i] + dt / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i])


@jit
def rk4_hessian(x, u, p, dt, w, hess):
    """Add the Hessian of w^T F(x, u) with respect to z to hess (NZ, NZ).

    With stage arguments a_i = x + c_i k_{i-1}, the Hessian is sum_i M_i^T (Hessian of v_i^T f at a_i) M_i, where
    M_i = d(a_i, u)/dz and v_i is the costate of k_i: v_4 = dt/6 w, v_{i-1} = b_{i-1} w + c_i f_x(a_i)^T v_i.
    """
    k = np.empty(NX)
    args = np.empty((4, NX))
    tangent = np.zeros((4, NX, NZ))
    slope = np.empty((4, NX, NZ))
    args[0] = x
    for i in range(NX):
        tangent[0, i, i] = 1.0
    for stage in range(4):
        f_tangent(args[stage], u, p, tangent[stage], k, slope[stage])
        if stage < 3:
            reach = dt if stage == 2 else 0.5 * dt
            for i in range(NX):
                args[stage + 1, i] = x[i] + reach * k[i]
                for j in range(NZ):
                    tangent[stage + 1, i, j] = reach * slope[stage, i, j]
                tangent[stage + 1, i, i] += 1.0
    costate = np.empty(NX)
    unit = np.zeros((NX, NZ))
    partial = np.empty((NX, NZ))
    local = np.empty((NZ, NZ))
    full = np.empty((NZ, NZ))
    row = np.empty(NZ)
    for i in range(NX):
        unit[i, i] = 1.0
        costate[i] = dt / 6.0 * w[i]
    for back in range(4):
        stage = 3 - back
        f_hessian(args[stage], u, p, costate, local)
        full[:, :] = 0.0
        for i in range(NX):
            full[i] = tangent[stage, i]
        for i in range(NX, NZ):
            full[i, i] = 1.0
        for a in range(NZ):  # hess += sum_a M_a^T (H_a M), with rows of M and of the local Hessian H
            curved = False
            row[:] = 0.0
            for b in range(NZ):
                if local[a, b] != 0.0:
                    curved = True
                    for j in range(NZ):
                        row[j] += local[a, b] * full[b, j]
            if curved:
                for i in range(NZ):
                    for j in range(NZ):
                        hess[i, j] += full[a, i] * row[j]
        if stage > 0:
            f_tangent(args[stage], u, p, unit, k, partial)  # partial[:, :NX] = f_x
            reach = dt if stage == 3 else 0.5 * dt
            weight = dt / 6.0 if stage == 1 else dt / 3.0
            previous = weight * w
            for j in range(NX):
                for i in range(NX):
                    previous[j] += reach * partial[i, j] * costate[i]
            costate[:] = previous
