"""Noise on an expert's commands, so that its flights also show the way back (Laskey et al., "DART", CoRL 2017).

The noise is an Ornstein-Uhlenbeck process per command, smooth on the scale of the vehicle's response:

    n(t + dt) = a n(t) + sqrt(1 - a^2) sigma w,     a = exp(-dt / tau),  w ~ N(0, 1)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deq_mpc_core.policy.interface import Command


class ExplorationNoise(NamedTuple):
    """Strength of the noise, one standard deviation each.

    Attributes:
        tilt: of roll and pitch [rad].
        yaw_rate: [rad/s].
        thrust: relative to the commanded one.
        time: correlation time tau [s].
    """

    tilt: float = 0.08
    yaw_rate: float = 0.2
    thrust: float = 0.05
    time: float = 0.3


class Explorer:
    """Perturbs the commands of one flight; seeded."""

    def __init__(self, noise: ExplorationNoise, rng: np.random.Generator) -> None:
        self._noise = noise
        self._rng = rng
        self._unit = rng.normal(size=4)

    def perturb(self, command: Command, dt: float) -> Command:
        """The command with the noise of now; ``dt`` [s] until the next call."""
        n, (roll, pitch, yaw_rate, thrust) = self._noise, self._unit
        perturbed = Command(
            command.roll + n.tilt * float(roll),
            command.pitch + n.tilt * float(pitch),
            command.yaw_rate + n.yaw_rate * float(yaw_rate),
            command.thrust * (1.0 + n.thrust * float(thrust)),
        )
        keep = np.exp(-dt / n.time)
        self._unit = keep * self._unit + np.sqrt(1.0 - keep**2) * self._rng.normal(size=4)
        return perturbed
