"""The commands behind a policy's planned states, which say where the vehicle shall be but not what steers it there.

The model's attitude and thrust are linear in their commands, and the solver integrates them by one Runge-Kutta step of
four stages a knot, which for a linear system z_d = M z is z+ = (1 + M h + ... + (M h)^4 / 4!) z. With the command as a
constant component of z, that is z+ = A z + b u, so that u = b . (z+ - A z) / b . b for each command by itself.
"""

from __future__ import annotations

from functools import cache
from math import factorial

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.policy.interface import Command

Array = NDArray[np.float64]

_ORDER = 4
"""Of the integrator."""


def planned_inputs(plan: Array, dt: float, count: int) -> list[Command]:
    """The commands of a plan's first ``count`` knots, at most T - 1; plan (T, 13), a knot every ``dt`` [s]."""
    count = max(0, min(count, len(plan) - 1))
    tilt, yaw, thrust = _responses(dt)
    now, then = plan[:count], plan[1 : count + 1]
    columns = [_solve(tilt, now[:, (i, 3 + i)], then[:, (i, 3 + i)]) for i in (6, 7)]
    columns += [_solve(yaw, now[:, (8, 11)], then[:, (8, 11)]), _solve(thrust, now[:, 12:], then[:, 12:])]
    return [Command(*map(float, values)) for values in zip(*columns, strict=True)]


def _solve(response: tuple[Array, Array], now: Array, then: Array) -> Array:
    """The command (n,) that takes states (n, k) to the next ones; by least squares where no command does."""
    a, b = response
    result: Array = (then - now @ a.T) @ b / (b @ b)
    return result


@cache
def _responses(dt: float) -> tuple[tuple[Array, Array], ...]:
    """A and b of (angle, rate) to a tilt command, of (yaw, rate) to a yaw rate, of (thrust,) to a thrust."""
    model = cf.attitude_models().nominal
    tilt = np.array([[0.0, 1.0, 0.0], [model.a_rp, model.b_rp, model.c_rp]])
    yaw = np.array([[0.0, 1.0, 0.0], [0.0, -1.0 / model.tau_yaw, 1.0 / model.tau_yaw]])
    thrust = np.array([[-1.0 / model.tau_thrust, 1.0 / model.tau_thrust]])
    return tuple(_discretise(matrix, dt) for matrix in (tilt, yaw, thrust))


def _discretise(matrix: Array, dt: float) -> tuple[Array, Array]:
    """A (k, k) and b (k,) of one step, for z_d = matrix [z, u], matrix (k, k + 1)."""
    size = len(matrix)
    step = np.vstack([matrix, np.zeros((1, size + 1))]) * dt
    power = np.sum([np.linalg.matrix_power(step, n) / factorial(n) for n in range(_ORDER + 1)], axis=0)
    return power[:size, :size], power[:size, size]
