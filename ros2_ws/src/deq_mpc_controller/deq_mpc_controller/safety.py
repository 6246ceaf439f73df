"""Safety: pure checks of one control step, and the limits of a command.

``check`` looks at the facts of a step in the air and gives the gravest verdict; what must last before it counts is
kept in an explicit memory. A verdict says what the flight must do, not how: that is ``flight.py`` and ``pilot.py``.
What must be good on the ground is in ``preflight.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from math import acos, cos, inf, isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller.units import (
    Acceleration,
    AngularRate,
    Metre,
    Metres3,
    Newton,
    Number,
    Radian,
    Second,
    Speed,
    Volt,
)
from deq_mpc_core.config import Config
from deq_mpc_core.policy.interface import Command

Array = NDArray[np.float64]

MAX_OBSTACLES = 500
"""More in one message are a mistake, and would make every control step late."""


class SafetyConfig(Config):
    """``safety`` in ``config/controller.yaml``."""

    pose_warn: Second
    pose_descend: Second
    pose_stop: Second
    attitude_land: Second
    rejects_warn: Number
    rejects_land: Number
    link_land: Second
    fence_low: Metres3
    fence_high: Metres3
    fence_stop: Metre
    tilt_stop: Radian
    tilt_time: Second
    tumble_tilt: Radian
    response_angle: Radian
    response_time: Second
    disturbance_land: Acceleration
    disturbance_time: Second
    speed_land: Speed
    speed_time: Second
    obstacle_time: Second
    obstacle_age: Second
    battery_warn: Volt
    battery_land: Volt
    battery_time: Second
    late_time: Second
    bad_steps_land: int
    bad_steps_descend: int
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
    PREFLIGHT = "not ready to fly"
    POSE = "no mocap pose"
    ATTITUDE = "no attitude from the mocap"
    REJECTS = "mocap poses are refused"
    LINK = "no word from the vehicle"
    LOST = "the link is lost; the vehicle's firmware levels out and stops its motors"
    SILENCE = "the controller was silent; the link has stopped the motors"
    VEHICLE = "the vehicle reports a fault"
    FENCE = "outside the geofence"
    TILT = "tilted too far"
    TUMBLE = "tumbled"
    RESPONSE = "does not follow its commands: motor, propeller or firmware"
    DISTURBANCE = "thrust or mass are not the model's"
    SPEED = "too fast"
    OBSTACLE = "inside an obstacle"
    OBSTACLE_AGE = "no news of obstacles that move"
    PROXIMITY = "no command keeps clear of obstacles and fence"
    FILTER = "the command filter overrules the policy"
    BATTERY = "battery low"
    COMMAND = "the policy's command is not finite"
    POLICY = "the policy raised an error"
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
        pose_age, attitude_age: since the last accepted pose, and the last with an attitude [s].
        pose_rejects: share of the latest poses that the estimator refused.
        pos, vel, rpy: (3,) of the estimate [m, m/s, rad]; None without one.
        attitude_error: between its roll and pitch and those that its commands must have led to [rad].
        disturbance: largest component of the estimated one [m/s^2].
        clearance: distance from the nearest obstacle's surface, where obstacles are to be avoided [m].
        obstacle_age: since the last news of obstacles that move, where they are to be avoided [s].
        margin: of the command filter, see ``command_filter.Filtered`` [m]; overruled: whether it changed the command.
        link_age: since the vehicle's last report [s].
        voltage: of its battery, loaded [V].
        link_lost: whether nothing that is sent arrives any more.
        link_stopped: whether the link has stopped the motors for want of setpoints.
        vehicle_fault: whether it reports that it cannot fly.
        command_finite, solver_ok, policy_ok: of the last policy step; the last: it raised no error.
        policy_asked: whether there was one.
        late: whether the last control step missed its deadline.
    """

    t: float
    pose_age: float = inf
    attitude_age: float = 0.0
    pose_rejects: float = 0.0
    pos: Array | None = None
    vel: Array | None = None
    rpy: Array | None = None
    attitude_error: float = 0.0
    disturbance: float = 0.0
    clearance: float = inf
    obstacle_age: float = 0.0
    margin: float = inf
    overruled: bool = False
    link_age: float = inf
    voltage: float = 0.0
    link_lost: bool = False
    link_stopped: bool = False
    vehicle_fault: bool = False
    command_finite: bool = True
    solver_ok: bool = True
    policy_ok: bool = True
    policy_asked: bool = True
    late: bool = False


@dataclass(frozen=True)
class Memory:
    """Since when, or for how many steps in a row, something has been so."""

    tilted_since: float | None = None
    astray_since: float | None = None
    disturbed_since: float | None = None
    fast_since: float | None = None
    inside_since: float | None = None
    battery_low_since: float | None = None
    not_finite: int = 0
    solver_failures: int = 0
    policy_errors: int = 0
    late_since: float | None = None


def remember(memory: Memory, facts: Facts, config: SafetyConfig) -> Memory:
    """The memory after a step with these facts."""
    speed = 0.0 if facts.vel is None else float(np.linalg.norm(facts.vel))
    battery_low = facts.voltage < config.battery_land and isfinite(facts.link_age)
    return replace(
        memory,
        tilted_since=_since(memory.tilted_since, facts.t, _tilt(facts) > config.tilt_stop),
        astray_since=_since(memory.astray_since, facts.t, not facts.attitude_error <= config.response_angle),
        disturbed_since=_since(memory.disturbed_since, facts.t, not facts.disturbance <= config.disturbance_land),
        fast_since=_since(memory.fast_since, facts.t, not speed <= config.speed_land),
        inside_since=_since(memory.inside_since, facts.t, facts.clearance < 0.0),
        battery_low_since=_since(memory.battery_low_since, facts.t, battery_low),
        not_finite=_count(memory.not_finite, facts, facts.command_finite),
        solver_failures=_count(memory.solver_failures, facts, facts.solver_ok),
        policy_errors=_count(memory.policy_errors, facts, facts.policy_ok),
        late_since=_since(memory.late_since, facts.t, facts.late),
    )


def check(facts: Facts, memory: Memory, config: SafetyConfig) -> Verdict:
    """The gravest verdict on a vehicle in the air; ``memory`` already knows these facts."""
    verdicts = (
        _check_vehicle(facts),
        _check_pose(facts, config),
        _check_attitude(facts, config),
        _check_link(facts, config),
        _check_fence(facts, config),
        _check_tumble(facts, config),
        *_check_lasting(facts.t, memory, config),
        _check_bad_steps(memory.not_finite, Reason.COMMAND, config),
        _check_bad_steps(memory.solver_failures, Reason.SOLVER, config),
        _check_bad_steps(memory.policy_errors, Reason.POLICY, config),
        _check_battery(facts, config),
        _check_deadline(memory),
        _check_obstacles(facts, config),
        _check_filter(facts),
    )
    return max(verdicts, key=lambda verdict: verdict.action)


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


def goal_refusal(goal: Array, config: SafetyConfig) -> str:
    """Why nobody flies to a goal (3,); "" if it will do."""
    if not np.isfinite(goal).all():
        return "the goal is not finite"
    return "the goal is outside the fence" if beyond_fence(goal, config) > 0.0 else ""


def obstacles_refusal(obstacles: Array) -> str:
    """Why nobody flies around obstacles (K, 7); "" if they will do."""
    if len(obstacles) > MAX_OBSTACLES:
        return f"there are {len(obstacles)}, at most {MAX_OBSTACLES} can be flown around"
    if not np.isfinite(obstacles).all() or (obstacles[:, 3] < 0.0).any():
        return "one is not finite or has a negative radius"
    return ""


def beyond_fence(pos: Array, config: SafetyConfig) -> float:
    """Distance by which a position is outside the fence along its worst axis [m]; negative inside; NaN is outside."""
    beyond = float(np.max(np.maximum(pos - np.array(config.fence_high), np.array(config.fence_low) - pos)))
    return beyond if isfinite(beyond) else inf


def _since(before: float | None, t: float, so: bool) -> float | None:
    """Since when it is so."""
    if not so:
        return None
    return t if before is None else before


def _count(before: int, facts: Facts, good: bool) -> int:
    """How many steps in a row were bad; one that asked no policy says nothing, so that a level descent stays one."""
    if not facts.policy_asked:
        return before
    return 0 if good else before + 1


def _tilt(facts: Facts) -> float:
    """Angle between the body's and the world's z axis [rad]; 0 where it is not known."""
    return 0.0 if facts.rpy is None else acos(min(max(cos(facts.rpy[0]) * cos(facts.rpy[1]), -1.0), 1.0))


def _check_vehicle(facts: Facts) -> Verdict:
    """What cannot be flown any more. A link that is lost is no landing: nothing that would be sent arrives."""
    if facts.link_lost:
        return Verdict(Action.STOP, Reason.LOST)
    if facts.link_stopped:
        return Verdict(Action.STOP, Reason.SILENCE)
    return Verdict(Action.STOP, Reason.VEHICLE) if facts.vehicle_fault else NOMINAL


def _check_pose(facts: Facts, config: SafetyConfig) -> Verdict:
    age = facts.pose_age if facts.pos is not None else inf
    if age > config.pose_stop:
        return Verdict(Action.STOP, Reason.POSE)
    if age > config.pose_descend:
        return Verdict(Action.DESCEND, Reason.POSE)
    return Verdict(Action.WARN, Reason.POSE) if age > config.pose_warn else NOMINAL


def _check_attitude(facts: Facts, config: SafetyConfig) -> Verdict:
    """Poses that come without attitude, or so doubtful that many are refused."""
    if facts.attitude_age > config.attitude_land and facts.pose_age <= config.pose_descend:
        return Verdict(Action.LAND, Reason.ATTITUDE)
    if facts.pose_rejects > config.rejects_land:
        return Verdict(Action.LAND, Reason.REJECTS)
    return Verdict(Action.WARN, Reason.REJECTS) if facts.pose_rejects > config.rejects_warn else NOMINAL


def _check_link(facts: Facts, config: SafetyConfig) -> Verdict:
    """A vehicle that is mute may hear: it lands if it does, and if not nobody can do better than its firmware."""
    return Verdict(Action.LAND, Reason.LINK) if facts.link_age > config.link_land else NOMINAL


def _check_fence(facts: Facts, config: SafetyConfig) -> Verdict:
    if facts.pos is None:
        return NOMINAL
    beyond = beyond_fence(facts.pos, config)
    if beyond > config.fence_stop:
        return Verdict(Action.STOP, Reason.FENCE)
    return Verdict(Action.LAND, Reason.FENCE) if beyond > 0.0 else NOMINAL


def _check_tumble(facts: Facts, config: SafetyConfig) -> Verdict:
    return Verdict(Action.STOP, Reason.TUMBLE) if _tilt(facts) > config.tumble_tilt else NOMINAL


def _check_lasting(t: float, memory: Memory, config: SafetyConfig) -> list[Verdict]:
    """What counts once it has lasted."""
    lasting = (
        (memory.tilted_since, config.tilt_time, Action.STOP, Reason.TILT),
        (memory.astray_since, config.response_time, Action.STOP, Reason.RESPONSE),
        (memory.disturbed_since, config.disturbance_time, Action.LAND, Reason.DISTURBANCE),
        (memory.fast_since, config.speed_time, Action.LAND, Reason.SPEED),
        (memory.inside_since, config.obstacle_time, Action.LAND, Reason.OBSTACLE),
        (memory.late_since, config.late_time, Action.LAND, Reason.DEADLINE),
        (memory.battery_low_since, config.battery_time, Action.LAND, Reason.BATTERY),
    )
    return [
        Verdict(action, reason) for since, limit, action, reason in lasting if since is not None and t - since > limit
    ]


def _check_bad_steps(count: int, reason: Reason, config: SafetyConfig) -> Verdict:
    if count >= config.bad_steps_descend:
        return Verdict(Action.DESCEND, reason)
    if count >= config.bad_steps_land:
        return Verdict(Action.LAND, reason)
    return Verdict(Action.WARN, reason) if count > 0 else NOMINAL


def _check_battery(facts: Facts, config: SafetyConfig) -> Verdict:
    return Verdict(Action.WARN, Reason.BATTERY) if facts.voltage < config.battery_warn else NOMINAL


def _check_deadline(memory: Memory) -> Verdict:
    return NOMINAL if memory.late_since is None else Verdict(Action.WARN, Reason.DEADLINE)


def _check_obstacles(facts: Facts, config: SafetyConfig) -> Verdict:
    """Nobody says any more where obstacles are: hovering among them is no safer than the way down."""
    old = facts.obstacle_age > config.obstacle_age
    return Verdict(Action.LAND, Reason.OBSTACLE_AGE) if old else NOMINAL


def _check_filter(facts: Facts) -> Verdict:
    """The filter has done what can be done; people should know that it had to."""
    if facts.margin < 0.0:
        return Verdict(Action.WARN, Reason.PROXIMITY)
    return Verdict(Action.WARN, Reason.FILTER) if facts.overruled else NOMINAL
