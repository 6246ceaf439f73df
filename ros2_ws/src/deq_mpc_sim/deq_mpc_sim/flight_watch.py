"""A flight as the recorder sees it: topics go in; progress, end, verdict and the report's data come out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller.flight import Mode
from deq_mpc_controller.safety import Reason
from deq_mpc_core.obstacles import extrapolate
from deq_mpc_sim.referee import GOAL_NOT_REACHED, PolicyTimes, Referee, Rules, Verdict

Array = NDArray[np.float64]

FLYING, LANDING, LANDED = Mode.FLY.value, Mode.LAND.value, Mode.IDLE.value
FAILED = (Mode.FAULT.value, Mode.ESTOP.value)
ON_GROUND = (Mode.IDLE.value, Mode.READY.value, Mode.ARMED.value)
LANDING_GRACE = 0.5
"""The beginning of the landing [s] still counts: states and positions come on topics of their own, in any order."""
FAULTS_OF_A_BUSY_MACHINE = (Reason.POSE.value, Reason.DEADLINE.value)
"""What ends a simulated flight, whose motion capture never fails, on a machine that does not keep up with real time."""
VELOCITY_WINDOW = 0.1
"""Without a measured velocity, it is the mean over this time [s]: 1 mm of noise makes 0.01 m/s."""


@dataclass(frozen=True)
class FlightRecord:
    """What the report shows.

    Attributes:
        t, pos: (n,) [s] from the first sample and (n, 3) [m], the whole path.
        fly: start and end of the flight under the policy [s]; None if there was none.
        clearance_t, clearance: (m,) during that time [s, m].
        spheres: (K, 7) obstacles, each as it was when the vehicle came nearest to it; sphere_clearance: (K,) then [m].
        goal: (3,) [m]; None if unknown.
        policy_t, policy_ms: (p,) [s], (p, 3) running p50, p99 and max [ms].
    """

    t: Array
    pos: Array
    fly: tuple[float, float] | None
    clearance_t: Array
    clearance: Array
    spheres: Array
    sphere_clearance: Array
    goal: Array | None
    policy_t: Array
    policy_ms: Array


@dataclass
class _Track:
    """Lists that grow with the flight."""

    t: list[float] = field(default_factory=list)
    pos: list[Array] = field(default_factory=list)
    flown: list[float] = field(default_factory=list)
    clearance_t: list[float] = field(default_factory=list)
    clearance: list[float] = field(default_factory=list)
    policy_t: list[float] = field(default_factory=list)
    policy_ms: list[tuple[float, float, float]] = field(default_factory=list)


class FlightWatch:
    """Follows one flight from the ground to the ground. Times are seconds on one clock, the header stamps'."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.simulated = False
        """Whether the vehicle is a simulated one."""
        self.state: str | None = None
        self.end: str | None = None
        """How the flight ended; None while it goes on."""
        self._rules = rules or Rules()
        self._referee: Referee | None = None
        self._goal: Array | None = None
        self._obstacles: Array = np.zeros((0, 7))
        self._obstacles_t = 0.0
        self._spheres: Array = np.zeros((0, 7))
        self._sphere_clearance: Array = np.zeros(0)
        self._landed = False
        self._cause = ""
        self._flown_until = float("-inf")
        self._left_ground = False
        self._policy_times = PolicyTimes()
        self._deadline_misses: int | None = None
        self._control_steps: int | None = None
        self._track = _Track()
        self._recent: deque[tuple[float, Array]] = deque()

    def see_goal(self, goal: Array) -> None:
        """The goal (3,) [m]."""
        self._goal = goal
        if self._referee is not None:
            self._referee.goal = goal

    def see_obstacles(self, t: float, obstacles: Array) -> None:
        """The obstacles (K, 7) at ``t``."""
        if len(obstacles) != len(self._spheres):
            self._spheres = obstacles.copy()
            self._sphere_clearance = np.full(len(obstacles), np.inf)
        self._obstacles, self._obstacles_t = obstacles, t

    def see_state(self, state: str) -> None:
        """The controller's flight state."""
        before, self.state = self.state, state
        self._left_ground |= state not in (*ON_GROUND, *FAILED)
        if state in FAILED:
            self.end = f"flight state {state}"
        elif state == LANDED and self._left_ground:
            self._landed = before == LANDING
            self.end = "landed" if self._landed else f"from {before} to {LANDED} without landing"

    def see_failure(self, failure: str) -> None:
        """Why the controller gave the flight up, in its words."""
        hint = " (this machine was too busy; close other programs)"
        self._cause = failure + (hint if self.simulated and failure in FAULTS_OF_A_BUSY_MACHINE else "")

    def stop(self, reason: str) -> None:
        """The recorder gives the flight up."""
        self.end = self.end or reason
        self._cause = self._cause or reason

    def see_deadlines(self, misses: int, steps: int) -> None:
        """How many of the control ``steps`` in flight missed their deadline."""
        self._deadline_misses, self._control_steps = misses, steps

    def see_policy(self, t: float, times: PolicyTimes) -> None:
        """Running statistics of the policy's computing time."""
        self._policy_times = times
        if times.p50 is not None and times.p99 is not None and times.max is not None:
            self._track.policy_t.append(t)
            self._track.policy_ms.append((times.p50, times.p99, times.max))

    def see_vehicle(self, t: float, pos: Array, vel: Array | None = None) -> None:
        """Position (3,) and, if measured, velocity (3,) of the vehicle; samples that are not newer are ignored."""
        if self._track.t and t <= self._track.t[-1]:
            return
        self._track.t.append(t)
        self._track.pos.append(pos)
        self._recent.append((t, pos))
        while t - self._recent[0][0] > VELOCITY_WINDOW:
            self._recent.popleft()
        if self._counts(t) and self._goal is not None:
            self._referee = self._referee or Referee(self._goal, self._rules)
            obstacles = extrapolate(self._obstacles, t - self._obstacles_t)
            self._referee.observe(t, pos, self._mean_velocity() if vel is None else vel, obstacles)
            self._note_clearances(t, pos, obstacles)
            self._track.flown.append(t)

    def _counts(self, t: float) -> bool:
        """Whether a sample at ``t`` is part of the flight under the policy."""
        if self.state == FLYING:
            self._flown_until = t
            return True
        return self.state == LANDING and t - self._flown_until <= LANDING_GRACE

    def _mean_velocity(self) -> Array:
        (t0, p0), (t1, p1) = self._recent[0], self._recent[-1]
        return (p1 - p0) / (t1 - t0) if t1 > t0 else np.full(3, np.inf)

    def _note_clearances(self, t: float, pos: Array, obstacles: Array) -> None:
        each = np.linalg.norm(obstacles[:, 0:3] - pos, axis=1) - obstacles[:, 3]
        nearer = each < self._sphere_clearance
        self._spheres[nearer] = obstacles[nearer]
        self._sphere_clearance[nearer] = each[nearer]
        if len(each):
            self._track.clearance_t.append(t)
            self._track.clearance.append(float(each.min()))

    @property
    def took_off(self) -> bool:
        """Whether there was a flight at all."""
        return self._left_ground

    @property
    def cause(self) -> str:
        """What ended the flight, if it was not a landing after all went well; "" if it was, or nothing has yet."""
        return self._cause or ("" if self._landed else self.end or "")

    @property
    def fault(self) -> str | None:
        """Why the flight is no success so far, None if it is one: what ended it, then what went wrong before."""
        outcome = "the policy never flew" if self._referee is None else self._referee.fault
        if self.cause and (self._referee is None or outcome == GOAL_NOT_REACHED):
            return self.cause  # which is why
        reasons = [reason for reason in (self.cause, outcome) if reason]
        if not reasons and not self._landed:
            return "not landed"
        return "; ".join(reasons) or None

    def progress(self) -> str:
        """One line on where the flight is."""
        track = self._track
        parts = [self.state or "waiting for the controller"]
        if track.t:
            parts.insert(0, f"{track.t[-1] - track.t[0]:5.1f} s")
            if self._goal is not None:
                parts.append(f"{np.linalg.norm(track.pos[-1] - self._goal):5.2f} m to the goal")
        if track.clearance and self.state == FLYING:
            parts.append(f"{track.clearance[-1]:5.2f} m to the nearest sphere")
        if self._referee is not None and self._referee.collisions:
            parts.append(f"collisions: {self._referee.collisions}")
        if self._policy_times.p99 is not None:
            parts.append(f"policy p99 {self._policy_times.p99:.1f} ms")
        return "  ".join(parts)

    def verdict(self, bag: str | None, picture: str | None) -> Verdict:
        """The verdict as things stand, with the paths of bag and picture."""
        referee = self._referee
        return Verdict(
            success=self.fault is None,
            fault=self.fault,
            collisions=referee.collisions if referee else 0,
            min_clearance_m=round(referee.min_clearance, 4) if referee and np.isfinite(referee.min_clearance) else None,
            time_to_goal_s=round(referee.time_to_goal, 3) if referee and referee.time_to_goal is not None else None,
            policy_ms=self._policy_times,
            deadline_misses=self._deadline_misses,
            control_steps=self._control_steps,
            bag=bag,
            picture=picture,
        )

    def record(self) -> FlightRecord:
        """The data of the report."""
        track = self._track
        start = track.t[0] if track.t else 0.0
        return FlightRecord(
            t=np.asarray(track.t, dtype=np.float64) - start,
            pos=np.asarray(track.pos, dtype=np.float64).reshape(-1, 3),
            fly=(track.flown[0] - start, track.flown[-1] - start) if track.flown else None,
            clearance_t=np.asarray(track.clearance_t, dtype=np.float64) - start,
            clearance=np.asarray(track.clearance, dtype=np.float64),
            spheres=self._spheres.copy(),
            sphere_clearance=self._sphere_clearance.copy(),
            goal=self._goal,
            policy_t=np.asarray(track.policy_t, dtype=np.float64) - start,
            policy_ms=np.asarray(track.policy_ms, dtype=np.float64).reshape(-1, 3),
        )
