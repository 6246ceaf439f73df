"""A whole flight in lockstep, from the ground to the ground: the controller as it flies, and a virtual Crazyflie.

IDLE -> READY -> ARMED -> TAKEOFF -> FLY -> LAND -> IDLE, automatically. The controller's side is its pilot, its clock,
its count of late steps and its link, which sends the bytes of packets; the world's is the virtual Crazyflie with its
supervisor and time-outs, on a floor, a motion capture and obstacles. Between them a ``Mishap`` does its worst. Nothing
reads a real clock: the same arguments give the same flight.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller import flight
from deq_mpc_controller.flight import Mode, Source
from deq_mpc_controller.pilot import Step
from deq_mpc_controller.safety import Verdict, beyond_fence
from deq_mpc_controller.settings import controller_config
from deq_mpc_core.policy.interface import Policy
from deq_mpc_sim.faulty_crazyflie import FaultyCrazyflie
from deq_mpc_sim.gusts import GustForce
from deq_mpc_sim.lockstep_controller import LockstepController
from deq_mpc_sim.mishaps import NOTHING, Mishap
from deq_mpc_sim.mocap import Mocap, MocapPose
from deq_mpc_sim.obstacles import clearance
from deq_mpc_sim.parameters import HEADING, draw_vehicle, world_config
from deq_mpc_sim.scenes import Scene, positions
from deq_mpc_sim.supervisor import Bit
from deq_mpc_sim.vehicle import Truth, Vehicle
from deq_mpc_sim.virtual_crazyflie import VirtualCrazyflie

Array = NDArray[np.float64]

TICK = 0.005
"""How often packets and poses are handed over [s]; the vehicle's supervisor decides as often."""
OBSTACLE_PERIOD = 0.02
"""Between two messages of obstacles [s]."""
REST = 3.0
"""A flight is over when the vehicle has lain on the floor for so long with its motors off [s]."""
TIME_LIMIT = 60.0
"""Of the whole [s]."""
_STREAM = 0x6F11  # keeps these random numbers apart from the scene's


@dataclass(frozen=True)
class Moment:
    """What the controller did and said from ``t`` [s] on.

    Attributes:
        mode, source: flight state, and who made the setpoint.
        verdict: of safety.
        failure: why the flight failed, or "".
        fault: what the vehicle reports, or "".
        missing: what stood in the way of arming at ``t``.
    """

    t: float
    mode: Mode
    source: Source
    verdict: Verdict
    failure: str
    fault: str
    missing: tuple[str, ...] = field(default=(), compare=False)

    @property
    def text(self) -> str:
        """As on /diagnostics, with what is missing."""
        return ": ".join(filter(None, (self.fault or self.verdict.reason.value, "; ".join(self.missing))))


@dataclass
class FlightLog:
    """What happened.

    Attributes:
        moments: whenever one of their entries changed.
        track: time [s], mode and true position (3,) of every control step.
        answer: when the request was dealt with [s], and what came of it; None: there was none.
        impact: fastest touch-down [m/s].
        clearance: smallest distance from a sphere's surface in FLY [m]; beyond: largest outside the fence, or negative.
        died_at, death: when and of what error the controller's process died [s]; None: it did not.
        locked_at: when the vehicle locked itself, or was locked [s]; None: it did not.
        stopped_at: when the motors last stopped [s].
        landed_since: since when it lies on the floor with its motors off [s]; None: it does not.
        end: the vehicle at the end.
    """

    moments: list[Moment] = field(default_factory=list)
    track: list[tuple[float, Mode, Array]] = field(default_factory=list)
    answer: tuple[float, str] | None = None
    impact: float = 0.0
    clearance: float = inf
    beyond: float = -inf
    died_at: float | None = None
    death: str = ""
    locked_at: float | None = None
    stopped_at: float | None = None
    landed_since: float | None = None
    end: Truth | None = None

    def add_step(self, step: Step, fault: str, pos: Array) -> None:
        """Take note of a control step."""
        moment = Moment(step.t, step.state.mode, step.source, step.verdict, step.state.failure, fault, step.missing)
        if not self.moments or replace(moment, t=self.moments[-1].t) != self.moments[-1]:
            self.moments.append(moment)
        self.track.append((step.t, step.state.mode, pos))


class WholeFlight:
    """One flight. The vehicle stands under the scene's start at first."""

    def __init__(self, policy: Policy, hover_policy: Policy, scene: Scene, seed: int, mishap: Mishap = NOTHING) -> None:
        """A flight that has not begun.

        Args:
            policy: flies to the goal.
            hover_policy: takes off and lands.
            scene: with obstacles that stand or move; they begin to with FLY.
            seed: of vehicle, gusts, sensor noise and packet losses.
            mishap: what goes wrong.
        """
        config = world_config()
        vehicle_rng, mocap_rng, gust_rng = (
            np.random.default_rng(s) for s in np.random.SeedSequence([seed, _STREAM]).spawn(3)
        )
        vehicle = Vehicle(draw_vehicle(vehicle_rng))
        vehicle.reset(scene.start * [1.0, 1.0, 0.0], float(vehicle_rng.uniform(-HEADING, HEADING)))
        crazyflie = VirtualCrazyflie(vehicle, force=GustForce(config.disturbances, gust_rng))
        self._crazyflie = FaultyCrazyflie(crazyflie, mishap.faults, seed)
        self._mocap = Mocap(config.mocap, mocap_rng)
        self._controller = LockstepController(self._crazyflie, policy, hover_policy, scene, mishap)
        self._scene, self._mishap = scene, mishap
        self._pose: MocapPose | None = None
        self._cloud: tuple[float, Array] | None = None
        self._ticks = 0
        self._moving_since: float | None = None
        self._turned = self._has_flown = self._requested = self._link_lost = False
        self._log = FlightLog()

    def fly(self) -> FlightLog:
        """From the first tick until the vehicle has come to rest, or the time is up."""
        while not self._is_over():
            self._tick()
        self._log.end = self._crazyflie.truth
        return self._log

    @property
    def _t(self) -> float:
        return self._ticks * TICK

    def _is_over(self) -> bool:
        since = self._log.landed_since
        began = self._has_flown or self._controller.mode in flight.FINAL
        return self._t >= TIME_LIMIT or (began and since is not None and self._t - since >= REST)

    def _tick(self) -> None:
        """The motion capture's turn, the controller's, then the vehicle's."""
        t, before = self._t, self._crazyflie.truth
        for pose in self._mishap.poses(t, self._mocap.step(t, before.pos, before.quat)):
            self._pose = pose  # a queue of one, as of the obstacles
        if self._ticks % round(OBSTACLE_PERIOD / TICK) == 0:
            cloud = self._mishap.obstacles(t, self._obstacles(t))
            self._cloud = self._cloud if cloud is None else (t + self._mishap.system_clock(t), cloud)
        if t not in self._mishap.paused and self._log.died_at is None:
            try:
                self._run_controller(t)
            except Exception as error:  # noqa: BLE001 - whatever it is, a process would end by it
                self._log.died_at, self._log.death = t, repr(error)
        self._ticks += 1
        self._controller.link.receive(self._crazyflie.advance(TICK))
        self._watch(before.vel)

    def _run_controller(self, t: float) -> None:
        controller, mishap = self._controller, self._mishap
        if t >= mishap.link_lost and not self._link_lost:
            self._link_lost = True
            controller.link.lose()
        controller.serve(t)
        if controller.is_idle(t):
            self._hand_over(t)
            step = controller.control(t)
            if step is not None:
                self._log.add_step(step, controller.vehicle.fault, self._crazyflie.truth.pos)
            if controller.mode is Mode.FLY and self._moving_since is None:
                self._moving_since = t
        controller.serve(t)

    def _hand_over(self, t: float) -> None:
        """What waits for the controller's control thread."""
        if self._pose is not None:
            pose, self._pose = self._pose, None
            self._controller.add_pose(pose._replace(stamp=pose.stamp + self._mishap.mocap_clock(pose.stamp)))
        if self._cloud is not None:
            cloud, self._cloud = self._cloud, None
            self._controller.add_obstacles(*cloud)
        request = self._mishap.request
        if request is not None and t >= request[1] and not self._requested:
            self._requested = True
            self._log.answer = t, self._controller.request(request[0]) or f"{request[0].value} requested"

    def _obstacles(self, t: float) -> Array:
        """Where they are (K, 7); they stand until the policy flies."""
        if self._moving_since is not None:
            return positions(self._scene, t - self._moving_since)
        resting = self._scene.obstacles.copy()
        resting[:, 4:] = 0.0
        return resting

    def _watch(self, vel_before: Array) -> None:
        """Take note of what the vehicle does after a tick that it began with the velocity ``vel_before`` (3,)."""
        truth, log = self._crazyflie.truth, self._log
        log.beyond = max(log.beyond, beyond_fence(truth.pos, controller_config().safety))
        if self._controller.mode is Mode.FLY:
            log.clearance = min(log.clearance, clearance(truth.pos, self._obstacles(self._t)))
        on_floor = float(truth.pos[2]) <= 0.0
        if on_floor:
            log.impact = max(log.impact, -float(vel_before[2]))
        else:
            self._has_flown = True
        if log.locked_at is None and self._crazyflie.bits & Bit.LOCKED:
            log.locked_at = self._t
        turns = bool(self._crazyflie.vehicle.motor_counts.any())
        if not turns and self._turned:
            log.stopped_at = self._t
        self._turned = turns
        rests = on_floor and not turns
        log.landed_since = None if not rests else self._t if log.landed_since is None else log.landed_since
