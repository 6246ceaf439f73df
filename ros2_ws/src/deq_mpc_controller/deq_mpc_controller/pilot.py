"""The control step: estimate, safety, flight state, policy, setpoint.

No ROS, no radio and no clock: what flies is what campaigns and tests run in lockstep.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deq_mpc_controller import flight, hover_thrust, preflight, safety
from deq_mpc_controller.command_filter import Filtered
from deq_mpc_controller.commander import Commander
from deq_mpc_controller.conversions import ThrustMap
from deq_mpc_controller.estimate import Estimate, Estimator, Gate
from deq_mpc_controller.flight import FlightInputs, FlightState, Mode, Request, Source
from deq_mpc_controller.manoeuvres import Manoeuvre
from deq_mpc_controller.mocap_monitor import MocapMonitor, MocapReport
from deq_mpc_controller.preflight import Readiness
from deq_mpc_controller.response import AttitudeReference
from deq_mpc_controller.setpoint_stream import Sent
from deq_mpc_controller.settings import ControllerConfig
from deq_mpc_controller.surroundings import Surroundings
from deq_mpc_controller.vehicle_io import Setpoint, VehicleStatus
from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.policy.interface import Policy, PolicyInfo

Array = NDArray[np.float64]


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
        policy_error: that it raised, or "".
        filtered: what the command filter made of the policy's command; None if it did not look at it.
        mocap: what the motion capture is worth.
        missing, advice: what stands in the way of arming, and what should be known before; see ``preflight``.
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
    policy_error: str = ""
    filtered: Filtered | None = None
    mocap: MocapReport = field(default_factory=MocapReport)
    missing: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    thrust: hover_thrust.ThrustFactor = field(default_factory=hover_thrust.ThrustFactor)


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
        place: Array | None = None,
    ) -> None:
        """A pilot on the ground, or wherever ``state`` says.

        Args:
            policy: flies to the goal.
            hover_policy: takes off, hovers and lands; the straight-line one.
            config: constants.
            thrust_map: of the vehicle.
            auto: one flight to the goal and down, without any request.
            state: where the flight stands.
            place: (3,) where the vehicle is said to stand before its first flight [m].
        """
        self.estimator = Estimator(config.estimator)
        self.state = state or FlightState()
        self._arms_itself = thrust_map.arms_itself
        self._commander = Commander(policy, hover_policy, config, thrust_map)
        self._config = config
        self._auto = auto
        self._place = place
        margin = np.full(3, config.filter.fence_margin)
        self._box = np.array([config.safety.fence_low + margin, config.safety.fence_high - margin])
        self._mocap = MocapMonitor(config.safety.pose_warn)
        self._response = AttitudeReference()
        self._thrust = hover_thrust.ThrustFactor()
        self._memory = safety.Memory()
        self._sent = Sent()

    def warm_up(self) -> None:
        """Run every policy once: compiles what is compiled on first use."""
        self._commander.warm_up()

    def add_pose(self, stamp: float, pos: ArrayLike, quat: ArrayLike, received: float) -> Gate:
        """A mocap pose, see ``Estimator.add_pose``.

        On the ground a jump is a vehicle put elsewhere, and a stamp far back a clock that was set: start anew.
        """
        self._catch_up(received)
        before = self.estimator.stamp
        gate = self.estimator.add_pose(stamp, pos, quat, received)
        # A pose so much older than the last one is not late: the clock of the motion capture was set.
        set_back = gate is Gate.OUT_OF_ORDER and before is not None and stamp < before - self._config.safety.pose_stop
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
        self._catch_up(now)
        estimate = self.estimator.estimate(now)
        mocap = self._mocap.report(now)
        facts = self._facts(now, estimate, vehicle, world, mocap, late)
        in_flight = self.state.mode in flight.IN_FLIGHT
        ready = None if in_flight else self._readiness(facts, vehicle, world, mocap)
        verdict, missing = self._judge(facts, ready)
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
                box=self._box,
            ),
            self._config.flight,
        )
        if self.state.mode is Mode.READY:
            self._place = None  # it was there; from now on it may be carried, or land, elsewhere
        self.estimator.grounded = not self.state.airborne
        if estimate is not None:
            self._thrust = hover_thrust.observe(self._thrust, estimate, self.state.airborne, self._config.hover_thrust)
        reference = flight.reference(self.state, now, goal, self._config.flight)
        hover = self._thrust.hover_thrust
        last = self._commander.act(reference, now, estimate, world, self.state.home, hover)
        setpoint = self._commander.setpoint(self.state, reference.source, estimate, hover)
        self._sent = Sent(now, setpoint)
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
            policy_error=last.error,
            filtered=last.filtered,
            mocap=mocap,
            missing=missing,
            advice=() if ready is None else preflight.advice(ready),
            thrust=self._thrust,
        )

    def _catch_up(self, now: float) -> None:
        """Tell estimator and reference what the link has sent by itself since the last setpoint, if a step is late."""
        self._sent, stream = self._sent.until(now, self._config.link)
        for stamp, command in stream:
            self.estimator.add_command(stamp, command)
            self._response.send(stamp, command)

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
        last = self._commander.last
        filtered = last.filtered
        facts = safety.Facts(
            t=now,
            pose_rejects=mocap.rejects,
            link_age=vehicle.age,
            voltage=vehicle.voltage,
            link_lost=vehicle.lost,
            link_stopped=vehicle.stopped,
            vehicle_fault=bool(vehicle.fault),
            command_finite=last.finite,
            solver_ok=last.solved,
            policy_ok=not last.error,
            policy_asked=last.asked,
            late=late,
            margin=inf if filtered is None else filtered.margin,
            overruled=filtered is not None and filtered.intervened,
        )
        if estimate is None:
            return facts
        x, avoiding = estimate.x, self.state.mode is Mode.FLY
        return replace(
            facts,
            pose_age=estimate.age,
            attitude_age=estimate.attitude_age,
            pos=x[cf.POS],
            vel=x[cf.VEL],
            rpy=x[cf.RPY],
            attitude_error=self._response.error(x[cf.RPY]),
            disturbance=float(np.max(np.abs(estimate.disturbance))),
            clearance=world.clearance(now, x[cf.POS]) if avoiding else inf,
            obstacle_age=world.motion_age(now) if avoiding else 0.0,
        )

    def _readiness(
        self, facts: safety.Facts, vehicle: VehicleStatus, world: Surroundings, mocap: MocapReport
    ) -> Readiness:
        """What the pre-flight check looks at."""
        return Readiness(
            vehicle=vehicle,
            mocap=mocap,
            pos=facts.pos,
            rpy=facts.rpy,
            attitude_age=facts.attitude_age,
            obstacles_wanted=self._auto,
            obstacles_known=world.obstacles_known,
            obstacle_age=world.motion_age(facts.t),
            arms_itself=self._arms_itself,
            place=self._place,
        )

    def _judge(self, facts: safety.Facts, ready: Readiness | None) -> tuple[safety.Verdict, tuple[str, ...]]:
        """Safety verdict, and what is missing for arming; ``ready``: on the ground."""
        config = self._config
        self._memory = safety.remember(self._memory, facts, config.safety)
        if ready is None:
            return safety.check(facts, self._memory, config.safety), ()
        missing = preflight.missing(ready, config.preflight, config.safety)
        return safety.Verdict(safety.Action.STOP, safety.Reason.PREFLIGHT) if missing else safety.NOMINAL, missing
