"""State estimate: mocap poses and the commands sent in, the 13-state at any time and a disturbance acceleration out.

Between poses the state follows the MPC's own model, x_d = f(x, u; p), through the commands that were sent; so an
estimate for the time of the next command already contains what the vehicle did since the last pose's stamp (latency
compensation). A pose corrects it through Kalman filters, one a channel, whose covariances do not depend on the
data:

    each of x, y, z:   (p, v, d)        p_d = v,  v_d = f + d + w_v,  d_d = w_d        measured: p
    roll and pitch:    (phi, phi_d)     phi_dd = a phi + b phi_d + c phi_cmd + w       measured: phi
    yaw:               (psi, psi_d)     psi_dd = (cmd - psi_d) / tau_yaw + w           measured: psi

d is the disturbance acceleration (mass and thrust error, drag, gusts) that makes the MPC free of offset: it stands in
the model's parameters as dist_x, dist_y, dist_z. On the ground d is zero and the vehicle does not fall.

A pose whose quaternion is NaN corrects the position alone; the attitude is predicted until the next one that has it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from math import isfinite, pi

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from deq_mpc_controller.units import (
    Acceleration,
    AccelerationNoise,
    AngularNoise,
    AngularRate,
    DisturbanceNoise,
    Metre,
    Radian,
    Second,
)
from deq_mpc_core.config import Config
from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.policy.interface import Command
from deq_mpc_core.rotations import rpy_from_quat
from deq_mpc_core.solver.generate import load_shipped_kernels

Array = NDArray[np.float64]

_MAX_STEP = 0.02
"""Longest Runge-Kutta step [s]; the fastest time constant of the model, of roll and pitch, is 0.024 s."""
_FARTHEST = 1000.0
"""A position farther away is no position [m]."""
_UNIT = (0.5, 1.5)
"""Squared length of what passes for a unit quaternion."""
_MAX_COMMANDS = 512
"""Commands remembered; more than any prediction needs."""


class EstimatorConfig(Config):
    """``estimator`` in ``config/controller.yaml``: the filters' noise and the gates."""

    position_noise: Metre
    angle_noise: Radian
    acceleration_noise: AccelerationNoise
    disturbance_noise: DisturbanceNoise
    disturbance_init: Acceleration
    disturbance_max: Acceleration
    angular_noise: AngularNoise
    jump_distance: Metre
    jump_acceleration: Acceleration
    jump_angle: Radian
    jump_rate: AngularRate
    jump_heading: Radian
    future_tolerance: Second
    max_prediction: Second


class Gate(Enum):
    """What became of a pose."""

    ACCEPTED = "accepted"
    NOT_FINITE = "a value is not finite or absurd, or the quaternion has not the length 1"
    NO_ATTITUDE = "it has no attitude, and none is known yet"
    OUT_OF_ORDER = "its stamp is not newer than the last one's"
    FUTURE = "its stamp lies in the future: the clocks differ"
    FROZEN = "in the air, it equals the one before to the last digit: nothing was measured"
    JUMP = "it is farther from the prediction than the vehicle can have moved"


@dataclass(frozen=True)
class Estimate:
    """The vehicle at ``t``.

    Attributes:
        t: time of the estimate [s].
        x: (13,) state, yaw in (-pi, pi].
        disturbance: (3,) acceleration that the model does not explain [m/s^2].
        age: time since the stamp of the last accepted pose [s].
        attitude_age: time since that of the last one with an attitude [s].
    """

    t: float
    x: Array
    disturbance: Array
    age: float
    attitude_age: float = 0.0

    def model_params(self) -> Array:
        """Parameters (13,) of the MPC's model with this disturbance."""
        params = cf.nominal_params()
        params[cf.DISTURBANCE] = self.disturbance
        return params


class Estimator:
    """Filter over mocap poses and sent commands; deterministic, no clock of its own.

    Feed ``add_command`` and ``add_pose`` as things happen, ask ``estimate`` for any time since. ``grounded`` says that
    the vehicle stands on something: it is the caller's to set.
    """

    def __init__(self, config: EstimatorConfig) -> None:
        self.config = config
        self.grounded = True
        self.gates: dict[Gate, int] = dict.fromkeys(Gate, 0)
        self._rk4 = load_shipped_kernels("crazyflie").rk4.rk4
        self._params = cf.nominal_params()
        self._noise = np.array(
            [
                config.position_noise**2,
                config.angle_noise**2,
                config.acceleration_noise**2,
                config.disturbance_noise**2,
                config.angular_noise**2,
            ]
        )
        self._work = np.empty((5, cf.NX))
        self.reset()

    def reset(self) -> None:
        """Forget everything; the next pose starts anew. For a vehicle that stands on the ground."""
        self._stamp: float | None = None
        self._attitude_stamp = 0.0
        self._measured = np.full(7, np.nan)
        self._x = np.zeros(cf.NX)
        self._disturbance = np.zeros(3)
        self._commands: deque[tuple[float, Array]] = deque(maxlen=_MAX_COMMANDS)
        self._cov_position = np.zeros((3, 3))
        self._cov_tilt = np.zeros((2, 2))
        self._cov_yaw = np.zeros((2, 2))

    def add_command(self, stamp: float, command: Command) -> None:
        """A command was sent at ``stamp`` [s]; it holds until the next one."""
        if self._commands and stamp < self._commands[-1][0]:
            raise ValueError(f"command stamp {stamp} is older than the last one's, {self._commands[-1][0]}")
        self._commands.append((stamp, np.array(command, dtype=np.float64)))

    def add_pose(self, stamp: float, pos: ArrayLike, quat: ArrayLike, received: float) -> Gate:
        """A mocap pose, pos (3,) [m], quat (4,) xyzw: taken at ``stamp``, here at ``received`` [s], one clock.

        Four NaN for the quaternion: there is a position only.
        """
        position, attitude = np.asarray(pos, dtype=np.float64), np.asarray(quat, dtype=np.float64)
        gate = self._take(stamp, position, attitude, received)
        self.gates[gate] += 1
        return gate

    def estimate(self, t: float) -> Estimate | None:
        """The vehicle at ``t``; None before the first pose or when the last is too old to predict from."""
        if self._stamp is None or t - self._stamp > self.config.max_prediction:
            return None
        x = self._predict(t)
        x[8] = _wrap(x[8])
        return Estimate(t, x, self._disturbance.copy(), t - self._stamp, t - self._attitude_stamp)

    @property
    def stamp(self) -> float | None:
        """Of the last accepted pose [s]; None before the first."""
        return self._stamp

    def _take(self, stamp: float, position: Array, quat: Array, received: float) -> Gate:
        if not (isfinite(stamp) and np.all(np.abs(position) < _FARTHEST) and _is_attitude(quat)):
            return Gate.NOT_FINITE
        if stamp > received + self.config.future_tolerance:
            return Gate.FUTURE
        rpy = rpy_from_quat(quat)
        if self._stamp is None:
            if not isfinite(rpy[0]):
                return Gate.NO_ATTITUDE
            self._start(stamp, position, rpy)
            return Gate.ACCEPTED
        if stamp <= self._stamp:
            return Gate.OUT_OF_ORDER
        measured = np.concatenate([position, quat])
        if not self.grounded and np.array_equal(measured, self._measured, equal_nan=True):
            return Gate.FROZEN
        elapsed = stamp - self._stamp
        x = self._predict(stamp) if elapsed <= self.config.max_prediction else self._x.copy()
        if self._is_jump(x, position, rpy, elapsed):
            return Gate.JUMP
        self._correct(x, position, rpy, elapsed)
        self._stamp, self._measured = stamp, measured
        if isfinite(rpy[0]):
            self._attitude_stamp = stamp
        while len(self._commands) > 1 and self._commands[1][0] <= stamp:
            self._commands.popleft()
        return Gate.ACCEPTED

    def _start(self, stamp: float, position: Array, rpy: Array) -> None:
        self._stamp = self._attitude_stamp = stamp
        self._x[:] = 0.0
        self._x[cf.POS], self._x[cf.RPY] = position, rpy
        self._cov_position = np.diag([self._noise[0], 1.0, 0.0])
        self._cov_tilt = np.diag([self._noise[1], 1.0])
        self._cov_yaw = np.diag([self._noise[1], 1.0])

    def _is_jump(self, x: Array, position: Array, rpy: Array, elapsed: float) -> bool:
        """Whether a pose ``elapsed`` [s] after the last is farther from the prediction x (13,) than can be.

        What the prediction lacks is an acceleration, so that the gate of positions opens with the square of the time.
        That of headings does not open beyond the error of swapped markers, however long none was accepted.
        """
        c = self.config
        apart = float(np.sqrt(np.sum((position - x[cf.POS]) ** 2)))
        tilted, headed = max(abs(rpy[0] - x[6]), abs(rpy[1] - x[7])), abs(_wrap(rpy[2] - x[8]))  # NaN exceeds nothing
        angle = c.jump_angle + c.jump_rate * elapsed
        far = apart > c.jump_distance + 0.5 * c.jump_acceleration * elapsed**2
        return far or tilted > angle or headed > min(angle, c.jump_heading)

    def _correct(self, x: Array, position: Array, rpy: Array, elapsed: float) -> None:
        if self.grounded:
            self._cov_position[2] = self._cov_position[:, 2] = 0.0
            self._disturbance[:] = 0.0
        elif self._cov_position[2, 2] == 0.0:  # just lifted off: nothing is known of the disturbance yet
            self._cov_position[2, 2] = self.config.disturbance_init**2
        if isfinite(rpy[2]):
            rpy[2] = x[8] + _wrap(rpy[2] - x[8])
        _update(
            x,
            self._disturbance,
            (self._cov_position, self._cov_tilt, self._cov_yaw),
            (position, rpy),
            min(elapsed, self.config.max_prediction),
            self._params,
            self._noise,
            self.grounded,
        )
        np.clip(self._disturbance, -self.config.disturbance_max, self.config.disturbance_max, out=self._disturbance)
        self._x = x

    def _predict(self, t: float) -> Array:
        """State at ``t``, from the state at the last pose through the commands sent since."""
        assert self._stamp is not None
        self._params[cf.DISTURBANCE] = self._disturbance
        x, now = self._x.copy(), self._stamp
        commands = self._commands
        for index, (_, command) in enumerate(commands):
            until = min(commands[index + 1][0], t) if index + 1 < len(commands) else t
            if until > now:
                x = self._advance(x, command, until - now)
                now = until
        if now < t and not commands:
            x = self._advance(x, np.array([x[6], x[7], 0.0, x[12]]), t - now)
        return x

    def _advance(self, x: Array, command: Array, duration: float) -> Array:
        count = int(np.ceil(duration / _MAX_STEP))
        for _ in range(count):
            after = np.empty(cf.NX)
            self._rk4(x, command, self._params, duration / count, self._work, after)
            x = _stand(x, after) if self.grounded else after
        return x


def _stand(before: Array, after: Array) -> Array:
    """What becomes of a step while the vehicle stands: it can rise, but neither fall, slide nor turn."""
    result = before.copy()
    result[cf.THRUST] = after[cf.THRUST]
    result[3:5] = 0.0
    result[cf.RPY_RATE] = 0.0
    result[5] = max(after[5], 0.0)
    result[2] = max(after[2], before[2])
    return result


def _is_attitude(quat: Array) -> bool:
    """Whether it is a unit quaternion, or NaN altogether."""
    return bool(np.isnan(quat).all()) or _UNIT[0] < float(np.sum(np.clip(quat, -2.0, 2.0) ** 2)) < _UNIT[1]


def _wrap(angle: float) -> float:
    """The same angle in (-pi, pi]."""
    return float(pi - (pi - angle) % (2.0 * pi))


@njit(cache=True)
def _propagate(cov: Array, transition: Array, diffusion: Array, dt: float) -> None:
    """P <- A P A^T + Q dt, for one short step."""
    cov[:, :] = transition @ cov @ transition.T
    for i in range(cov.shape[0]):
        cov[i, i] += diffusion[i] * dt


@njit(cache=True)
def _second_order(stiffness: float, damping: float, dt: float) -> Array:
    """exp(A dt) to second order for A = [[0, 1], [stiffness, damping]]."""
    a = np.array([[0.0, 1.0], [stiffness, damping]])
    return np.eye(2) + dt * a + 0.5 * dt * dt * (a @ a)


@njit(cache=True)
def _gain(cov: Array, noise: float) -> Array:
    """Kalman gain of a measurement of the first component; corrects the covariance in place."""
    gain = cov[:, 0] / (cov[0, 0] + noise)
    row = cov[0, :].copy()
    for i in range(cov.shape[0]):
        for j in range(cov.shape[0]):
            cov[i, j] -= gain[i] * row[j]
    return gain


@njit(cache=True)
def _update(x, disturbance, covariances, pose, elapsed, p, noise, grounded) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    """Propagate the covariances over ``elapsed`` [s] and correct x (13,) and the disturbance (3,) in place.

    covariances: position (3, 3), tilt (2, 2), yaw (2, 2); pose: pos (3,), rpy (3,) or NaN; p: model parameters; noise:
    variances of position and angle, power densities of acceleration, disturbance and angular acceleration.
    """
    position, tilt, yaw = covariances
    steps = max(1, int(np.ceil(elapsed / 0.01)))
    dt = elapsed / steps
    integrate = np.array([[1.0, dt, 0.5 * dt * dt], [0.0, 1.0, dt], [0.0, 0.0, 1.0]])
    turn_tilt, turn_yaw = _second_order(p[2], p[3], dt), _second_order(0.0, -1.0 / p[5], dt)
    wander = np.array([0.0, noise[2], 0.0 if grounded else noise[3]])
    spin = np.array([0.0, noise[4]])
    for _ in range(steps):
        _propagate(position, integrate, wander, dt)
        _propagate(tilt, turn_tilt, spin, dt)
        _propagate(yaw, turn_yaw, spin, dt)
    gain = _gain(position, noise[0])
    for i in range(3):
        error = pose[0][i] - x[i]
        x[i] += gain[0] * error
        x[3 + i] += gain[1] * error
        disturbance[i] += gain[2] * error
    if np.isnan(pose[1][0]):
        return
    gain_tilt, gain_yaw = _gain(tilt, noise[1]), _gain(yaw, noise[1])
    for i in range(3):
        turned = pose[1][i] - x[6 + i]
        angle_gain = gain_tilt if i < 2 else gain_yaw
        x[6 + i] += angle_gain[0] * turned
        x[9 + i] += angle_gain[1] * turned
