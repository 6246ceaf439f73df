"""The flight state machine: IDLE -> READY -> ARMED -> TAKEOFF -> FLY -> LAND -> IDLE, with FAULT and ESTOP.

Pure: ``advance`` maps a state and what happened to the next state; ``reference`` says which controller flies and
where to. FAULT (motors off) and ESTOP (motors locked) are final: nothing leads out of them, and nothing that they give
has thrust. Take-off, hover and landing fly to a moving goal point with the straight-line policy. Every state has a way
down: a request, a safety verdict or a time-out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller.flight_config import FlightConfig
from deq_mpc_controller.manoeuvres import (
    Manoeuvre,
    climbing_point,
    hover_point,
    pace,
    resting_point,
    sinking_point,
)
from deq_mpc_controller.safety import Action

Array = NDArray[np.float64]


FELL = "it fell; look for damage"
"""Failure of a flight that ended faster than a landing."""


class Mode(Enum):
    """Where the flight stands."""

    IDLE = "IDLE"
    READY = "READY"
    ARMED = "ARMED"
    TAKEOFF = "TAKEOFF"
    FLY = "FLY"
    LAND = "LAND"
    FAULT = "FAULT"
    ESTOP = "ESTOP"


FINAL = frozenset({Mode.FAULT, Mode.ESTOP})
IN_FLIGHT = frozenset({Mode.TAKEOFF, Mode.FLY, Mode.LAND})


class Request(Enum):
    """What a human, or a service call, asks for."""

    ARM = "arm"
    DISARM = "disarm"
    TAKEOFF = "takeoff"
    GO_TO = "go_to"
    """Fly to the goal, which is a new one."""
    HOLD = "notify_setpoints_stop"
    """No longer fly to the goal: hover where it comes to rest."""
    LAND = "land"
    EMERGENCY = "emergency"


_TAKEN_IN = {
    Request.ARM: (frozenset({Mode.READY}), "it must be READY first"),
    Request.DISARM: (frozenset({Mode.ARMED}), "only an armed vehicle on the ground can be disarmed"),
    Request.TAKEOFF: (frozenset({Mode.ARMED}), "arm it first"),
    Request.GO_TO: (frozenset({Mode.FLY}), "take off first"),
    Request.HOLD: (frozenset({Mode.FLY}), "it does not fly to a goal"),
    Request.LAND: (IN_FLIGHT, "it does not fly"),
    Request.EMERGENCY: (frozenset(Mode), ""),
}


def refusal(mode: Mode, request: Request) -> str:
    """Why a request means nothing in a mode; "" if it does."""
    modes, otherwise = _TAKEN_IN[request]
    return "" if mode in modes else f"{mode.value}: {otherwise}"


class Source(Enum):
    """Who makes the setpoint."""

    OFF = "off"
    GROUND_HOVER = "straight-line policy, held level: still on the ground"
    HOVER = "straight-line policy to the goal point of take-off or landing, no obstacles"
    HOLD = "straight-line policy where it hovers, off obstacles"
    POLICY = "the policy"
    DESCEND = "level, descending: no position"
    EMERGENCY = "emergency stop"


@dataclass(frozen=True)
class FlightInputs:
    """What happened since the last step.

    Attributes:
        t: now [s].
        pos, vel: (3,) of the estimate; None without one.
        ready: whether the vehicle may arm, see ``preflight.missing``.
        armed: whether the vehicle says that it is armed.
        action: the safety verdict's.
        reason: its reason, in words.
        requests: see `Request`; what means nothing in a mode is ignored.
        manoeuvre: that a take-off or landing among them asks for.
        goal: (3,) where to fly; None: unknown.
        start: (3,) where the flight to the goal begins; None: above the take-off spot.
        auto: arm, take off, fly to the goal and land, once, without any request.
        box: corners (2, 3) between which it hovers, holds and lands [m].
    """

    t: float
    pos: Array | None = None
    vel: Array | None = None
    ready: bool = False
    armed: bool = False
    action: Action = Action.NONE
    reason: str = ""
    requests: frozenset[Request] = frozenset()
    manoeuvre: Manoeuvre = field(default_factory=Manoeuvre)
    goal: Array | None = None
    start: Array | None = None
    auto: bool = False
    box: Array = field(default_factory=lambda: np.array([np.full(3, -np.inf), np.full(3, np.inf)]))


@dataclass(frozen=True)
class FlightState:
    """Where the flight stands.

    Attributes:
        mode, since: the mode and when it began [s].
        home: (3,) where it took off.
        anchor: (3,) hover point, or where the landing began.
        speed: of the goal point in take-off and landing [m/s]; extra_time: what that adds to their time limits [s].
        holding: hovers at the anchor although there is a goal.
        airborne: off the ground.
        arrived_since: since when it has been at its goal point, slowly; None: it is not.
        blind: the last verdict was to descend without position.
        flown: a flight has been done, or called off on the ground; ``auto`` starts no other.
        failure: why the landing or the fault was ordered; "" for a flight that went well.
        was_armed: the vehicle has said that it is armed, since ARMED began.
        wish: the take-off that was asked for since then; None: none was.
        note: why it went back to IDLE before it had taken off, if nothing failed; "" from the next ARMED on.
    """

    mode: Mode = Mode.IDLE
    since: float = 0.0
    home: Array | None = None
    anchor: Array | None = None
    speed: float = 0.0
    extra_time: float = 0.0
    holding: bool = False
    airborne: bool = False
    arrived_since: float | None = None
    blind: bool = False
    flown: bool = False
    failure: str = ""
    was_armed: bool = False
    wish: Manoeuvre | None = None
    note: str = ""


@dataclass(frozen=True)
class Reference:
    """Who flies, and where to; ``goal`` (3,) counts for GROUND_HOVER, HOVER, HOLD and POLICY."""

    source: Source
    goal: Array | None = None


def in_the_air(t: float, pos: Array) -> FlightState:
    """A flight that begins hovering at ``pos`` (3,), for campaigns without take-off."""
    return FlightState(Mode.FLY, t, home=np.array([pos[0], pos[1], 0.0]), anchor=pos, airborne=True)


def advance(state: FlightState, inputs: FlightInputs, config: FlightConfig) -> FlightState:
    """The state after a control step."""
    if state.mode in FINAL and not (state.mode is Mode.FAULT and Request.EMERGENCY in inputs.requests):
        return state
    if Request.EMERGENCY in inputs.requests:
        return _enter(state, Mode.ESTOP, inputs, failure="emergency stop requested", airborne=False)
    return _STEPS[state.mode](state, inputs, config)


def reference(state: FlightState, t: float, goal: Array | None, config: FlightConfig) -> Reference:
    """Who flies at ``t``, and where to; ``goal`` (3,) is where the policy is to go, if that is known."""
    if state.mode is Mode.ESTOP:
        return Reference(Source.EMERGENCY)
    if state.mode not in IN_FLIGHT:
        return Reference(Source.OFF)
    if state.blind:
        return Reference(Source.DESCEND)
    if state.mode is Mode.FLY:
        to_goal = goal is not None and not state.holding
        return Reference(Source.POLICY, goal) if to_goal else Reference(Source.HOLD, _goal_point(state, t, config))
    source = Source.HOVER if state.airborne else Source.GROUND_HOVER
    return Reference(source, _goal_point(state, t, config))


def _goal_point(state: FlightState, t: float, config: FlightConfig) -> Array:
    """The moving goal point of take-off and landing; the anchor in hover."""
    assert state.home is not None
    assert state.anchor is not None
    elapsed = t - state.since
    if state.mode is Mode.TAKEOFF:
        return climbing_point(state.home, state.anchor, config.lift_off_height + state.speed * elapsed)
    if state.mode is Mode.LAND:
        return sinking_point(state.anchor, state.speed * elapsed, state.home[2] - config.land_depth)
    return state.anchor.copy()


def _idle(state: FlightState, inputs: FlightInputs, config: FlightConfig) -> FlightState:
    return _enter(state, Mode.READY, inputs) if inputs.ready else state


def _ready(state: FlightState, inputs: FlightInputs, config: FlightConfig) -> FlightState:
    if not inputs.ready:
        return _enter(state, Mode.IDLE, inputs)
    wanted = Request.ARM in inputs.requests or (inputs.auto and not state.flown and inputs.goal is not None)
    return _enter(state, Mode.ARMED, inputs, was_armed=False, wish=None, note="") if wanted else state


def _armed(state: FlightState, inputs: FlightInputs, config: FlightConfig) -> FlightState:
    if not inputs.ready or inputs.pos is None:
        return _enter(state, Mode.IDLE, inputs)
    if Request.DISARM in inputs.requests:
        return _enter(state, Mode.IDLE, inputs, flown=True, note="disarmed")
    if inputs.auto or Request.TAKEOFF in inputs.requests:
        state = replace(state, wish=inputs.manoeuvre)
    if not inputs.armed:
        if state.was_armed:
            return _enter(state, Mode.IDLE, inputs, flown=True, note="the vehicle has disarmed itself; arm it again")
        if inputs.t - state.since > config.arm_time:
            return _enter(state, Mode.FAULT, inputs, failure="the vehicle does not arm")
        return state
    state = replace(state, was_armed=True)
    return state if state.wish is None else _take_off(state, inputs, config, state.wish)


def _take_off(state: FlightState, inputs: FlightInputs, config: FlightConfig, wish: Manoeuvre) -> FlightState:
    """Begin the take-off from where the vehicle is."""
    assert inputs.pos is not None
    home = inputs.pos.copy()
    anchor = hover_point(home, inputs.start, wish.height, config)
    anchor = np.clip(anchor, *inputs.box)
    speed, extra = pace(anchor[2] - home[2], wish.duration, config.takeoff_speed, config.slowest)
    return _enter(state, Mode.TAKEOFF, inputs, home=home, anchor=anchor, speed=speed, extra_time=extra, airborne=False)


def _takeoff(state: FlightState, inputs: FlightInputs, config: FlightConfig) -> FlightState:
    assert state.home is not None
    elapsed = inputs.t - state.since
    if not state.airborne:
        if inputs.action >= Action.LAND:
            return _enter(state, Mode.FAULT, inputs, failure=inputs.reason)
        if Request.LAND in inputs.requests:
            return _enter(state, Mode.IDLE, inputs, flown=True, note="landed before lift-off")
        if elapsed > config.lift_off_time:
            return _enter(state, Mode.FAULT, inputs, failure="no lift-off; check propellers, battery, thrust map")
        lifted = inputs.pos is not None and inputs.pos[2] > state.home[2] + config.lift_off_height
        return replace(state, airborne=bool(lifted))
    if (landing := _ordered_down(state, inputs, config)) is not None:
        return landing
    if elapsed > config.takeoff_time + state.extra_time:
        return _land(state, inputs, config, failure="the take-off took too long")
    state = _watch_arrival(state, inputs, state.anchor, config)
    return _enter(state, Mode.FLY, inputs, holding=False) if _settled(state, inputs, config) else state


def _fly(state: FlightState, inputs: FlightInputs, config: FlightConfig) -> FlightState:
    if (landing := _ordered_down(state, inputs, config)) is not None:
        return landing
    if Request.GO_TO in inputs.requests:
        state = replace(state, holding=False)
    elif Request.HOLD in inputs.requests:
        state = replace(state, holding=True, anchor=_resting_point(state, inputs, config))
    if not inputs.auto:
        return state
    if inputs.t - state.since > config.fly_time:
        return _land(state, inputs, config, failure="the goal was not reached in time")
    state = _watch_arrival(state, inputs, inputs.goal, config)
    return _land(state, inputs, config) if _settled(state, inputs, config) else state


def _landing(state: FlightState, inputs: FlightInputs, config: FlightConfig) -> FlightState:
    if inputs.action is Action.STOP:
        return _enter(state, Mode.FAULT, inputs, failure=inputs.reason, airborne=False)
    assert state.home is not None
    if inputs.pos is not None and inputs.pos[2] < state.home[2] + config.touch_down_height:
        failure = state.failure or _fall(inputs, config)
        mode = Mode.FAULT if failure else Mode.IDLE
        return _enter(state, mode, inputs, airborne=False, flown=True, failure=failure)
    if overdue := _overdue(state, inputs, config):
        failure = f"{state.failure}; {overdue}" if state.failure else overdue
        return _enter(state, Mode.FAULT, inputs, failure=failure, airborne=False)
    if inputs.action is Action.LAND and not state.failure:  # where it was to land may be what is wrong
        return _land(state, inputs, config, failure=inputs.reason)
    failure = state.failure or (inputs.reason if inputs.action >= Action.LAND else "")
    return replace(state, blind=inputs.action is Action.DESCEND, failure=failure)


def _fall(inputs: FlightInputs, config: FlightConfig) -> str:
    """Why a vehicle that has touched down did not land, or ""."""
    fell = inputs.vel is not None and inputs.vel[2] < -config.touch_down_speed
    return FELL if fell else ""


def _overdue(state: FlightState, inputs: FlightInputs, config: FlightConfig) -> str:
    """Why a landing has lasted so long that its motors are better stopped, or "".

    Near the ground, or where the height is not known: it stands there already, or falls from nowhere high. Higher up
    sinking on is better than falling, as long as the battery carries it.
    """
    assert state.home is not None
    elapsed = inputs.t - state.since - state.extra_time
    if inputs.pos is not None and inputs.pos[2] > state.home[2] + config.drop_height:
        return "it does not come down" if elapsed > config.land_time_max else ""
    return "no touch-down" if elapsed > config.land_time else ""


def _final(state: FlightState, inputs: FlightInputs, config: FlightConfig) -> FlightState:
    return state


_STEPS = {
    Mode.IDLE: _idle,
    Mode.READY: _ready,
    Mode.ARMED: _armed,
    Mode.TAKEOFF: _takeoff,
    Mode.FLY: _fly,
    Mode.LAND: _landing,
    Mode.FAULT: _final,
    Mode.ESTOP: _final,
}


def _enter(state: FlightState, mode: Mode, inputs: FlightInputs, **changes: object) -> FlightState:
    return replace(state, mode=mode, since=inputs.t, arrived_since=None, blind=False, **changes)  # type: ignore[arg-type]


def _ordered_down(state: FlightState, inputs: FlightInputs, config: FlightConfig) -> FlightState | None:
    """What an airborne vehicle does on a safety verdict or a request to land; None: fly on."""
    if inputs.action is Action.STOP:
        return _enter(state, Mode.FAULT, inputs, failure=inputs.reason, airborne=False)
    if inputs.action >= Action.LAND:
        return _land(state, inputs, config, failure=inputs.reason, blind=inputs.action is Action.DESCEND)
    return _land(state, inputs, config) if Request.LAND in inputs.requests else None


def _land(
    state: FlightState, inputs: FlightInputs, config: FlightConfig, failure: str = "", blind: bool = False
) -> FlightState:
    """Begin the landing where the vehicle will have come to rest; only one that somebody asked for takes its time."""
    assert state.home is not None
    anchor = _resting_point(state, inputs, config)
    drop = 0.0 if anchor is None else anchor[2] - state.home[2]
    asked_for = Request.LAND in inputs.requests and inputs.action < Action.LAND
    duration = inputs.manoeuvre.duration if asked_for else 0.0
    speed, extra = pace(drop, duration, config.land_speed, config.slowest)
    begun = _enter(state, Mode.LAND, inputs, anchor=anchor, speed=speed, extra_time=extra, failure=failure)
    return replace(begun, blind=blind)


def _resting_point(state: FlightState, inputs: FlightInputs, config: FlightConfig) -> Array | None:
    """Where the vehicle comes to rest if it begins to brake now, or the nearest point inside the box.

    The last anchor where that is not known.
    """
    if inputs.pos is None or inputs.vel is None:
        return state.anchor
    point: Array = np.clip(resting_point(inputs.pos, inputs.vel, config.stopping_time), *inputs.box)
    return point


def _watch_arrival(state: FlightState, inputs: FlightInputs, goal: Array | None, config: FlightConfig) -> FlightState:
    arrived = (
        goal is not None
        and inputs.pos is not None
        and inputs.vel is not None
        and float(np.linalg.norm(inputs.pos - goal)) < config.arrive_distance
        and float(np.linalg.norm(inputs.vel)) < config.arrive_speed
    )
    if not arrived:
        return replace(state, arrived_since=None)
    return state if state.arrived_since is not None else replace(state, arrived_since=inputs.t)


def _settled(state: FlightState, inputs: FlightInputs, config: FlightConfig) -> bool:
    return state.arrived_since is not None and inputs.t - state.arrived_since >= config.settle_time
