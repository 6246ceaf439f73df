"""Continuous-time states of a recorded flight from its noisy poses and its setpoints."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.learning.flight_log import Series
from deq_mpc_core.learning.local_polynomial import fit_local_polynomial
from deq_mpc_core.models.crazyflie import nominal_params
from deq_mpc_core.rotations import quat_from_rpy, rotate, rpy_from_quat

Array = NDArray[np.float64]


class Motion(NamedTuple):
    """Positions and velocities, each (..., 3) [m, m/s]."""

    pos: Array
    vel: Array


def lag_response(t: Array, command: Array, query: Array, tau: float) -> Array:
    """T of tau T_d = T_cmd - T with the command (n,) held from each stamp ``t`` (n,) to the next, settled at the first.

    Returns:
        T (q,) at the times ``query``, exactly.
    """
    decay = np.exp(-np.diff(t) / tau)
    lagged = np.empty_like(command)
    lagged[0] = command[0]
    for i, factor in enumerate(decay):
        lagged[i + 1] = command[i] + (lagged[i] - command[i]) * factor
    held = np.clip(np.searchsorted(t, query, side="right") - 1, 0, len(t) - 1)
    elapsed = np.maximum(query - t[held], 0.0)
    return command[held] + (lagged[held] - command[held]) * np.exp(-elapsed / tau)


def interpolate_motion(t: Array, motion: Motion, query: Array) -> Motion:
    """Piecewise cubic Hermite interpolation between knots ``t`` (n,), clamped to their ends."""
    query = np.clip(query, t[0], t[-1])
    i = np.clip(np.searchsorted(t, query, side="right") - 1, 0, len(t) - 2)
    h = (t[i + 1] - t[i])[:, None]
    s = (query - t[i])[:, None] / h
    (p0, v0), (p1, v1) = (motion.pos[i], motion.vel[i]), (motion.pos[i + 1], motion.vel[i + 1])
    return hermite(p0, v0, p1, v1, s, h)


def hermite(p0: Array, v0: Array, p1: Array, v1: Array, s: Array | float, h: Array | float) -> Motion:
    """Cubic Hermite segment of duration ``h`` [s] at the fraction ``s`` in [0, 1]."""
    d = p1 - p0
    pos = p0 + s**2 * (3.0 - 2.0 * s) * d + h * s * (1.0 - s) * ((1.0 - s) * v0 - s * v1)
    vel = 6.0 * s * (1.0 - s) * d / h + (1.0 - s) * (1.0 - 3.0 * s) * v0 + s * (3.0 * s - 2.0) * v1
    return Motion(pos, vel)


def thrust_of_motion(vel: Array, acc: Array, rpy: Array) -> Array:
    """Collective thrust (n,) [N] that explains velocities, accelerations (n, 3) and attitudes (n, 3).

    The model's force balance along the thrust, e = R e_3: k T = m e . (acc + g e_3) - d_z e . vel.
    """
    mass, k, drag_z, gravity = nominal_params()[[0, 1, 8, 9]]
    up = np.array([0.0, 0.0, 1.0])
    e = rotate(quat_from_rpy(rpy), up)
    thrust = (mass * (e * (acc + gravity * up)).sum(axis=1) - drag_z * (e * vel).sum(axis=1)) / k
    return np.maximum(thrust, 0.0)


class Track:
    """States of one span of a flight at any time in it."""

    def __init__(
        self, pose: Series, thrust: Series | None, tau_thrust: float, window_pos: float, window_rpy: float
    ) -> None:
        """Follow poses.

        Args:
            pose: (n, 7) without gaps.
            thrust: commanded ones (m,) [N]; None: it is what explains the motion.
            tau_thrust: its time constant [s].
            window_pos, window_rpy: smoothing widths [s].
        """
        self._t = pose.t
        self._pos = pose.values[:, :3]
        self._rpy = np.unwrap(rpy_from_quat(pose.values[:, 3:7]), axis=0)
        self._thrust = thrust
        self._tau_thrust = tau_thrust
        self._window_pos = window_pos
        self._window_rpy = window_rpy

    def motion(self, t: Array) -> Motion:
        """Smoothed positions and velocities at times (n,)."""
        return Motion(*fit_local_polynomial(self._t, self._pos, t, self._window_pos))

    def states(self, t: Array) -> Array:
        """States (n, 13) at times (n,): pos, vel, rpy in (-pi, pi], rpy_rate, thrust."""
        motion = self.motion(t)
        rpy, rpy_rate = fit_local_polynomial(self._t, self._rpy, t, self._window_rpy)
        rpy = np.pi - np.mod(np.pi - rpy, 2.0 * np.pi)
        if self._thrust is None:
            acc = fit_local_polynomial(self._t, self.motion(self._t).vel, t, self._window_pos)[1]
            thrust = thrust_of_motion(motion.vel, acc, rpy)
        else:
            thrust = lag_response(self._thrust.t, self._thrust.values, t, self._tau_thrust)
        return np.concatenate([motion.pos, motion.vel, rpy, rpy_rate, thrust[:, None]], axis=1)
