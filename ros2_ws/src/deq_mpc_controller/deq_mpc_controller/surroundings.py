"""What is known of the world around the vehicle."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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

    def with_obstacles(self, obstacles: Array, stamp: float, now: float, tolerance: float) -> Surroundings:
        """The same with these obstacles (K, 7), which were there at ``stamp`` [s].

        Of those that move, a stamp more than ``tolerance`` [s] after ``now`` is another clock's, by which nobody could
        tell when the news have ceased, and one older than the last is overtaken. Neither is news: obstacles that are
        known to move stay as they are and grow old. Where none is, the first ones from the future are as old as their
        arrival.
        """
        ahead = stamp > now + tolerance
        if _move(obstacles) and _move(self.obstacles) and (ahead or stamp < self.obstacles_stamp):
            return self
        stamp = now if ahead else stamp
        return replace(self, obstacles=obstacles, obstacles_stamp=stamp, obstacles_known=True)

    def obstacles_at(self, t: float) -> Array:
        """The obstacles (K, 7) at ``t``: straight on from their message."""
        return extrapolate(self.obstacles, t - self.obstacles_stamp)

    def motion_age(self, t: float) -> float:
        """How old the news of obstacles that move is at ``t`` [s]; 0 if none moves: those need to be said only once."""
        return max(t - self.obstacles_stamp, 0.0) if _move(self.obstacles) else 0.0

    def clearance(self, t: float, pos: Array) -> float:
        """Distance [m] from ``pos`` (3,) to the nearest surface of the obstacles at ``t``; infinity without any."""
        if len(self.obstacles) == 0:
            return inf
        obstacles = self.obstacles_at(t)
        return float(np.min(np.sqrt(np.sum((obstacles[:, :3] - pos) ** 2, axis=1)) - obstacles[:, 3]))


def _move(obstacles: Array) -> bool:
    """Whether any of the obstacles (K, 7) has a velocity."""
    return bool(np.any(obstacles[:, 4:7]))
