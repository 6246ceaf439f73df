"""Who flies, and what leaves: the policies, the last-resort filter, and the setpoint that their command becomes.

A policy may fail: give a command that is not finite, say that its solver failed, or raise. Then the last command is
flown again, and ``safety`` counts how often.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller import safety
from deq_mpc_controller.command_filter import CommandFilter, Filtered
from deq_mpc_controller.conversions import ThrustMap, command_from_rpyt, rpyt_from_command
from deq_mpc_controller.estimate import Estimate
from deq_mpc_controller.flight import FlightState, Mode, Reference, Source
from deq_mpc_controller.planned_inputs import planned_inputs
from deq_mpc_controller.settings import ControllerConfig
from deq_mpc_controller.surroundings import Surroundings
from deq_mpc_controller.vehicle_io import NO_COMMAND, Setpoint, SetpointKind
from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.policy.interface import Command, Observation, Policy, PolicyInfo, PolicyState
from deq_mpc_core.solver.solution import Status

Array = NDArray[np.float64]

_AVOIDING = frozenset({Source.POLICY, Source.HOLD})
"""Who keeps off obstacles."""


@dataclass(frozen=True)
class Outcome:
    """What a policy gave: its command, or the one flown in its stead.

    Attributes:
        command: to send.
        finite, solved: whether the policy's own was finite, and its solver content.
        error: that it raised, or "".
        info: of the policy; None if none flew.
        seconds: its computing time; 0 if none flew.
        filtered: what the command filter made of the command; None if it did not look at it.
    """

    command: Command = NO_COMMAND
    finite: bool = True
    solved: bool = True
    error: str = ""
    info: PolicyInfo | None = None
    seconds: float = 0.0
    filtered: Filtered | None = None

    @property
    def asked(self) -> bool:
        """Whether a policy was asked."""
        return self.info is not None or bool(self.error)

    @property
    def good(self) -> bool:
        """Whether the policy had a command to give."""
        return self.finite and self.solved and not self.error


class Commander:
    """The policies. It keeps a warm start, the last outcome and the filter's backup manoeuvre."""

    def __init__(self, policy: Policy, hover_policy: Policy, config: ControllerConfig, thrust_map: ThrustMap) -> None:
        """Nobody flies yet; see ``Pilot`` for the arguments."""
        self.last = Outcome()
        hovering = dict.fromkeys((Source.HOLD, Source.HOVER, Source.GROUND_HOVER), hover_policy)
        self._policies = {Source.POLICY: policy, **hovering}
        self._config = config
        self._thrust_map = thrust_map
        self._filter = CommandFilter(
            config.filter, config.safety.tilt_command_max, config.safety.thrust_command_min, thrust_map.force_max
        )
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
        self._filter.apply(0.0, command, x, np.zeros(3), obstacles, self._box(0.0))
        self._filter.reset()

    def act(
        self,
        reference: Reference,
        now: float,
        estimate: Estimate | None,
        world: Surroundings,
        home: Array | None,
        hover_thrust: float,
    ) -> Outcome:
        """The command of whoever flies at ``now`` [s]; ``home`` (3,): where it took off; ``hover_thrust``: in N."""
        outcome = self._fly(reference, now, estimate, world, home, hover_thrust)
        self.last = self._filtered(reference.source, outcome, now, estimate, world, home)
        return self.last

    def setpoint(self, state: FlightState, source: Source, estimate: Estimate | None, hover_thrust: float) -> Setpoint:
        """The last outcome as it will be sent, and what is planned after it."""
        if source is Source.EMERGENCY:
            return Setpoint(SetpointKind.EMERGENCY)
        if source is Source.OFF:
            return Setpoint(SetpointKind.OFF, arm=state.mode is Mode.ARMED)
        return Setpoint(
            SetpointKind.FLY,
            self._sendable(self.last.command),
            arm=True,
            plan=self._planned(source),
            spacing=self._policies[source].dt if source in self._policies else 0.0,
            hover=hover_thrust,
            stamp=None if estimate is None else estimate.t - estimate.age,
        )

    def _fly(
        self,
        reference: Reference,
        now: float,
        estimate: Estimate | None,
        world: Surroundings,
        home: Array | None,
        hover_thrust: float,
    ) -> Outcome:
        """The policy's outcome before the filter; without a policy a level descent, or nothing."""
        policy = self._policies.get(reference.source)
        if policy is None or estimate is None or reference.goal is None:
            self._warm = None
            descends = reference.source is Source.DESCEND
            return Outcome(self._descend(estimate, hover_thrust) if descends else NO_COMMAND)
        outcome = self._ask(
            policy,
            Observation(
                t=now,
                x=estimate.x,
                goal=reference.goal,
                obstacles=world.obstacles_at(now) if reference.source in _AVOIDING else np.zeros((0, 7)),
                model_params=estimate.model_params(),
                fence=None if reference.source is Source.POLICY else self._hover_fence(home),
            ),
        )
        command = outcome.command
        if not outcome.good:
            before = self.last.command
            command = before if before is not NO_COMMAND else self._descend(estimate, hover_thrust)
        if reference.source is Source.GROUND_HOVER:
            command = command._replace(roll=0.0, pitch=0.0, yaw_rate=0.0)
        return replace(outcome, command=command)

    def _ask(self, policy: Policy, observation: Observation) -> Outcome:
        """The policy's own answer; it begins anew after one that will not do."""
        warm = self._warm[1] if self._warm is not None and self._warm[0] is policy else None
        self._warm = None
        began = perf_counter()
        try:
            command, state, info = policy.step(observation, warm)
        except Exception as error:  # noqa: BLE001 - whatever a policy raises, somebody has to go on flying
            return Outcome(error=f"{type(error).__name__}: {error}", seconds=perf_counter() - began)
        seconds = perf_counter() - began
        solved = info.status != Status.NUMERICAL_FAILURE
        outcome = Outcome(command, safety.is_finite(command), solved, info=info, seconds=seconds)
        if outcome.good:
            self._warm = (policy, state)
        return outcome

    def _filtered(
        self,
        source: Source,
        outcome: Outcome,
        now: float,
        estimate: Estimate | None,
        world: Surroundings,
        home: Array | None,
    ) -> Outcome:
        """The outcome with its command through the last-resort filter, whoever flies.

        But for take-off and landing, which know no obstacles and have to touch the floor.
        """
        if source not in _AVOIDING or estimate is None or not self._config.filter.enabled:
            self._filter.reset()
            return outcome
        filtered = self._filter.apply(
            now,
            safety.limit_command(outcome.command, self._thrust_map.force_max, self._config.safety),
            estimate.x,
            estimate.disturbance,
            world.obstacles_at(now),
            self._box(0.0 if home is None else float(home[2])),
        )
        return replace(outcome, command=filtered.command, filtered=filtered)

    def _box(self, floor: float) -> tuple[Array, Array]:
        """Corners (3,) of where the policy may fly: the safety fence, and above the floor [m]."""
        low, high = np.array(self._config.safety.fence_low), np.array(self._config.safety.fence_high)
        low[2] = max(low[2], floor + self._config.filter.floor_height)
        return low, high

    def _hover_fence(self, home: Array | None) -> Array:
        """The safety fence, open to below the floor: what take-off and landing may use."""
        fence = np.array([self._config.safety.fence_low, self._config.safety.fence_high])
        if home is not None:
            fence[0, 2] = home[2] - self._config.flight.floor_margin
        return fence

    def _descend(self, estimate: Estimate | None, hover_thrust: float) -> Command:
        """Level, sinking at a constant speed as far as the prediction knows it; slightly below hover without one."""
        gravity, flight = cf.attitude_models().gravity, self._config.flight
        if estimate is None:
            return Command(0.0, 0.0, 0.0, self._config.link.level_thrust * hover_thrust)
        params = estimate.model_params()
        up = flight.descend_gain * (-flight.descend_speed - estimate.x[5])
        force = params[0] * min(max(up, -flight.descend_less * gravity), flight.descend_more * gravity)
        return Command(0.0, 0.0, 0.0, cf.hover_thrust(params) + force)

    def _planned(self, source: Source) -> tuple[Command, ...]:
        """The commands that the policy plans after its last; none where another command than its own is sent."""
        last = self.last
        own = last.good and (last.filtered is None or not last.filtered.intervened)
        if last.info is None or not own or source is Source.GROUND_HOVER or not np.isfinite(last.info.plan).all():
            return ()
        dt = self._policies[source].dt
        count = 2 + int(self._config.link.hold_time / dt)
        return tuple(self._sendable(command) for command in planned_inputs(last.info.plan, dt, count)[1:])

    def _sendable(self, command: Command) -> Command:
        """The command limited, and rounded to what the radio's integer carries."""
        limited = safety.limit_command(command, self._thrust_map.force_max, self._config.safety)
        return command_from_rpyt(rpyt_from_command(limited, self._thrust_map), self._thrust_map)
