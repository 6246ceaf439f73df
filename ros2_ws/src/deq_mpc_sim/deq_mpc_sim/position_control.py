"""The firmware's position controller: position, then velocity, then attitude and thrust, at 100 Hz.

    v_d = clip(PI_p(p_d - p)),   (-pitch, -roll) = clip(PI_v(v_d - v)_xy),   thrust = base + clip(PI_v(v_d - v)_z)

in the frame of the heading: x forward, y left, z up. The derivative gains of the firmware are 0 and left out. Like
``firmware``, this speaks degrees, motor counts and pitch positive nose up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deq_mpc_sim.firmware import Setpoint
from deq_mpc_sim.targets import STOP, Mode, Target

Array = NDArray[np.float64]

PERIOD = 0.01  # s
_FULL_COUNT = 65535.0
_COUNTS_PER_LIFT = 1000.0  # the parameters of the vertical velocity are in these
_LIFT_MAX = 32767.0  # count
_OVERHEAD = 1.1  # the PIs saturate this factor beyond the limits of speed and tilt
_INTEGRAL_MAX = 5000.0  # of every integral


class PositionGains(NamedTuple):
    """Constants: parameters of the firmware.

    Attributes:
        position: (3, 2) rows x, y, z; columns kp [1/s], ki [1/s^2].
        velocity: (3, 2) rows x, y, z; columns kp [deg s/m; z: count s/m], ki [deg/m; z: count/m].
        speed_max: (3,) [m/s].
        tilt_max: (2,) roll, pitch [deg].
        thrust_base, thrust_min: [count].
    """

    position: Array
    velocity: Array
    speed_max: Array
    tilt_max: Array
    thrust_base: float
    thrust_min: float


def position_gains(value: Callable[[str], float]) -> PositionGains:
    """The gains by the firmware's parameters, ``value`` of ``group.name``."""
    position = [[value(f"posCtlPid.{axis}K{term}") for term in "pi"] for axis in "xyz"]
    velocity = [[value(f"velCtlPid.v{axis}K{term}") for term in "pi"] for axis in "xyz"]
    return PositionGains(
        position=np.array(position),
        velocity=np.array(velocity) * [[1.0], [1.0], [_COUNTS_PER_LIFT]],
        speed_max=np.array([value(f"posCtlPid.{axis}VelMax") for axis in "xyz"]),
        tilt_max=np.array([value("posCtlPid.rLimit"), value("posCtlPid.pLimit")]),
        thrust_base=value("posCtlPid.thrustBase"),
        thrust_min=value("posCtlPid.thrustMin"),
    )


class Motion(NamedTuple):
    """The on-board estimate: position (3,) [m] and velocity (3,) [m/s] in its own world, heading [rad] in that."""

    pos: Array
    vel: Array
    yaw: float


class PositionController:
    """The cascade and its integrals; ``update`` it every ``PERIOD``."""

    def __init__(self, gains: PositionGains) -> None:
        self.gains = gains
        self._modes = STOP.modes
        self._integrals = np.zeros((2, 3))
        self.wanted_velocity = np.zeros(3)
        """(3,) in the heading's frame [m/s], for the log."""

    def update(self, target: Target, motion: Motion) -> Setpoint:
        """Attitude and thrust for the inner loops; a yaw that is held is in the estimate's world.

        Gains that were set to nonsense stop the motors.
        """
        if target.modes != self._modes:
            self._modes = target.modes
            self._integrals[:] = 0.0
        followed = target.xy is not Mode.OFF or target.z is not Mode.OFF
        forward, left, lift = self._cascade(target, motion) if followed else np.zeros(3)
        roll, pitch = target.roll, target.pitch
        if target.xy is not Mode.OFF:
            roll, pitch = np.clip([-left, -forward], -self.gains.tilt_max, self.gains.tilt_max)
        thrust = target.thrust
        if target.z is not Mode.OFF:
            count = self.gains.thrust_base + lift
            thrust = min(max(count, self.gains.thrust_min), _FULL_COUNT)
        turns = target.heading is Mode.RATE
        yaw = math.nan if turns or target.heading is Mode.OFF else target.yaw
        tilt_rates = target.tilt is Mode.RATE and target.xy is Mode.OFF
        if not math.isfinite(roll + pitch + thrust):
            return Setpoint(0.0, 0.0, 0.0, 0.0)
        return Setpoint(float(roll), float(pitch), target.yaw if turns else 0.0, float(thrust), yaw, tilt_rates)

    def _cascade(self, target: Target, motion: Motion) -> Array:
        """Outputs (3,) of the velocity's PIs: forward, left [deg], up [count]."""
        held = np.array([target.xy, target.xy, target.z]) == Mode.ABSOLUTE
        error = _in_heading(np.array(target.position) - motion.pos, motion.yaw)
        approach = self._pi(0, self.gains.position, np.where(held, error, 0.0), _OVERHEAD * self.gains.speed_max)
        asked = np.array(target.velocity)
        asked = asked if target.in_heading else _in_heading(asked, motion.yaw)
        self.wanted_velocity = np.where(held, approach, asked)
        roll_max, pitch_max = _OVERHEAD * self.gains.tilt_max
        limits = np.array([pitch_max, roll_max, _LIFT_MAX])
        lag = self.wanted_velocity - _in_heading(motion.vel, motion.yaw)
        return self._pi(1, self.gains.velocity, lag, limits)

    def _pi(self, level: int, gains: Array, error: Array, limits: Array) -> Array:
        integral = np.clip(self._integrals[level] + PERIOD * error, -_INTEGRAL_MAX, _INTEGRAL_MAX)
        self._integrals[level] = integral
        with np.errstate(invalid="ignore"):  # gains are parameters: anybody may have set them to infinity
            return np.clip(gains[:, 0] * error + gains[:, 1] * integral, -limits, limits)


def _in_heading(vector: Array, yaw: float) -> Array:
    """A vector (3,) of the world in the frame of the heading."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([c * vector[0] + s * vector[1], c * vector[1] - s * vector[0], vector[2]])
