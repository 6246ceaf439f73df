"""The simulated vehicle's physics: rigid body, four motors, rotor and body drag, battery, floor.

    m v_d = R (0, 0, sum f) - m g e3 - F_drag + F_ext,     J w_d = tau - w x J w,     q_d = q (x) (w, 0) / 2
    f_i_d = (f_i,cmd - f_i) / tau,     tau = motor_rise or motor_fall
    F_drag = s R D R^T v + c |v| v,    s = mean sqrt(f_i / f_hover), the rotors' speed relative to hover

One step is semi-implicit Euler with exact motor and rotation updates; it is meant for dt of about 1 ms. Motors are
numbered as on the Crazyflie: front right, back right, back left, front left; 1 and 3 turn counter-clockwise, so they
push the body clockwise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

POS, VEL, QUAT, RATES, MOTORS = slice(0, 3), slice(3, 6), slice(6, 10), slice(10, 13), slice(13, 17)
CHARGE_USED, VOLTAGE = 17, 18
STATE_SIZE = 19
"""Body state: pos, vel (world), quat (xyzw), body rates [rad/s], motor thrusts [N], charge used [A s], voltage [V]."""

MOTOR_COUNT = 4
FULL_COUNT = 65535.0  # motor command at full scale

_LEVELS_BELOW = np.cos(np.deg2rad(60.0))  # on the floor a vehicle tilted less than this falls back on its feet


class PlantParameters(NamedTuple):
    """One vehicle; SI. See ``config/plant.yaml``.

    Attributes:
        inertia: (3,) diagonal.
        thrust_max: (4,) of each motor at full scale.
        rotor_drag: (3,) body axes, at hover.
        trim: (2,) roll and pitch [rad] by which the on-board attitude estimate is off.
    """

    gravity: float
    mass: float
    inertia: Array
    motor_offset: float
    torque_per_thrust: float
    thrust_max: Array
    motor_rise: float
    motor_fall: float
    rotor_drag: Array
    body_drag: float
    capacity: float
    full_voltage: float
    voltage_drop: float
    resistance: float
    idle_current: float
    current_per_thrust: float
    compensated_down_to: float
    trim: Array


def initial_body(position: Array, yaw: float, p: PlantParameters) -> Array:
    """Body state (STATE_SIZE,) at rest at ``position`` (3,) with heading ``yaw`` [rad], motors off, battery full."""
    body = np.zeros(STATE_SIZE)
    body[POS] = position
    body[8], body[9] = np.sin(0.5 * yaw), np.cos(0.5 * yaw)
    body[VOLTAGE] = p.full_voltage - p.resistance * p.idle_current
    return body


@njit(cache=True)
def rotation_matrix(q: Array) -> Array:
    """R (3, 3), body to world, of a unit quaternion (4,) xyzw."""
    x, y, z, w = q[0], q[1], q[2], q[3]
    r = np.empty((3, 3))
    r[0, 0], r[0, 1], r[0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)
    r[1, 0], r[1, 1], r[1, 2] = 2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)
    r[2, 0], r[2, 1], r[2, 2] = 2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)
    return r


@njit(cache=True)
def _advance_motors(s: Array, counts: Array, dt: float, p: PlantParameters) -> None:
    """Motor thrusts and battery after ``dt`` with the motor commands ``counts`` (4,) of 0..65535."""
    share = min(1.0, (s[18] / p.compensated_down_to) ** 2)
    current = p.idle_current
    for i in range(4):
        target = p.thrust_max[i] * min(counts[i] / 65535.0, share)
        lag = p.motor_rise if target > s[13 + i] else p.motor_fall
        s[13 + i] = target + (s[13 + i] - target) * np.exp(-dt / lag)
        current += p.current_per_thrust * s[13 + i] ** 1.5
    s[17] = min(s[17] + current * dt, p.capacity)
    s[18] = p.full_voltage - p.voltage_drop * s[17] / p.capacity - p.resistance * current


@njit(cache=True)
def _advance_rates(s: Array, dt: float, p: PlantParameters) -> None:
    """Body rates after ``dt``: motor torques and the gyroscopic term, by the midpoint rule."""
    f1, f2, f3, f4 = s[13], s[14], s[15], s[16]
    tx = p.motor_offset * (-f1 - f2 + f3 + f4)
    ty = p.motor_offset * (-f1 + f2 + f3 - f4)
    tz = p.torque_per_thrust * (-f1 + f2 - f3 + f4)
    jx, jy, jz = p.inertia[0], p.inertia[1], p.inertia[2]
    x0, y0, z0 = s[10], s[11], s[12]
    wx, wy, wz = x0, y0, z0
    for h in (0.5 * dt, dt):
        ax, ay, az = tx - (jz - jy) * wy * wz, ty - (jx - jz) * wz * wx, tz - (jy - jx) * wx * wy
        wx, wy, wz = x0 + h * ax / jx, y0 + h * ay / jy, z0 + h * az / jz
    s[10], s[11], s[12] = wx, wy, wz


@njit(cache=True)
def _turn(s: Array, dt: float) -> None:
    """Quaternion after a constant body rate for ``dt``."""
    wx, wy, wz = s[10], s[11], s[12]
    angle = dt * np.sqrt(wx * wx + wy * wy + wz * wz)
    sine = 0.5 * dt * (np.sin(0.5 * angle) / (0.5 * angle) if angle > 1e-9 else 1.0)
    dx, dy, dz, dw = wx * sine, wy * sine, wz * sine, np.cos(0.5 * angle)
    x, y, z, w = s[6], s[7], s[8], s[9]
    qx = w * dx + x * dw + y * dz - z * dy
    qy = w * dy - x * dz + y * dw + z * dx
    qz = w * dz + x * dy - y * dx + z * dw
    qw = w * dw - x * dx - y * dy - z * dz
    norm = np.sqrt(qx * qx + qy * qy + qz * qz + qw * qw)
    s[6], s[7], s[8], s[9] = qx / norm, qy / norm, qz / norm, qw / norm


@njit(cache=True)
def _advance_position(s: Array, force: Array, dt: float, p: PlantParameters) -> None:
    """Velocity and position after ``dt`` with the external ``force`` (3,) [N]."""
    r = rotation_matrix(s[6:10])
    lift = s[13] + s[14] + s[15] + s[16]
    hover = p.mass * p.gravity / 4.0
    spin = 0.0
    for i in range(4):
        spin += 0.25 * np.sqrt(s[13 + i] / hover)
    vx, vy, vz = s[3], s[4], s[5]
    quadratic = p.body_drag * np.sqrt(vx * vx + vy * vy + vz * vz)
    for i in range(3):
        drag = quadratic * s[3 + i]
        for j in range(3):
            along = r[0, j] * vx + r[1, j] * vy + r[2, j] * vz
            drag += spin * r[i, j] * p.rotor_drag[j] * along
        acceleration = (r[i, 2] * lift - drag + force[i]) / p.mass
        if i == 2:
            acceleration -= p.gravity
        s[3 + i] += dt * acceleration
    for i in range(3):
        s[i] += dt * s[3 + i]


@njit(cache=True)
def _stands(s: Array, force: Array, p: PlantParameters) -> bool:
    """Whether the floor carries the vehicle: down there, not rising, and pulled up by less than its weight."""
    if s[2] > 0.0 or s[5] > 0.0:
        return False
    upright = 1.0 - 2.0 * (s[6] * s[6] + s[7] * s[7])
    return upright * (s[13] + s[14] + s[15] + s[16]) + force[2] <= p.mass * p.gravity


@njit(cache=True)
def _stand(s: Array) -> None:
    """Stand still on the floor, level unless tilted too far."""
    s[2] = 0.0
    s[3:6] = 0.0
    s[10:13] = 0.0
    x, y, z, w = s[6], s[7], s[8], s[9]
    if 1.0 - 2.0 * (x * x + y * y) > _LEVELS_BELOW:
        yaw = np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
        s[6], s[7], s[8], s[9] = 0.0, 0.0, np.sin(0.5 * yaw), np.cos(0.5 * yaw)


@njit(cache=True)
def advance_body(s: Array, counts: Array, force: Array, dt: float, p: PlantParameters) -> None:
    """Body state ``dt`` [s] later, in place.

    Args:
        s: (STATE_SIZE,) body state.
        counts: (4,) motor commands, 0..65535.
        force: (3,) external force, world frame [N].
        dt: step [s].
        p: the vehicle.
    """
    _advance_motors(s, counts, dt, p)
    if _stands(s, force, p):
        _stand(s)
        return
    _advance_rates(s, dt, p)
    _turn(s, dt)
    _advance_position(s, force, dt, p)
    s[2] = max(s[2], 0.0)
