"""Backup manoeuvres: where a command leads if the vehicle brakes right after it, in compiled kernels.

The attitude-command model (``deq_mpc_core.models.crazyflie``) under a command for one step, and from then on under

    a_des = gain (v_target - v - lead a)

``lead`` is the lag of attitude and thrust, so that the velocity meets its target without overshoot. The target is that
of a dodge for a while, then zero: the vehicle comes to rest. Attitude, yaw rate and thrust are linear in their commands
and stepped exactly; velocity and position by the midpoint and the trapezoidal rule.

A prediction is worth its smallest clearance [m] from spheres (which move straight on), from the borders of the box and
below the speed limit, less margins. A part of them grows with the time ahead: so a backup that was good stays good
although the prediction was not quite right.
"""

from __future__ import annotations

from math import exp
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

SPEED_TO_CLEARANCE = 0.1
"""Metres that a metre per second beyond the speed limit is worth [s]."""
_AT_REST = 0.15  # m/s: the backup is over


class Dynamics(NamedTuple):
    """The model's step of ``dt`` seconds.

    Attributes:
        dt: step [s].
        angle, rate: (3,) how angle, its rate and the command make the next angle [rad], and the next rate [rad/s].
        yaw_decay, thrust_decay: what is left of the difference to the command after a step.
        mass, k, gravity, drag_xy, drag_z: of the model.
        tilt_gain: angle per commanded angle at rest.
        lead: (3,) lag of the acceleration behind the command along x, y, z [s].
    """

    dt: float
    angle: Array
    rate: Array
    yaw_decay: float
    thrust_decay: float
    mass: float
    k: float
    gravity: float
    drag_xy: float
    drag_z: float
    tilt_gain: float
    lead: Array


class Law(NamedTuple):
    """The backup's feedback and what limits it.

    Attributes:
        gain: acceleration per error of the velocity [1/s].
        horizontal, up, down: largest accelerations [m/s^2].
        tilt: largest roll and pitch commanded [rad]; thrust_min, thrust_max: [N].
    """

    gain: float
    horizontal: float
    up: float
    down: float
    tilt: float
    thrust_min: float
    thrust_max: float


class Keep(NamedTuple):
    """What a prediction is judged by.

    Attributes:
        low, high: (3,) the box [m].
        speed: limit [m/s].
        sphere_margin, box_margin: distances kept from spheres and box [m].
        drift: and how far off a prediction may be, from ``drift_time`` [s] ahead on [m].
        min_time, max_time: predicted at least and at most [s].
    """

    low: Array
    high: Array
    speed: float
    sphere_margin: float
    box_margin: float
    drift: float
    drift_time: float
    min_time: float
    max_time: float


def make_dynamics(params: Array, dt: float) -> Dynamics:
    """The step of the model with parameters ``params`` (13,), its disturbance apart."""
    mass, k, a, b, c, tau_yaw, tau_thrust, drag_xy, drag_z, gravity = (float(p) for p in params[:10])
    system = dt * np.array([[0.0, 1.0, 0.0], [a, b, c], [0.0, 0.0, 0.0]])
    step = _matrix_exponential(system)
    lead = np.array([-b / a, -b / a, tau_thrust])
    return Dynamics(
        dt, step[0].copy(), step[1].copy(), exp(-dt / tau_yaw), exp(-dt / tau_thrust), mass, k, gravity, drag_xy,
        drag_z, -c / a, np.abs(lead),
    )  # fmt: skip


def _matrix_exponential(matrix: Array) -> Array:
    """exp(matrix) by scaling and squaring of its series."""
    squarings = 10
    term, total = np.eye(len(matrix)), np.eye(len(matrix))
    for n in range(1, 12):
        term = term @ (matrix / 2**squarings) / n
        total = total + term
    return np.linalg.matrix_power(total, 2**squarings)


@njit(cache=True)
def acceleration_of(s: Array, disturbance: Array, d: Dynamics, out: Array) -> None:
    """Acceleration (3,) of the state (13,)."""
    sr, cr, sp, cp = np.sin(s[6]), np.cos(s[6]), np.sin(s[7]), np.cos(s[7])
    sy, cy = np.sin(s[8]), np.cos(s[8])
    ex, ey, ez = cy * sp * cr + sy * sr, sy * sp * cr - cy * sr, cp * cr
    lift = d.k * s[12] / d.mass
    along = (d.drag_z - d.drag_xy) * (ex * s[3] + ey * s[4] + ez * s[5])
    out[0] = lift * ex + (d.drag_xy * s[3] + along * ex) / d.mass + disturbance[0]
    out[1] = lift * ey + (d.drag_xy * s[4] + along * ey) / d.mass + disturbance[1]
    out[2] = lift * ez + (d.drag_xy * s[5] + along * ez) / d.mass + disturbance[2] - d.gravity


@njit(cache=True)
def advance(s: Array, u: Array, disturbance: Array, d: Dynamics, acceleration: Array) -> None:
    """One step of the state (13,) in place under the command (4,); leaves the step's mean acceleration (3,)."""
    v0, v1, v2 = s[3], s[4], s[5]
    roll, pitch, yaw, thrust = s[6], s[7], s[8], s[12]
    new_roll = d.angle[0] * roll + d.angle[1] * s[9] + d.angle[2] * u[0]
    new_pitch = d.angle[0] * pitch + d.angle[1] * s[10] + d.angle[2] * u[1]
    s[9] = d.rate[0] * roll + d.rate[1] * s[9] + d.rate[2] * u[0]
    s[10] = d.rate[0] * pitch + d.rate[1] * s[10] + d.rate[2] * u[1]
    new_yaw_rate = u[2] + (s[11] - u[2]) * d.yaw_decay
    new_yaw = yaw + 0.5 * d.dt * (s[11] + new_yaw_rate)
    s[11] = new_yaw_rate
    new_thrust = u[3] + (thrust - u[3]) * d.thrust_decay
    s[6], s[7], s[8] = 0.5 * (roll + new_roll), 0.5 * (pitch + new_pitch), 0.5 * (yaw + new_yaw)
    s[12] = 0.5 * (thrust + new_thrust)
    acceleration_of(s, disturbance, d, acceleration)
    s[6], s[7], s[8], s[12] = new_roll, new_pitch, new_yaw, new_thrust
    s[3], s[4], s[5] = v0 + d.dt * acceleration[0], v1 + d.dt * acceleration[1], v2 + d.dt * acceleration[2]
    s[0] += 0.5 * d.dt * (v0 + s[3])
    s[1] += 0.5 * d.dt * (v1 + s[4])
    s[2] += 0.5 * d.dt * (v2 + s[5])


@njit(cache=True)
def backup_command(
    s: Array, acceleration: Array, target: Array, disturbance: Array, d: Dynamics, law: Law, out: Array
) -> None:
    """The backup's command (4,) in state (13,) with this acceleration (3,), towards the velocity ``target`` (3,)."""
    ax = law.gain * (target[0] - s[3] - d.lead[0] * acceleration[0])
    ay = law.gain * (target[1] - s[4] - d.lead[1] * acceleration[1])
    az = law.gain * (target[2] - s[5] - d.lead[2] * acceleration[2])
    size = np.sqrt(ax * ax + ay * ay)
    if size > law.horizontal:
        ax, ay = ax * law.horizontal / size, ay * law.horizontal / size
    az = min(max(az, -law.down), law.up)
    ax -= disturbance[0] + d.drag_xy * s[3] / d.mass
    ay -= disturbance[1] + d.drag_xy * s[4] / d.mass
    az += d.gravity - disturbance[2] - d.drag_z * s[5] / d.mass
    sy, cy = np.sin(s[8]), np.cos(s[8])
    forward, left = cy * ax + sy * ay, cy * ay - sy * ax
    pitch = np.arctan2(forward, az) / d.tilt_gain
    roll = np.arctan2(-left, np.sqrt(forward * forward + az * az)) / d.tilt_gain
    upright = max(np.cos(s[6]) * np.cos(s[7]), 0.5)
    out[0] = min(max(roll, -law.tilt), law.tilt)
    out[1] = min(max(pitch, -law.tilt), law.tilt)
    out[2] = 0.0
    out[3] = min(max(d.mass * az / (d.k * upright), law.thrust_min), law.thrust_max)


@njit(cache=True)
def clearance(pos: Array, t: float, spheres: Array, keep: Keep) -> float:
    """Smallest distance [m] of ``pos`` (3,) to the box and to the spheres (K, 7) ``t`` later, less their margins."""
    drift = keep.drift * min(t / keep.drift_time, 1.0)
    nearest = np.inf
    for i in range(3):
        nearest = min(nearest, pos[i] - keep.low[i], keep.high[i] - pos[i])
    nearest -= keep.box_margin + drift
    margin = keep.sphere_margin + drift
    for k in range(spheres.shape[0]):
        dx = spheres[k, 0] + t * spheres[k, 4] - pos[0]
        dy = spheres[k, 1] + t * spheres[k, 5] - pos[1]
        dz = spheres[k, 2] + t * spheres[k, 6] - pos[2]
        reach = nearest + spheres[k, 3] + margin
        square = dx * dx + dy * dy + dz * dz
        if reach > 0.0 and square < reach * reach:
            nearest = np.sqrt(square) - spheres[k, 3] - margin
    return nearest


@njit(cache=True)
def predict(
    x: Array,
    first: Array,
    dodge: Array,
    disturbance: Array,
    spheres: Array,
    world: tuple[Dynamics, Law, Keep],
    bail: float,
) -> float:
    """Worth [m] of the command ``first`` (4,) in state ``x`` (13,) and a backup after it; not exact below ``bail``.

    dodge (4,): velocity that the backup goes for at first [m/s], and how long [s].
    """
    d, law, keep = world
    s, acceleration, u = x.copy(), np.empty(3), first.copy()
    target = np.empty(3)
    worth, t = np.inf, 0.0
    while True:
        advance(s, u, disturbance, d, acceleration)
        t += d.dt
        speed = np.sqrt(s[3] * s[3] + s[4] * s[4] + s[5] * s[5])
        worth = min(worth, SPEED_TO_CLEARANCE * (keep.speed - speed), clearance(s[:3], t, spheres, keep))
        if worth < bail:
            return worth
        dodging = t < dodge[3]
        if not dodging and speed < _AT_REST and t >= keep.min_time:
            return worth
        if t >= keep.max_time:
            return min(worth, SPEED_TO_CLEARANCE * (_AT_REST - speed))
        for i in range(3):
            target[i] = dodge[i] if dodging else 0.0
        backup_command(s, acceleration, target, disturbance, d, law, u)


PASSED, BLENDED, BACKED_UP, CORNERED = range(4)
"""The policy's command; one between it and a backup's; a backup's; the best where none is good."""


@njit(cache=True)
def choose(
    x: Array,
    wanted: Array,
    menu: tuple[Array, Array, Array],
    disturbance: Array,
    spheres: Array,
    world: tuple[Dynamics, Law, Keep],
    out: Array,
) -> tuple[int, int, float]:
    """The command (4,) nearest to ``wanted`` (4,) after which a backup keeps clear; kind, backup, worth [m].

    menu: the backups' dodges (n, 4), see `predict`; shares of a backup's command in a blend, falling; what counts as
    much in each component of a command (4,). If no command is good, the one of the greatest worth is taken.
    """
    dodges, blends, scale = menu
    for j in range(dodges.shape[0]):
        worth = predict(x, wanted, dodges[j], disturbance, spheres, world, 0.0)
        if worth >= 0.0:
            out[:] = wanted
            return PASSED, j, worth
    acceleration, target, braking, trial = np.empty(3), np.empty(3), np.empty(4), np.empty(4)
    acceleration_of(x, disturbance, world[0], acceleration)
    kind, best, best_worth, best_distance = CORNERED, 0, -np.inf, np.inf
    for j in range(dodges.shape[0]):
        for i in range(3):
            target[i] = dodges[j, i] if dodges[j, 3] > 0.0 else 0.0
        backup_command(x, acceleration, target, disturbance, world[0], world[1], braking)
        worth = predict(x, braking, dodges[j], disturbance, spheres, world, min(best_worth, 0.0))
        if worth < 0.0:
            if kind == CORNERED and worth > best_worth:
                best, best_worth = j, worth
                out[:] = braking
            continue
        distance = np.sum(((braking - wanted) / scale) ** 2)
        if distance < best_distance:
            kind, best, best_worth, best_distance = BACKED_UP, j, worth, distance
            out[:] = braking
        for share in blends:
            distance = share**2 * np.sum(((braking - wanted) / scale) ** 2)
            if distance >= best_distance:
                continue
            trial[:] = wanted + share * (braking - wanted)
            worth = predict(x, trial, dodges[j], disturbance, spheres, world, 0.0)
            if worth < 0.0:
                break
            kind, best, best_worth, best_distance = BLENDED, j, worth, distance
            out[:] = trial
    return kind, best, best_worth
