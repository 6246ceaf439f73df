"""Last-resort filter on the command: whatever a policy says, what leaves keeps off the obstacles and inside the fence.

A command passes unchanged if the vehicle could still be brought to rest after it, by one of a family of backup
manoeuvres, without touching a sphere or the fence (``backup_flight.py`` predicts that). Otherwise the nearest of the
admissible commands is taken: some way from the policy's towards a backup's, or a backup's own. The backup that was good
last time is tried first and goes on from where it was, so from a good state there always is one, as far as the
prediction holds. Obstacles that move may leave none: then the command that keeps the greatest distance.

Deterministic, and cheap: most commands of a good policy pass after one prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import sqrt, tan

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller import backup_flight
from deq_mpc_controller.backup_flight import Keep, Law, make_dynamics
from deq_mpc_controller.units import Acceleration, Metre, PerSecond, Second, Speed
from deq_mpc_core.config import Config
from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.policy.interface import Command

Array = NDArray[np.float64]

_BLENDS = np.array([0.75, 0.5, 0.25])
"""Shares of the backup's command that are tried between it and the policy's."""
_DIAGONAL = sqrt(0.5)
_AHEAD_LEFT_UP = np.array(
    [
        *([0.0, y, z] for y, z in ((1, 0), (-1, 0), (0, 1), (0, -1))),
        *([0.0, y, z] for y in (_DIAGONAL, -_DIAGONAL) for z in (_DIAGONAL, -_DIAGONAL)),
        *([_DIAGONAL, y, z] for y, z in ((_DIAGONAL, 0), (-_DIAGONAL, 0), (0, _DIAGONAL), (0, -_DIAGONAL))),
        [-1.0, 0.0, 0.0],
    ]
)
"""Where dodges go, relative to the direction of flight: across it, half across and half on, back."""
_SLOW = 0.3  # m/s: below it there is no direction of flight


class FilterConfig(Config):
    """``filter`` in ``config/controller.yaml``."""

    enabled: bool
    step: Second
    sphere_margin: Metre
    fence_margin: Metre
    floor_height: Metre
    drift: Metre
    drift_time: Second
    speed: Speed
    min_time: Second
    max_time: Second
    gain: PerSecond
    climb: Acceleration
    sink: Acceleration
    dodge_speed: Speed
    dodge_time: Second


class Filtering(Enum):
    """What became of a command."""

    PASSED = "passed"
    BLENDED = "bent towards a backup manoeuvre"
    BACKED_UP = "replaced by a backup manoeuvre"
    CORNERED = "replaced: no command keeps clear, this one does longest"


_KINDS = {
    backup_flight.PASSED: Filtering.PASSED,
    backup_flight.BLENDED: Filtering.BLENDED,
    backup_flight.BACKED_UP: Filtering.BACKED_UP,
    backup_flight.CORNERED: Filtering.CORNERED,
}


@dataclass(frozen=True)
class Filtered:
    """A filtered command.

    Attributes:
        command: to send.
        outcome: what became of the policy's.
        margin: smallest predicted distance from what must not be touched, less the margin kept [m]; negative: too near.
    """

    command: Command
    outcome: Filtering
    margin: float

    @property
    def intervened(self) -> bool:
        """Whether the command is not the policy's."""
        return self.outcome is not Filtering.PASSED


class CommandFilter:
    """Keeps the backup of the last step; call ``reset`` when the policy begins to fly."""

    def __init__(self, config: FilterConfig, tilt_max: float, thrust_min: float, thrust_max: float) -> None:
        """A filter whose own commands stay within tilt [rad] and thrust [N] limits."""
        params = cf.nominal_params()
        self._config = config
        self._dynamics = make_dynamics(params, config.step)
        self._law = Law(
            gain=config.gain,
            horizontal=float(params[9]) * tan(tilt_max),
            up=config.climb,
            down=config.sink,
            tilt=tilt_max,
            thrust_min=thrust_min,
            thrust_max=thrust_max,
        )
        self._scale = np.array([tilt_max, tilt_max, 1.0, float(params[0] * params[9])])
        self.reset()

    def reset(self) -> None:
        """Forget the last backup."""
        self._backup = np.zeros(4)
        self._t: float | None = None

    def apply(
        self, t: float, command: Command, x: Array, disturbance: Array, obstacles: Array, box: tuple[Array, Array]
    ) -> Filtered:
        """The command to send at ``t`` [s] in the policy's stead.

        Args:
            t: now; does not fall from call to call.
            command: the policy's, finite and within the limits.
            x: (13,) state of the vehicle now.
            disturbance: (3,) acceleration that the model does not explain [m/s^2].
            obstacles: (K, 7) now.
            box: its corners (3,), not to be left [m].
        """
        if self._t is not None:
            self._backup[3] = max(self._backup[3] - (t - self._t), 0.0)
        self._t = t
        dodges = self._dodges(x[cf.VEL])
        out = np.empty(4)
        kind, number, worth = backup_flight.choose(
            x,
            np.array(command),
            (dodges, _BLENDS, self._scale),
            disturbance,
            np.ascontiguousarray(obstacles),
            (self._dynamics, self._law, self._keep(box)),
            out,
        )
        self._backup = dodges[number]
        sent = command if kind == backup_flight.PASSED else Command(*(float(value) for value in out))
        return Filtered(sent, _KINDS[kind], worth)

    def _keep(self, box: tuple[Array, Array]) -> Keep:
        c = self._config
        return Keep(
            box[0], box[1], c.speed, c.sphere_margin, c.fence_margin, c.drift, c.drift_time, c.min_time, c.max_time
        )

    def _dodges(self, vel: Array) -> Array:
        """(n, 4) backups: the last one, a plain brake, then dodges: velocity [m/s] and how long to go for it [s]."""
        speed = float(np.sqrt(vel @ vel))
        ahead = vel / speed if speed > _SLOW else np.array([1.0, 0.0, 0.0])
        flat = sqrt(ahead[0] ** 2 + ahead[1] ** 2)
        left = np.array([-ahead[1], ahead[0], 0.0]) / flat if flat > 0.1 else np.array([0.0, 1.0, 0.0])
        up = ahead[[1, 2, 0]] * left[[2, 0, 1]] - ahead[[2, 0, 1]] * left[[1, 2, 0]]
        directions = _AHEAD_LEFT_UP @ np.array([ahead, left, up])
        size = max(self._config.dodge_speed, speed)
        dodges = np.zeros((len(directions) + 2, 4))
        dodges[0] = self._backup
        dodges[2:, :3] = size * directions
        dodges[2:, 3] = self._config.dodge_time
        return dodges
