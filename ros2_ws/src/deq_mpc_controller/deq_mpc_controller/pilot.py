"""The control step: estimate, safety, flight state, policy, setpoint.

No ROS, no radio and no clock: what flies is what campaigns and tests run in lockstep.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from time import perf_counter

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deq_mpc_controller import flight, hover_thrust, preflight, safety
from deq_mpc_controller.command_filter import CommandFilter, Filtered
from deq_mpc_controller.conversions import ThrustMap, command_from_rpyt, rpyt_from_command
from deq_mpc_controller.estimate import Estimate, Estimator, Gate
from deq_mpc_controller.flight import FlightInputs, FlightState, Mode, Reference, Request, Source
from deq_mpc_controller.manoeuvres import Manoeuvre
from deq_mpc_controller.mocap_monitor import MocapMonitor, MocapReport
from deq_mpc_controller.planned_inputs import planned_inputs
from deq_mpc_controller.preflight import Readiness
from deq_mpc_controller.response import AttitudeReference
from deq_mpc_controller.settings import ControllerConfig
from deq_mpc_controller.vehicle_io import NO_COMMAND, Setpoint, SetpointKind, VehicleStatus
from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.obstacles import extrapolate
from deq_mpc_core.policy.interface import Command, Observation, Policy, PolicyInfo, PolicyState
from deq_mpc_core.solver.solution import Status

Array = NDArray[np.float64]

_LEVEL_GAIN = 4.0
"""Blind descent: vertical acceleration per error of the vertical speed [1/s]."""
_CLOCK_STEP = 1.0
"""A pose so much older than the last one is not late: the clock of the motion capture was set [s]."""
_FLOOR_MARGIN = 0.5
"""How far below the take-off height the fence of take-off and landing reaches [m]."""


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


@dataclass(frozen=True)
class Step:
    """What one control step did.

    Attributes:
        t: when [s].
        setpoint: to send.
        state, verdict, estimate: flight state, safety verdict, vehicle state (None without one).
        source: who made the setpoint.
        info: of the policy; None if none flew.
        policy_seconds: its computing time; 0 if none flew.
        filtered: what the command filter made of the policy's command; None if it did not look at it.
        mocap: what the motion capture is worth.
        missing: what stands in the way of arming; see ``preflight.missing``.
        thrust: how much of the commanded thrust arrives.
    """

    t: float
    setpoint: Setpoint
    state: FlightState
    verdict: safety.Verdict
    estimate: Estimate | None
    source: Source
    info: PolicyInfo | None
    policy_seconds: float
    filtered: Filtered | None = None
    mocap: MocapReport = field(default_factory=MocapReport)
    missing: tuple[str, ...] = ()
    thrust: hover_thrust.ThrustFactor = field(default_factory=hover_thrust.ThrustFactor)


@dataclass(frozen=True)
class _Outcome:
    """What a policy gave: its command, or the one flown in its stead."""

    command: Command = NO_COMMAND
    finite: bool = True
    solved: bool = True
    info: PolicyInfo | None = None
    seconds: float = 0.0
    filtered: Filtered | None = None


class Pilot:
    """Connects the flight side's parts. It keeps their states: estimator, flight, safety memory and a warm start."""

    def __init__(
        self,
        policy: Policy,
        hover_policy: Policy,
        config: ControllerConfig,
        thrust_map: ThrustMap,
        auto: bool = False,
        state: FlightState | None = None,
    ) -> None:
        """A pilot on the ground, or wherever ``state`` says.

        Args:
            policy: flies to the goal.
            hover_policy: takes off, hovers and lands; the straight-line one.
            config: constants.
            thrust_map: of the vehicle.
            auto: one flight to the goal and down, without any request.
            state: where the flight stands.
        """
        self.estimator = Estimator(config.estimator)
        self.state = state or FlightState()
        self._policies = {Source.POLICY: policy, Source.HOVER: hover_policy, Source.GROUND_HOVER: hover_policy}
        self._config = config
        self._thrust_map = thrust_map
        self._auto = auto
        self._filter = CommandFilter(
            config.filter, config.safety.tilt_command_max, config.safety.thrust_command_min, thrust_map.force_max
        )
        self._mocap = MocapMonitor()
        self._response = AttitudeReference()
        self._thrust = hover_thrust.ThrustFactor()
        self._memory = safety.Memory()
        self._last = _Outcome()
        self._warm: tuple[Policy, PolicyState] | None = None

    def warm_up(self) -> None:
        """Run every policy once: compiles what is compiled on first use."""
        x = np.zeros(cf.NX)
        x[2], x[cf.THRUST] = 1.0, cf.hover_thrust()
        obstacles = np.array([[5.0, 5.0, 1.0, 0.1, 0.0, 0.0, 0.0]])
        for policy in dict.fromkeys(self._policies.values()):
            state: PolicyState | None = None
            for t in (0.0, 0.01):
                command, state, _ = policy.step(Observation(t, x, np.array([0.5, 0.0, 1.0]), obstacles), state)
        self._filter.apply(0.0, command, x, np.zeros(3), obstacles, self._box())
        self._filter.reset()

    def add_pose(self, stamp: float, pos: ArrayLike, quat: ArrayLike, received: float) -> Gate:
        """A mocap pose, see ``Estimator.add_pose``.

        On the ground a jump is a vehicle put elsewhere, and a stamp far back a clock that was set: start anew.
        """
        before = self.estimator.stamp
        gate = self.estimator.add_pose(stamp, pos, quat, received)
        set_back = gate is Gate.OUT_OF_ORDER and before is not None and stamp < before - _CLOCK_STEP
        if (gate is Gate.JUMP or set_back) and self.state.mode in (Mode.IDLE, Mode.READY):
            self.estimator.reset()
            gate = self.estimator.add_pose(stamp, pos, quat, received)
        self._mocap.add(stamp, received, gate)
        return gate

    def step(
        self,
        now: float,
        world: Surroundings,
        vehicle: VehicleStatus,
        requests: frozenset[Request] = frozenset(),
        late: bool = False,
        manoeuvre: Manoeuvre | None = None,
    ) -> Step:
        """One control step at ``now`` [s]; ``late``: the last one missed its deadline; ``manoeuvre``: of a request."""
        estimate = self.estimator.estimate(now)
        mocap = self._mocap.report(now)
        verdict, missing = self._judge(self._facts(now, estimate, vehicle, world, mocap, late), vehicle, world, mocap)
        goal = world.goal if world.obstacles_known or not self._auto else None
        self.state = flight.advance(
            self.state,
            FlightInputs(
                t=now,
                pos=None if estimate is None else estimate.x[cf.POS],
                vel=None if estimate is None else estimate.x[cf.VEL],
                ready=not missing,
                armed=vehicle.armed,
                action=verdict.action,
                reason=verdict.reason.value,
                requests=requests,
                manoeuvre=manoeuvre or Manoeuvre(),
                goal=goal,
                start=world.start,
                auto=self._auto,
            ),
            self._config.flight,
        )
        self.estimator.grounded = not self.state.airborne
        if estimate is not None:
            self._thrust = hover_thrust.observe(self._thrust, estimate, self.state.airborne, self._config.hover_thrust)
        reference = flight.reference(self.state, now, goal, self._config.flight)
        self._last = last = self._filtered(
            reference.source, self._act(reference, now, estimate, world), now, estimate, world
        )
        setpoint = self._setpoint(reference.source, last, estimate)
        self.estimator.add_command(now, setpoint.command)
        self._response.send(now, setpoint.command)
        if not self.state.airborne:
            self._response.reset()
        return Step(
            t=now,
            setpoint=setpoint,
            state=self.state,
            verdict=verdict,
            estimate=estimate,
            source=reference.source,
            info=last.info,
            policy_seconds=last.seconds,
            filtered=last.filtered,
            mocap=mocap,
            missing=missing,
            thrust=self._thrust,
        )

    def _facts(
        self,
        now: float,
        estimate: Estimate | None,
        vehicle: VehicleStatus,
        world: Surroundings,
        mocap: MocapReport,
        late: bool,
    ) -> safety.Facts:
        """The facts of this step, and of the policy's last one."""
        filtered = self._last.filtered
        facts = safety.Facts(
            t=now,
            pose_rejects=mocap.rejects,
            link_age=vehicle.age,
            voltage=vehicle.voltage,
            vehicle_fault=bool(vehicle.fault),
            command_finite=self._last.finite,
            solver_ok=self._last.solved,
            late=late,
            margin=inf if filtered is None else filtered.margin,
            overruled=filtered is not None and filtered.intervened,
        )
        if estimate is None:
            return facts
        x, avoiding = estimate.x, filtered is not None
        return replace(
            facts,
            pose_age=estimate.age,
            attitude_age=estimate.attitude_age,
            pos=x[cf.POS],
            vel=x[cf.VEL],
            rpy=x[cf.RPY],
            attitude_error=self._response.error(x[cf.RPY]),
            disturbance=float(np.max(np.abs(estimate.disturbance))),
            clearance=_clearance(x[cf.POS], world.obstacles_at(now)) if avoiding else inf,
        )

    def _judge(
        self, facts: safety.Facts, vehicle: VehicleStatus, world: Surroundings, mocap: MocapReport
    ) -> tuple[safety.Verdict, tuple[str, ...]]:
        """Safety verdict, and what is missing for arming on the ground."""
        config = self._config
        self._memory = safety.remember(self._memory, facts, config.safety)
        if self.state.mode in flight.IN_FLIGHT:
            return safety.check(facts, self._memory, config.safety), ()
        ready = Readiness(
            vehicle=vehicle,
            mocap=mocap,
            pos=facts.pos,
            rpy=facts.rpy,
            attitude_age=facts.attitude_age,
            obstacles_wanted=self._auto,
            obstacles_known=world.obstacles_known,
        )
        missing = preflight.missing(ready, config.preflight, config.safety)
        return safety.Verdict(safety.Action.STOP, safety.Reason.PREFLIGHT) if missing else safety.NOMINAL, missing

    def _act(self, reference: Reference, now: float, estimate: Estimate | None, world: Surroundings) -> _Outcome:
        """The command of whoever flies."""
        policy = self._policies.get(reference.source)
        if policy is None or estimate is None or reference.goal is None:
            self._warm = None
            command = self._descend(estimate) if reference.source is Source.DESCEND else NO_COMMAND
            return _Outcome(command)
        hovering = reference.source is not Source.POLICY
        observation = Observation(
            t=now,
            x=estimate.x,
            goal=reference.goal,
            obstacles=np.zeros((0, 7)) if hovering else world.obstacles_at(now),
            model_params=estimate.model_params(),
            fence=self._hover_fence() if hovering else None,
        )
        warm = self._warm[1] if self._warm is not None and self._warm[0] is policy else None
        began = perf_counter()
        command, state, info = policy.step(observation, warm)
        seconds = perf_counter() - began
        finite, solved = safety.is_finite(command), info.status != Status.NUMERICAL_FAILURE
        if not (finite and solved):  # fly on with the last command; safety counts how often
            self._warm = None
            command = self._last.command if self._last.command is not NO_COMMAND else self._descend(estimate)
        else:
            self._warm = (policy, state)
        if reference.source is Source.GROUND_HOVER:
            command = command._replace(roll=0.0, pitch=0.0, yaw_rate=0.0)
        return _Outcome(command, finite, solved, info, seconds)

    def _filtered(
        self, source: Source, outcome: _Outcome, now: float, estimate: Estimate | None, world: Surroundings
    ) -> _Outcome:
        """The outcome with its command through the last-resort filter, if it is the policy's that flies to the goal.

        Take-off and landing know no obstacles and have to touch the floor; they are the hover policy's.
        """
        if source is not Source.POLICY or estimate is None or not self._config.filter.enabled:
            self._filter.reset()
            return outcome
        safe = self._config.safety
        filtered = self._filter.apply(
            now,
            safety.limit_command(outcome.command, self._thrust_map.force_max, safe),
            estimate.x,
            estimate.disturbance,
            world.obstacles_at(now),
            self._box(),
        )
        return replace(outcome, command=filtered.command, filtered=filtered)

    def _box(self) -> tuple[Array, Array]:
        """Corners (3,) of where the policy may fly: the safety fence, and above the floor."""
        low, high = np.array(self._config.safety.fence_low), np.array(self._config.safety.fence_high)
        floor = 0.0 if self.state.home is None else float(self.state.home[2])
        low[2] = max(low[2], floor + self._config.filter.floor_height)
        return low, high

    def _descend(self, estimate: Estimate | None) -> Command:
        """Level, sinking at a constant speed as far as the prediction knows it; slightly below hover without one."""
        gravity = cf.attitude_models().gravity
        if estimate is None:
            return Command(0.0, 0.0, 0.0, 0.9 * self._thrust.hover_thrust)
        params = estimate.model_params()
        up = _LEVEL_GAIN * (-self._config.flight.descend_speed - estimate.x[5])
        force = params[0] * min(max(up, -0.4 * gravity), 0.2 * gravity)
        return Command(0.0, 0.0, 0.0, cf.hover_thrust(params) + force)

    def _hover_fence(self) -> Array:
        """The safety fence, open to below the floor: what take-off and landing may use."""
        config = self._config.safety
        fence = np.array([config.fence_low, config.fence_high])
        if self.state.home is not None:
            fence[0, 2] = self.state.home[2] - _FLOOR_MARGIN
        return fence

    def _setpoint(self, source: Source, outcome: _Outcome, estimate: Estimate | None) -> Setpoint:
        """The setpoint: its command as it will be sent, and what is planned after it."""
        if source is Source.EMERGENCY:
            return Setpoint(SetpointKind.EMERGENCY)
        if source is Source.OFF:
            return Setpoint(SetpointKind.OFF, arm=self.state.mode is Mode.ARMED)
        return Setpoint(
            SetpointKind.FLY,
            self._sendable(outcome.command),
            arm=True,
            plan=self._planned(source, outcome),
            spacing=self._policies[source].dt if source in self._policies else 0.0,
            hover=self._thrust.hover_thrust,
            stamp=None if estimate is None else estimate.t - estimate.age,
        )

    def _planned(self, source: Source, outcome: _Outcome) -> tuple[Command, ...]:
        """The commands that the policy plans after this one; none where another command than its own is sent."""
        own = outcome.finite and outcome.solved and (outcome.filtered is None or not outcome.filtered.intervened)
        if outcome.info is None or not own or source is Source.GROUND_HOVER or not np.isfinite(outcome.info.plan).all():
            return ()
        dt = self._policies[source].dt
        count = 2 + int(self._config.link.hold_time / dt)
        return tuple(self._sendable(command) for command in planned_inputs(outcome.info.plan, dt, count)[1:])

    def _sendable(self, command: Command) -> Command:
        """The command limited, and rounded to what the radio's integer carries."""
        limited = safety.limit_command(command, self._thrust_map.force_max, self._config.safety)
        return command_from_rpyt(rpyt_from_command(limited, self._thrust_map), self._thrust_map)


def _clearance(pos: Array, obstacles: Array) -> float:
    """Distance [m] from ``pos`` (3,) to the nearest surface of the obstacles (K, 7); infinity without any."""
    if len(obstacles) == 0:
        return inf
    return float(np.min(np.sqrt(np.sum((obstacles[:, :3] - pos) ** 2, axis=1)) - obstacles[:, 3]))
