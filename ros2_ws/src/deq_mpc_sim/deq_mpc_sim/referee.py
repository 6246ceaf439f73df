"""The rules of the flight task, applied to what truly happened: in lockstep episodes and in flights over ROS alike.

Goal: within 0.15 m of it and slower than 0.3 m/s. Collision: the vehicle's centre inside a sphere. An episode also ends
0.3 m outside the arena, or after 20 s.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller.settings import controller_config
from deq_mpc_sim.obstacles import clearance
from deq_mpc_sim.scenes import ARENA_HIGH, ARENA_LOW, FENCE_MARGIN

Array = NDArray[np.float64]

GOAL_NOT_REACHED = "goal not reached"


@dataclass(frozen=True)
class Rules:
    """What counts as what.

    Attributes:
        goal_radius, goal_speed: nearer [m] and slower [m/s] is at the goal.
        time_limit: of an episode [s].
        low, high: (3,) corners of the arena [m]; margin: how far outside is out [m].
    """

    goal_radius: float = 0.15
    goal_speed: float = 0.3
    time_limit: float = 20.0
    low: Array = field(default_factory=lambda: ARENA_LOW)
    high: Array = field(default_factory=lambda: ARENA_HIGH)
    margin: float = FENCE_MARGIN


class Ending(Enum):
    """What ends an episode."""

    GOAL = "goal reached"
    COLLISION = "collision"
    OUTSIDE = "left the arena"
    TIMEOUT = "time is up"


class Referee:
    """Watches one flight, sample by sample, from the moment it counts.

    Attributes:
        ending: the first event that ends an episode, None before; a flight over ROS goes on and is watched further.
        collisions: how often the centre came to lie inside the spheres.
        min_clearance: smallest distance from the centre to a sphere's surface [m]; infinity without spheres.
        time_to_goal: seconds from the first sample to the goal, None before.
        outside: whether it ever left the arena by more than the margin.
        elapsed: seconds watched.
    """

    def __init__(self, goal: Array, rules: Rules | None = None) -> None:
        """``goal`` (3,) [m]."""
        self.goal = np.asarray(goal, dtype=np.float64)
        self.rules = rules or Rules()
        self.ending: Ending | None = None
        self.collisions = 0
        self.min_clearance = float("inf")
        self.time_to_goal: float | None = None
        self.outside = False
        self.elapsed = 0.0
        self._started: float | None = None
        self._inside = False

    def observe(self, t: float, pos: Array, vel: Array, obstacles: Array) -> Ending | None:
        """Take note of position and velocity (3,) and obstacles (K, 7) at ``t`` [s]; gives ``ending``."""
        self._started = t if self._started is None else self._started
        self.elapsed = t - self._started
        events = {
            Ending.COLLISION: self._enters_sphere(pos, obstacles),
            Ending.OUTSIDE: self._is_outside(pos),
            Ending.GOAL: self._is_at_goal(pos, vel),
            Ending.TIMEOUT: self.elapsed >= self.rules.time_limit,
        }
        if self.ending is None:
            self.ending = next((ending for ending, happened in events.items() if happened), None)
        return self.ending

    def redirect(self, goal: Array) -> None:
        """Go on to the next goal (3,), timed from the next sample; collisions and clearance go on."""
        self.goal = np.asarray(goal, dtype=np.float64)
        self.ending = None
        self.time_to_goal = None
        self.elapsed = 0.0
        self._started = None

    def _enters_sphere(self, pos: Array, obstacles: Array) -> bool:
        distance = clearance(pos, obstacles)
        self.min_clearance = min(self.min_clearance, distance)
        was_inside, self._inside = self._inside, distance < 0.0
        entered = self._inside and not was_inside
        self.collisions += entered
        return entered

    def _is_outside(self, pos: Array) -> bool:
        rules = self.rules
        outside = bool(np.any(pos < rules.low - rules.margin) or np.any(pos > rules.high + rules.margin))
        self.outside |= outside
        return outside

    def _is_at_goal(self, pos: Array, vel: Array) -> bool:
        near = float(np.linalg.norm(pos - self.goal)) <= self.rules.goal_radius
        at_goal = near and float(np.linalg.norm(vel)) < self.rules.goal_speed
        if at_goal and self.time_to_goal is None:
            self.time_to_goal = self.elapsed
        return at_goal

    @property
    def fault(self) -> str | None:
        """Why the flight is no success so far, None if it is one."""
        if self.collisions:
            return f"{self.collisions} collision{'s' if self.collisions > 1 else ''}"
        if self.outside:
            return "left the arena"
        if self.time_to_goal is None:
            return GOAL_NOT_REACHED
        if self.time_to_goal > self.rules.time_limit:
            return f"goal reached after more than {self.rules.time_limit:g} s"
        return None


@dataclass(frozen=True)
class PolicyTimes:
    """Time of a policy step [ms]; None if nobody measured it."""

    p50: float | None = None
    p99: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What a flight is worth, with the paths of its evidence. None is unknown or, for the time to goal, never.

    Attributes:
        success: whether it reached the goal without a collision and landed; fault: why not, None if it did.
        collisions: how often the centre came to lie inside the spheres; min_clearance_m: to the nearest of them [m].
        time_to_goal_s: from the policy's first step to the goal [s].
        policy_ms: computing time of a policy step [ms].
        deadline_misses: control steps that came or took too long; control_steps: how many there were in flight.
        bag, picture: paths.
    """

    success: bool
    fault: str | None
    collisions: int
    min_clearance_m: float | None
    time_to_goal_s: float | None
    policy_ms: PolicyTimes
    deadline_misses: int | None
    control_steps: int | None
    bag: str | None
    picture: str | None

    def to_json(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Verdict:
        """The inverse of ``to_json``."""
        raw: dict[str, Any] = json.loads(line)
        return cls(**{**raw, "policy_ms": PolicyTimes(**raw["policy_ms"])})


MANY_MISSES = 0.05
"""From this share of missed deadlines on, the machine is too busy to say much of the controller."""


def describe_misses(verdict: Verdict) -> str:
    """The missed deadlines for people: how many, of how many, and whether it matters."""
    misses, steps = verdict.deadline_misses, verdict.control_steps
    if misses is None or not steps:
        return "unknown"
    if misses == 0:
        return f"none of {steps:,} steps"
    limit = controller_config().safety.late_time
    matters = "this machine is too busy" if misses > MANY_MISSES * steps else f"{limit:g} s of them in a row land it"
    return f"{misses:,} of {steps:,} steps ({matters})"
