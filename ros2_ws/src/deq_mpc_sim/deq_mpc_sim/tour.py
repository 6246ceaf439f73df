"""A tour: to and fro between two points for a given time, each leg judged by the rules of the flight task.

tour = Tour((goal, start), minutes=10.0)
tour.see_obstacles(t, obstacles)
tour.see_vehicle(t, pos, vel)
tour.goal, tour.reached
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.obstacles import extrapolate
from deq_mpc_sim.referee import PolicyTimes, Referee, Rules

Array = NDArray[np.float64]

MINUTE = 60.0  # s
MEMORY_PERIOD = 10.0  # s: between two samples of the memory
WARM_UP = 30.0  # s: of the flight; what is allocated on first use has been by then


class Tour:
    """The legs of one flight. Times are seconds on one clock, the header stamps'.

    Attributes:
        reached: legs that ended at their goal; missed: legs given up after the rules' time limit.
        over: whether the time is up.
    """

    def __init__(self, ends: tuple[Array, Array], minutes: float, rules: Rules | None = None) -> None:
        """A tour that begins with the first sample of the vehicle.

        Args:
            ends: (3,) each: where the first leg goes, and where the second one goes [m].
            minutes: how long.
            rules: what an arrival is, and how long a leg may take.
        """
        self.reached = 0
        self.missed = 0
        self.over = False
        self._ends = ends
        self._duration = MINUTE * minutes
        self._rules = rules or Rules()
        self._referee = Referee(self.goal, self._rules)
        self._obstacles, self._obstacles_t = np.zeros((0, 7)), 0.0
        self._began: float | None = None

    @property
    def goal(self) -> Array:
        """(3,) of the present leg [m]."""
        return self._ends[(self.reached + self.missed) % 2]

    @property
    def collisions(self) -> int:
        """How often the vehicle's centre came to lie inside the spheres."""
        return self._referee.collisions

    @property
    def min_clearance(self) -> float:
        """Smallest distance to a sphere's surface [m]; infinity without spheres."""
        return self._referee.min_clearance

    def see_obstacles(self, t: float, obstacles: Array) -> None:
        """The obstacles (K, 7) at ``t``."""
        self._obstacles, self._obstacles_t = obstacles, t

    def see_vehicle(self, t: float, pos: Array, vel: Array) -> None:
        """Position and velocity (3,) at ``t``; may end a leg, and with it change the goal."""
        self._began = t if self._began is None else self._began
        self.over = t - self._began >= self._duration
        referee = self._referee
        referee.observe(t, pos, vel, extrapolate(self._obstacles, t - self._obstacles_t))
        if referee.time_to_goal is not None:
            self.reached += 1
        elif referee.elapsed >= self._rules.time_limit:
            self.missed += 1
        else:
            return
        referee.redirect(self.goal)


class MemoryTrack:
    """Resident memory over time, a sample every ``MEMORY_PERIOD``."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []

    def add(self, t: float, mb: float) -> None:
        """The memory [MB] at ``t`` [s]; ignored if the last sample is too fresh."""
        if not self.samples or t - self.samples[-1][0] >= MEMORY_PERIOD:
            self.samples.append((t, mb))

    def slope(self) -> float | None:
        """Growth by least squares [MB/min]; None before the third sample."""
        if len(self.samples) < 3:
            return None
        t, mb = np.array(self.samples).T
        centred = t - t.mean()
        return float(MINUTE * (centred @ mb) / (centred @ centred))


@dataclass(frozen=True)
class TourSummary:
    """What a tour showed of the controller.

    Attributes:
        fault: why the flight ended before its time; None if it landed as asked.
        minutes: of flight under the policy.
        control_steps: of the whole flight; deadline_misses: those that began late or took too long; scheduler_stalls:
            the misses that waiting for a CPU explains.
        policy_ms: computing time of the policy's step.
        goals_reached, goals_missed: legs; collisions, min_clearance_m: with the spheres.
        memory_mb: resident, every 10 s from half a minute after the take-off; memory_mb_per_min: their slope.
    """

    fault: str | None
    minutes: float
    control_steps: int
    deadline_misses: int
    scheduler_stalls: int
    policy_ms: PolicyTimes
    goals_reached: int
    goals_missed: int
    collisions: int
    min_clearance_m: float | None
    memory_mb: tuple[float, ...]
    memory_mb_per_min: float | None

    @property
    def miss_share(self) -> float:
        """Share of the control steps that missed their deadline by the controller's own fault."""
        return (self.deadline_misses - self.scheduler_stalls) / max(self.control_steps, 1)

    def to_json(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> TourSummary:
        """The inverse of ``to_json``."""
        raw: dict[str, Any] = json.loads(line)
        lists = {"policy_ms": PolicyTimes(**raw["policy_ms"]), "memory_mb": tuple(raw["memory_mb"])}
        return cls(**{**raw, **lists})
