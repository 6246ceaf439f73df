"""Safety: pure checks of one control step, and the limits of a command.

``check`` looks at the facts of a step and gives the gravest verdict; what must last before it counts is kept in an
explicit memory. A verdict says what the flight must do, not how: that is ``flight.py`` and ``pilot.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from math import inf, isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller.units import AngularRate, Metre, Metres3, Newton, Radian, Second, Volt
from deq_mpc_core.config import Config
from deq_mpc_core.policy.interface import Command

Array = NDArray[np.float64]


class SafetyConfig(Config):
    """``safety`` in ``config/controller.yaml``."""

    pose_warn: Second
    pose_descend: Second
    pose_stop: Second
    link_land: Second
    link_stop: Second
    fence_low: Metres3
    fence_high: Metres3
    fence_stop: Metre
    tilt_stop: Radian
    tilt_time: Second
    battery_arm: Volt
    battery_warn: Volt
    battery_land: Volt
    battery_time: Second
    bad_steps_land: int
    bad_steps_descend: int
    late_steps_land: int
    tilt_command_max: Radian
    yaw_rate_command_max: AngularRate
    thrust_command_min: Newton


class Action(IntEnum):
    """What the flight must do, in order of gravity."""

    NONE = 0
    WARN = 1
    LAND = 2
    """Land under position control."""
    DESCEND = 3
    """Level out and descend: the position is not known, or no controller answers."""
    STOP = 4
    """Motors off."""


class Reason(Enum):
    """Why."""

    NOMINAL = "nominal"
    POSE = "no mocap pose"
    LINK = "no word from the vehicle"
    VEHICLE = "the vehicle reports a fault"
    FENCE = "outside the geofence"
    TILT = "tilted too far"
    BATTERY = "battery low"
    COMMAND = "the policy's command is not finite"
    SOLVER = "the solver failed"
    DEADLINE = "control steps too late"


class Verdict(NamedTuple):
    """Action and reason."""

    action: Action
    reason: Reason


NOMINAL = Verdict(Action.NONE, Reason.NOMINAL)


@dataclass(frozen=True)
class Facts:
    """What is known at a control step.

    Attributes:
        t: now [s].
        pose_age: since the last accepted pose [s].
        pos, rpy: (3,) of the estimate [m, rad]; None without one.
        link_age: since the vehicle's last report [s].
        voltage: of its battery, loaded [V].
        vehicle_fault: whether it reports that it cannot fly.
        command_finite, solver_ok: of the last policy step.
        late: whether the last control step missed its deadline.
    """

    t: float
    pose_age: float = inf
    pos: Array | None = None
    rpy: Array | None = None
    link_age: float = inf
    voltage: float = 0.0
    vehicle_fault: bool = False
    command_finite: bool = True
    solver_ok: bool = True
    late: bool = False


@dataclass(frozen=True)
class Memory:
    """Since when, or for how many steps in a row, something has been so."""

    tilted_since: float | None = None
    battery_low_since: float | None = None
    not_finite: int = 0
    solver_failures: int = 0
    late: int = 0


def remember(memory: Memory, facts: Facts, config: SafetyConfig) -> Memory:
    """The memory after a step with these facts."""
    tilted = facts.rpy is not None and max(abs(facts.rpy[0]), abs(facts.rpy[1])) > config.tilt_stop
    battery_low = facts.voltage < config.battery_land and isfinite(facts.link_age)
    return replace(
        memory,
        tilted_since=_since(memory.tilted_since, facts.t) if tilted else None,
        battery_low_since=_since(memory.battery_low_since, facts.t) if battery_low else None,
        not_finite=0 if facts.command_finite else memory.not_finite + 1,
        solver_failures=0 if facts.solver_ok else memory.solver_failures + 1,
        late=memory.late + 1 if facts.late else 0,
    )


def check(facts: Facts, memory: Memory, config: SafetyConfig) -> Verdict:
    """The gravest verdict on a vehicle in the air; ``memory`` already knows these facts."""
    verdicts = (
        _check_vehicle(facts),
        _check_pose(facts, config),
        _check_link(facts, config),
        _check_fence(facts, config),
        _check_tilt(facts, memory, config),
        _check_bad_steps(memory.not_finite, Reason.COMMAND, config),
        _check_bad_steps(memory.solver_failures, Reason.SOLVER, config),
        _check_battery(facts, memory, config),
        _check_deadline(memory, config),
    )
    return max(verdicts, key=lambda verdict: verdict.action)


def may_arm(facts: Facts, config: SafetyConfig) -> Verdict:
    """NOMINAL if a vehicle on the ground may start its motors, else the first reason against it."""
    if facts.vehicle_fault:
        return Verdict(Action.STOP, Reason.VEHICLE)
    if facts.link_age > config.link_land:
        return Verdict(Action.STOP, Reason.LINK)
    if facts.pos is None or facts.pose_age > config.pose_warn:
        return Verdict(Action.STOP, Reason.POSE)
    if facts.voltage < config.battery_arm:
        return Verdict(Action.STOP, Reason.BATTERY)
    if _beyond_fence(facts.pos, config) > 0.0:
        return Verdict(Action.STOP, Reason.FENCE)
    if facts.rpy is not None and max(abs(facts.rpy[0]), abs(facts.rpy[1])) > config.tilt_command_max:
        return Verdict(Action.STOP, Reason.TILT)
    return NOMINAL


def limit_command(command: Command, thrust_max: float, config: SafetyConfig) -> Command:
    """The nearest command within the limits; ``thrust_max`` [N] is the platform's. The command must be finite."""
    tilt, turn = config.tilt_command_max, config.yaw_rate_command_max
    return Command(
        roll=min(max(command.roll, -tilt), tilt),
        pitch=min(max(command.pitch, -tilt), tilt),
        yaw_rate=min(max(command.yaw_rate, -turn), turn),
        thrust=min(max(command.thrust, config.thrust_command_min), thrust_max),
    )


def is_finite(command: Command) -> bool:
    """Whether all of a command's values are finite."""
    return all(isfinite(value) for value in command)


def _since(before: float | None, t: float) -> float:
    return t if before is None else before


def _check_vehicle(facts: Facts) -> Verdict:
    return Verdict(Action.STOP, Reason.VEHICLE) if facts.vehicle_fault else NOMINAL


def _check_pose(facts: Facts, config: SafetyConfig) -> Verdict:
    age = facts.pose_age if facts.pos is not None else inf
    if age > config.pose_stop:
        return Verdict(Action.STOP, Reason.POSE)
    if age > config.pose_descend:
        return Verdict(Action.DESCEND, Reason.POSE)
    return Verdict(Action.WARN, Reason.POSE) if age > config.pose_warn else NOMINAL


def _check_link(facts: Facts, config: SafetyConfig) -> Verdict:
    if facts.link_age > config.link_stop:
        return Verdict(Action.STOP, Reason.LINK)
    return Verdict(Action.LAND, Reason.LINK) if facts.link_age > config.link_land else NOMINAL


def _beyond_fence(pos: Array, config: SafetyConfig) -> float:
    """Distance by which a position is outside the fence along its worst axis [m]; negative inside; NaN is outside."""
    beyond = float(np.max(np.maximum(pos - np.array(config.fence_high), np.array(config.fence_low) - pos)))
    return beyond if isfinite(beyond) else inf


def _check_fence(facts: Facts, config: SafetyConfig) -> Verdict:
    if facts.pos is None:
        return NOMINAL
    beyond = _beyond_fence(facts.pos, config)
    if beyond > config.fence_stop:
        return Verdict(Action.STOP, Reason.FENCE)
    return Verdict(Action.LAND, Reason.FENCE) if beyond > 0.0 else NOMINAL


def _check_tilt(facts: Facts, memory: Memory, config: SafetyConfig) -> Verdict:
    too_long = memory.tilted_since is not None and facts.t - memory.tilted_since > config.tilt_time
    return Verdict(Action.STOP, Reason.TILT) if too_long else NOMINAL


def _check_bad_steps(count: int, reason: Reason, config: SafetyConfig) -> Verdict:
    if count >= config.bad_steps_descend:
        return Verdict(Action.DESCEND, reason)
    if count >= config.bad_steps_land:
        return Verdict(Action.LAND, reason)
    return Verdict(Action.WARN, reason) if count > 0 else NOMINAL


def _check_battery(facts: Facts, memory: Memory, config: SafetyConfig) -> Verdict:
    if memory.battery_low_since is not None and facts.t - memory.battery_low_since > config.battery_time:
        return Verdict(Action.LAND, Reason.BATTERY)
    return Verdict(Action.WARN, Reason.BATTERY) if facts.voltage < config.battery_warn else NOMINAL


def _check_deadline(memory: Memory, config: SafetyConfig) -> Verdict:
    if memory.late >= config.late_steps_land:
        return Verdict(Action.LAND, Reason.DEADLINE)
    return Verdict(Action.WARN, Reason.DEADLINE) if memory.late > 0 else NOMINAL
