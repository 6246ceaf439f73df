"""What is known of the world around the vehicle."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.obstacles import extrapolate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Surroundings:
    """What is known of the world.

    Attributes:
        goal: (3,) where to fly [m]; None: unknown.
        start: (3,) where the flight to the goal begins [m]; None: above the take-off spot.
        obstacles: (K, 7), see ``Observation``.
        obstacles_stamp: when they were there [s].
        obstacles_known: whether anybody said which there are; an automatic flight waits for it.
    """

    goal: Array | None = None
    start: Array | None = None
    obstacles: Array = field(default_factory=lambda: np.zeros((0, 7)))
    obstacles_stamp: float = 0.0
    obstacles_known: bool = True

    def obstacles_at(self, t: float) -> Array:
        """The obstacles (K, 7) at ``t``: straight on from their message."""
        return extrapolate(self.obstacles, t - self.obstacles_stamp)

    def motion_age(self, t: float) -> float:
        """How old the news of obstacles that move is at ``t`` [s]; 0 if none moves: those need to be said only once."""
        moves = len(self.obstacles) > 0 and bool(np.any(self.obstacles[:, 4:7]))
        return max(t - self.obstacles_stamp, 0.0) if moves else 0.0

    def clearance(self, t: float, pos: Array) -> float:
        """Distance [m] from ``pos`` (3,) to the nearest surface of the obstacles at ``t``; infinity without any."""
        if len(self.obstacles) == 0:
            return inf
        obstacles = self.obstacles_at(t)
        return float(np.min(np.sqrt(np.sum((obstacles[:, :3] - pos) ** 2, axis=1)) - obstacles[:, 3]))
