"""The on-board controller as the Crazyflie's firmware does it: cascaded attitude and rate PIDs and the motor mixing.

This module speaks the firmware's own language, not ROS: degrees, motor counts 0..65535, and pitch positive nose up. Yaw
is held as an angle that the commanded yaw rate moves. The integrators are reset while the commanded thrust is zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

ANGLE_INTEGRAL, RATE_INTEGRAL, LAST_RATE = slice(0, 3), slice(3, 6), slice(6, 9)
LAST_YAW, DESIRED_YAW = 9, 10
STATE_SIZE = 11
"""Controller state: integrals of angle errors [deg s] and rate errors [deg], last rates [deg/s], last and held yaw."""

_OUTPUT_LIMIT = 32767.0  # the PID outputs are 16-bit integers
_FULL_COUNT = 65535.0


class FirmwareGains(NamedTuple):
    """Controller constants.

    Attributes:
        dt: loop period [s].
        angle, rate: (3, 4) rows roll, pitch, yaw; columns kp, ki, kd, integral limit.
    """

    dt: float
    angle: Array
    rate: Array


class Setpoint(NamedTuple):
    """What the controller follows, in the firmware's convention.

    Attributes:
        roll, pitch: [deg], or [deg/s] if ``tilt_rates``; pitch positive nose up.
        yaw_rate: [deg/s], counter-clockwise.
        thrust: collective, 0..65535 of every motor; 0 stops the motors.
        yaw: heading to hold [deg]; if it is not finite, the yaw rate moves the heading that is held.
        tilt_rates: whether roll and pitch are rates.
    """

    roll: float
    pitch: float
    yaw_rate: float
    thrust: float
    yaw: float = float("nan")
    tilt_rates: bool = False


def initial_controller(yaw: float) -> Array:
    """Controller state (STATE_SIZE,) at rest with heading ``yaw`` [deg], which it holds."""
    controller = np.zeros(STATE_SIZE)
    controller[LAST_YAW] = controller[DESIRED_YAW] = yaw
    return controller


@njit(cache=True)
def _wrap(angle: float) -> float:
    """Angle in [-180, 180) degrees."""
    return (angle + 180.0) % 360.0 - 180.0


@njit(cache=True)
def _pid(gains: Array, error: float, slope: float, integral: float, dt: float) -> tuple[float, float]:
    """PID output and the new integral; ``slope`` is the measurement's rate of change."""
    integral = min(max(integral + error * dt, -gains[3]), gains[3])
    return gains[0] * error + gains[1] * integral - gains[2] * slope, integral


@njit(cache=True)
def _mix(thrust: float, roll: float, pitch: float, yaw: float, counts: Array) -> None:
    """Motor counts (4,) of collective thrust and torques; saturation lowers all motors alike."""
    counts[0] = thrust - 0.5 * roll + 0.5 * pitch - yaw
    counts[1] = thrust - 0.5 * roll - 0.5 * pitch + yaw
    counts[2] = thrust + 0.5 * roll - 0.5 * pitch - yaw
    counts[3] = thrust + 0.5 * roll + 0.5 * pitch + yaw
    excess = max(counts.max() - _FULL_COUNT, 0.0)
    for i in range(4):
        counts[i] = min(max(counts[i] - excess, 0.0), _FULL_COUNT)


@njit(cache=True)
def control(c: Array, setpoint: Setpoint, attitude: Array, gyro: Array, gains: FirmwareGains, counts: Array) -> None:
    """One period of the controller: updates its state ``c`` and writes the motor commands ``counts`` (4,).

    Args:
        c: (STATE_SIZE,) controller state.
        setpoint: what to follow.
        attitude: (3,) estimated roll, pitch (nose up), yaw [deg].
        gyro: (3,) rates about the same axes [deg/s].
        gains: constants.
        counts: (4,) output, 0..65535.
    """
    if setpoint.thrust <= 0.0:
        c[0:6] = 0.0
        c[6:9] = gyro
        c[9] = c[10] = attitude[2]
        counts[:] = 0.0
        return
    c[10] = _wrap(setpoint.yaw if np.isfinite(setpoint.yaw) else c[10] + setpoint.yaw_rate * gains.dt)
    desired = (setpoint.roll, setpoint.pitch, c[10])
    torque = np.empty(3)
    for i in range(3):
        slope = _wrap(attitude[2] - c[9]) / gains.dt if i == 2 else gyro[i]
        wanted, c[i] = _pid(gains.angle[i], _wrap(desired[i] - attitude[i]), slope, c[i], gains.dt)
        if setpoint.tilt_rates and i < 2:
            wanted, c[i] = desired[i], 0.0
        acceleration = (gyro[i] - c[6 + i]) / gains.dt
        output, c[3 + i] = _pid(gains.rate[i], wanted - gyro[i], acceleration, c[3 + i], gains.dt)
        torque[i] = min(max(output, -_OUTPUT_LIMIT), _OUTPUT_LIMIT)
    c[6:9] = gyro
    c[9] = attitude[2]
    _mix(setpoint.thrust, torque[0], torque[1], torque[2], counts)
