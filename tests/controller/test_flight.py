"""The flight state machine: the normal flight, every way down, and that nothing leads from FAULT or ESTOP to thrust."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_controller.flight import (
    FINAL,
    IN_FLIGHT,
    FlightInputs,
    FlightState,
    Mode,
    Request,
    Source,
    advance,
    in_the_air,
    reference,
    refusal,
)
from deq_mpc_controller.manoeuvres import Manoeuvre
from deq_mpc_controller.safety import Action
from deq_mpc_controller.settings import controller_config

CONFIG = controller_config().flight
GROUND = np.array([0.2, -0.1, 0.02])
START = np.array([0.3, -0.1, 1.2])
GOAL = np.array([1.5, 0.0, 1.0])
REST = np.zeros(3)
THRUST = {Source.GROUND_HOVER, Source.HOVER, Source.HOLD, Source.POLICY, Source.DESCEND}
STANDING = FlightInputs(t=0.0, pos=GROUND, vel=REST, ready=True, armed=True)


def raised(height: float) -> np.ndarray:
    return GROUND + np.array([0.0, 0.0, height])


def run(state: FlightState, *steps: FlightInputs) -> FlightState:
    for inputs in steps:
        state = advance(state, inputs, CONFIG)
    return state


def at(t: float, pos: np.ndarray, **changes: object) -> FlightInputs:
    return replace(STANDING, t=t, pos=pos, **changes)


def flying() -> FlightState:
    state = in_the_air(0.0, START)
    assert state.mode is Mode.FLY
    return state


def test_a_whole_automatic_flight() -> None:
    auto = {"auto": True, "goal": GOAL, "start": START}
    state = FlightState()
    script = [
        (0.0, at(0.0, GROUND, **auto), Mode.READY),
        (0.1, at(0.1, GROUND, **auto), Mode.ARMED),
        (0.2, at(0.2, GROUND, armed=False, **auto), Mode.ARMED),
        (0.3, at(0.3, GROUND, **auto), Mode.TAKEOFF),
        (0.5, at(0.5, GROUND, **auto), Mode.TAKEOFF),
        (1.0, at(1.0, raised(0.1), **auto), Mode.TAKEOFF),
        (2.0, at(2.0, START, **auto), Mode.TAKEOFF),
        (2.5, at(2.5, START, **auto), Mode.FLY),
        (5.0, at(5.0, GOAL, vel=np.array([0.5, 0, 0]), **auto), Mode.FLY),
        (5.1, at(5.1, GOAL, **auto), Mode.FLY),
        (5.5, at(5.5, GOAL, **auto), Mode.LAND),
        (8.0, at(8.0, np.array([1.5, 0.0, 0.03]), **auto), Mode.IDLE),
        (8.1, at(8.1, np.array([1.5, 0.0, 0.03]), **auto), Mode.READY),
        (9.0, at(9.0, np.array([1.5, 0.0, 0.03]), **auto), Mode.READY),
    ]
    for _, inputs, mode in script:
        state = advance(state, inputs, CONFIG)
        assert state.mode is mode, inputs.t
    assert state.flown
    assert state.failure == ""


def test_a_flight_on_request() -> None:
    state = run(FlightState(), at(0.0, GROUND), at(0.1, GROUND))
    assert state.mode is Mode.READY
    state = run(state, at(0.2, GROUND, requests=frozenset({Request.ARM})), at(0.3, GROUND))
    assert state.mode is Mode.ARMED
    state = run(state, at(0.4, GROUND, requests=frozenset({Request.TAKEOFF})))
    np.testing.assert_array_equal(state.anchor, raised(CONFIG.takeoff_height))
    hover = state.anchor
    state = run(state, at(1.0, hover), at(1.1, hover), at(1.5, hover))
    assert state.mode is Mode.FLY
    assert reference(state, 1.6, None, CONFIG).source is Source.HOLD
    assert reference(state, 1.6, GOAL, CONFIG).source is Source.POLICY
    state = run(state, at(100.0, GOAL, goal=GOAL), at(101.0, GOAL, goal=GOAL))
    assert state.mode is Mode.FLY
    state = run(state, at(102.0, GOAL, requests=frozenset({Request.LAND})))
    assert state.mode is Mode.LAND


def test_a_flight_that_is_told_to_hold_hovers_there_until_it_gets_a_goal() -> None:
    moving = at(1.0, START, vel=np.array([1.0, 0.0, 0.0]), requests=frozenset({Request.HOLD}))
    state = run(flying(), moving)
    held = reference(state, 1.1, GOAL, CONFIG)
    assert held.source is Source.HOLD
    np.testing.assert_allclose(held.goal, START + np.array([0.4, 0.0, 0.0]))
    state = run(state, at(2.0, START, requests=frozenset({Request.GO_TO})))
    assert reference(state, 2.1, GOAL, CONFIG).source is Source.POLICY


def test_a_take_off_to_a_height_in_a_time() -> None:
    armed = replace(FlightState(), mode=Mode.ARMED)
    wish = Manoeuvre(height=0.62, duration=3.0)
    state = run(armed, at(0.0, GROUND, start=START, requests=frozenset({Request.TAKEOFF}), manoeuvre=wish))
    np.testing.assert_allclose(state.anchor, [*GROUND[:2], 0.62])
    assert state.speed == pytest.approx(0.2)
    state = run(replace(state, airborne=True), at(CONFIG.takeoff_time + 1.0, raised(0.3)))
    assert state.mode is Mode.TAKEOFF  # it was asked to take 2 s longer than it would
    assert run(state, at(CONFIG.takeoff_time + 2.1, raised(0.3))).mode is Mode.LAND


@pytest.mark.parametrize(("duration", "speed"), [(0.0, 0.4), (0.1, 0.4), (np.nan, 0.4), (5.9, 0.2), (np.inf, 0.1)])
def test_a_landing_takes_its_time_if_it_was_asked_for(duration: float, speed: float) -> None:
    wish = {"requests": frozenset({Request.LAND}), "manoeuvre": Manoeuvre(duration=duration)}
    state = run(flying(), at(1.0, raised(1.18 - GROUND[2]), **wish))
    assert state.speed == pytest.approx(speed)
    hurried = run(flying(), at(1.0, START, action=Action.LAND, **wish))
    assert hurried.speed == CONFIG.land_speed


@pytest.mark.parametrize("height", [-1.0, 0.05])
def test_no_hover_so_low_that_it_touches_the_ground(height: float) -> None:
    armed = replace(FlightState(), mode=Mode.ARMED)
    wish = {"requests": frozenset({Request.TAKEOFF}), "manoeuvre": Manoeuvre(height=height)}
    state = run(armed, at(0.0, GROUND, **wish))
    assert state.anchor is not None
    assert state.anchor[2] == pytest.approx(GROUND[2] + 0.3)


@pytest.mark.parametrize("request_", Request)
@pytest.mark.parametrize("mode", Mode)
def test_a_request_is_refused_exactly_where_it_changes_nothing(mode: Mode, request_: Request) -> None:
    state = FlightState(mode, 0.0, home=GROUND, anchor=START, speed=0.5, airborne=mode in (Mode.FLY, Mode.LAND))
    holding = replace(state, holding=request_ is Request.GO_TO)
    asked = at(0.1, START, requests=frozenset({request_}))
    ignored = advance(holding, replace(asked, requests=frozenset()), CONFIG)
    changed = str(advance(holding, asked, CONFIG)) != str(ignored)  # arrays do not compare
    landing_already = mode is Mode.LAND and request_ is Request.LAND
    final = mode is Mode.ESTOP and request_ is Request.EMERGENCY
    assert changed or landing_already or final or refusal(mode, request_) != ""
    if refusal(mode, request_):
        assert not changed
        assert refusal(mode, request_).startswith(mode.value)


def test_a_start_point_far_away_is_not_flown_to() -> None:
    state = replace(FlightState(), mode=Mode.ARMED)
    state = run(state, at(0.0, GROUND, auto=True, start=raised(1.0) + np.array([2.0, 0.0, 0.0])))
    np.testing.assert_array_equal(state.anchor, raised(CONFIG.takeoff_height))


def test_take_off_climbs_straight_and_landing_descends_straight_through_the_floor() -> None:
    takeoff = FlightState(Mode.TAKEOFF, 0.0, home=GROUND, anchor=START, speed=CONFIG.takeoff_speed)
    assert reference(takeoff, 0.1, GOAL, CONFIG).source is Source.GROUND_HOVER
    heights = []
    for t in np.arange(0.0, 4.0, 0.1):
        point = reference(replace(takeoff, airborne=True), t, GOAL, CONFIG).goal
        assert point is not None
        np.testing.assert_array_equal(point[:2], GROUND[:2] if point[2] < START[2] else START[:2])
        heights.append(point[2])
    assert np.all(np.diff(heights) >= 0.0)
    assert heights[-1] == START[2]
    land = FlightState(Mode.LAND, 0.0, home=GROUND, anchor=START, speed=CONFIG.land_speed, airborne=True)
    points = [reference(land, t, GOAL, CONFIG).goal for t in np.arange(0.0, 6.0, 0.1)]
    assert all(np.array_equal(point[:2], START[:2]) for point in points)
    assert np.all(np.diff([point[2] for point in points]) <= 0.0)
    assert points[-1][2] == GROUND[2] - CONFIG.land_depth


@pytest.mark.parametrize(
    ("action", "mode", "source"),
    [
        (Action.NONE, Mode.FLY, Source.POLICY),
        (Action.WARN, Mode.FLY, Source.POLICY),
        (Action.LAND, Mode.LAND, Source.HOVER),
        (Action.DESCEND, Mode.LAND, Source.DESCEND),
        (Action.STOP, Mode.FAULT, Source.OFF),
    ],
)
def test_verdicts_in_the_air(action: Action, mode: Mode, source: Source) -> None:
    state = run(flying(), at(1.0, START, action=action, reason="why"))
    assert state.mode is mode
    assert reference(state, 1.0, GOAL, CONFIG).source is source
    assert state.failure == ("why" if action >= Action.LAND else "")


def test_a_blind_descent_sees_again_when_poses_return_but_stays_a_landing() -> None:
    state = run(flying(), at(1.0, START, action=Action.DESCEND, reason="no mocap pose"), at(1.2, START))
    assert state.mode is Mode.LAND
    assert reference(state, 1.2, GOAL, CONFIG).source is Source.HOVER
    state = run(state, at(3.0, GROUND))
    assert state.mode is Mode.FAULT
    assert state.failure == "no mocap pose"


@pytest.mark.parametrize("action", [Action.LAND, Action.DESCEND, Action.STOP])
def test_verdicts_before_lift_off_stop_the_motors(action: Action) -> None:
    state = FlightState(Mode.TAKEOFF, 0.0, home=GROUND, anchor=START)
    assert run(state, at(0.1, GROUND, action=action)).mode is Mode.FAULT


def test_a_landing_before_lift_off_stops_the_motors_and_is_no_fault() -> None:
    state = FlightState(Mode.TAKEOFF, 0.0, home=GROUND, anchor=START)
    state = run(state, at(0.1, GROUND, requests=frozenset({Request.LAND}), auto=True, goal=GOAL))
    assert (state.mode, state.note, state.failure) == (Mode.IDLE, "landed before lift-off", "")
    assert reference(state, 0.1, GOAL, CONFIG).source is Source.OFF
    state = run(state, *(at(0.2 + 0.1 * k, GROUND, auto=True, goal=GOAL) for k in range(20)))
    assert state.mode is Mode.READY  # an automatic flight that was called off does not begin again
    state = run(state, at(3.0, GROUND, requests=frozenset({Request.ARM})))
    assert (state.mode, state.note) == (Mode.ARMED, "")


def test_a_landing_before_lift_off_does_not_hide_a_fault() -> None:
    state = FlightState(Mode.TAKEOFF, 0.0, home=GROUND, anchor=START)
    both = at(0.1, GROUND, action=Action.STOP, reason="why", requests=frozenset({Request.LAND}))
    assert (run(state, both).mode, run(state, both).failure) == (Mode.FAULT, "why")


def test_a_vehicle_that_disarms_itself_can_be_armed_again() -> None:
    armed = run(FlightState(Mode.READY), at(0.0, GROUND, requests=frozenset({Request.ARM})))
    waiting = run(armed, at(0.5, GROUND, armed=False), at(1.0, GROUND), at(30.0, GROUND))
    assert waiting.mode is Mode.ARMED
    state = run(waiting, at(30.1, GROUND, armed=False))
    assert (state.mode, state.failure) == (Mode.IDLE, "")
    assert state.note == "the vehicle has disarmed itself; arm it again"
    state = run(state, at(30.2, GROUND, armed=False), at(31.0, GROUND, armed=False, requests=frozenset({Request.ARM})))
    assert (state.mode, state.note) == (Mode.ARMED, "")
    assert run(state, at(31.5, GROUND, armed=False)).mode is Mode.ARMED  # it has its arm_time again
    assert run(state, at(32.0, GROUND), at(32.1, GROUND, requests=frozenset({Request.TAKEOFF}))).mode is Mode.TAKEOFF


@pytest.mark.parametrize(
    ("state", "inputs", "mode"),
    [
        (FlightState(Mode.ARMED), at(CONFIG.arm_time + 0.1, GROUND, armed=False), Mode.FAULT),
        (FlightState(Mode.ARMED), at(0.1, GROUND, ready=False), Mode.IDLE),
        (FlightState(Mode.READY), at(0.1, GROUND, ready=False), Mode.IDLE),
        (FlightState(Mode.TAKEOFF, home=GROUND, anchor=START), at(CONFIG.lift_off_time + 0.1, GROUND), Mode.FAULT),
        (
            FlightState(Mode.TAKEOFF, home=GROUND, anchor=START, airborne=True),
            at(CONFIG.takeoff_time + 0.1, raised(0.3)),
            Mode.LAND,
        ),
        (in_the_air(0.0, START), at(CONFIG.fly_time + 0.1, START, auto=True), Mode.LAND),
        (
            FlightState(Mode.LAND, home=GROUND, anchor=START, airborne=True),
            at(CONFIG.land_time + 0.1, raised(CONFIG.drop_height)),
            Mode.FAULT,
        ),
        (
            FlightState(Mode.LAND, home=GROUND, anchor=START, airborne=True),
            at(CONFIG.land_time_max + 0.1, START),
            Mode.FAULT,
        ),
    ],
)
def test_time_outs(state: FlightState, inputs: FlightInputs, mode: Mode) -> None:
    assert run(state, inputs).mode is mode


@settings(max_examples=100, deadline=None)
@given(height=st.floats(0.0, 2.0), elapsed=st.floats(0.0, 100.0), blind=st.booleans())
def test_a_landing_that_lasts_stops_the_motors_only_near_the_ground(height: float, elapsed: float, blind: bool) -> None:
    landing = FlightState(Mode.LAND, 0.0, home=GROUND, anchor=START, airborne=True, failure="battery low")
    action = Action.DESCEND if blind else Action.LAND
    state = run(landing, at(elapsed, raised(height), action=action))
    if CONFIG.drop_height + 1e-6 < height and elapsed < CONFIG.land_time_max:
        assert state.mode is Mode.LAND
    elif elapsed > CONFIG.land_time_max + 1e-6 or height < CONFIG.touch_down_height - 1e-6:
        assert state.mode is Mode.FAULT
    if state.mode is Mode.FAULT:
        assert state.failure.startswith("battery low")


@pytest.mark.parametrize(("speed", "failure"), [(1.4, ""), (1.6, "it fell; look for damage")])
def test_who_touches_down_too_fast_has_not_landed(speed: float, failure: str) -> None:
    landing = run(flying(), at(1.0, START, requests=frozenset({Request.LAND})))
    down = at(2.0, START * [1.0, 1.0, 0.03], vel=np.array([0.0, 0.0, -speed]))
    state = run(landing, down)
    assert state.mode is (Mode.FAULT if failure else Mode.IDLE)
    assert state.failure == failure
    ordered = run(flying(), at(1.0, START, action=Action.LAND, reason="battery low"))
    assert run(ordered, down).failure == "battery low"


def test_a_landing_that_safety_orders_too_begins_anew_where_the_vehicle_is() -> None:
    landing = run(flying(), at(1.0, START, requests=frozenset({Request.LAND})))
    elsewhere = START + np.array([0.8, 0.0, -0.4])
    state = run(landing, at(2.0, elsewhere, action=Action.LAND, reason="too fast"))
    assert (state.mode, state.failure, state.since) == (Mode.LAND, "too fast", 2.0)
    assert state.anchor == pytest.approx(elsewhere)
    again = run(state, at(2.1, START, action=Action.LAND, reason="battery low"))
    assert (again.since, again.failure) == (2.0, "too fast")


def test_a_landing_says_why_it_gave_up() -> None:
    landing = FlightState(Mode.LAND, 0.0, home=GROUND, anchor=START, airborne=True)
    assert run(landing, at(13.0, raised(0.2))).failure == "no touch-down"
    assert run(landing, at(41.0, START)).failure == "it does not come down"
    assert run(replace(landing, failure="battery low"), at(13.0, raised(0.2))).failure == "battery low; no touch-down"
    assert run(replace(landing, extra_time=5.0), at(13.0, raised(0.2))).mode is Mode.LAND
    unseen = replace(at(13.0, START), pos=None, vel=None, action=Action.DESCEND, reason="no mocap pose")
    assert run(landing, unseen).mode is Mode.FAULT


positions = st.one_of(st.none(), st.sampled_from([GROUND, raised(0.1), START, GOAL]))
any_inputs = st.builds(
    FlightInputs,
    t=st.floats(0.0, 30.0),
    pos=positions,
    vel=st.sampled_from([REST, np.array([1.0, 0.0, 0.0])]),
    ready=st.booleans(),
    armed=st.booleans(),
    action=st.sampled_from(Action),
    reason=st.just("why"),
    requests=st.frozensets(st.sampled_from([r for r in Request if r is not Request.EMERGENCY])),
    goal=st.sampled_from([None, GOAL]),
    start=st.sampled_from([None, START]),
    auto=st.booleans(),
)
flights = st.lists(any_inputs, max_size=25).map(lambda steps: sorted(steps, key=lambda inputs: inputs.t))
begin = st.sampled_from([FlightState(), flying(), FlightState(Mode.ARMED), FlightState(Mode.FAULT)])


@settings(max_examples=300, deadline=None)
@given(state=begin, steps=flights)
def test_no_events_lead_from_a_final_state_to_thrust(state: FlightState, steps: list[FlightInputs]) -> None:
    ended = False
    for inputs in steps:
        state = advance(state, inputs, CONFIG)
        source = reference(state, inputs.t, inputs.goal, CONFIG).source
        ended = ended or state.mode in FINAL
        if ended:
            assert state.mode in FINAL
            assert source not in THRUST
        assert (source in THRUST) == (state.mode in IN_FLIGHT)


@settings(max_examples=200, deadline=None)
@given(state=begin, before=flights, after=flights)
def test_emergency_stops_in_every_state_for_ever(
    state: FlightState, before: list[FlightInputs], after: list[FlightInputs]
) -> None:
    state = run(state, *before)
    state = run(state, at(31.0, GROUND, requests=frozenset({Request.EMERGENCY})))
    assert state.mode is Mode.ESTOP
    for inputs in after:
        state = advance(state, inputs, CONFIG)
        assert reference(state, inputs.t, inputs.goal, CONFIG).source is Source.EMERGENCY


@settings(max_examples=200, deadline=None)
@given(state=begin, steps=flights)
def test_a_stop_verdict_in_flight_stops_the_motors_at_once(state: FlightState, steps: list[FlightInputs]) -> None:
    state = run(state, *steps)
    was_in_flight = state.mode in IN_FLIGHT
    state = run(state, at(31.0, START, action=Action.STOP, ready=False))
    assert reference(state, 31.0, GOAL, CONFIG).source not in THRUST
    assert state.mode is Mode.FAULT or not was_in_flight


@settings(max_examples=200, deadline=None)
@given(steps=flights)
def test_motors_never_start_without_a_vehicle_that_is_ready_and_armed(steps: list[FlightInputs]) -> None:
    state = FlightState()
    for inputs in steps:
        before, state = state.mode, advance(state, inputs, CONFIG)
        if before not in IN_FLIGHT and state.mode in IN_FLIGHT:
            assert before is Mode.ARMED
            assert inputs.ready
            assert inputs.armed


@settings(max_examples=200, deadline=None)
@given(state=begin, steps=flights)
def test_every_flight_ends_on_the_ground_however_it_went(state: FlightState, steps: list[FlightInputs]) -> None:
    """Whatever happened, a request to land and a controller that follows its goal point bring it down."""
    t, state = 31.0, run(state, *steps)
    pos = START.copy()
    for _ in range(1200):
        t += 0.05
        state = run(state, at(t, pos, requests=frozenset({Request.LAND, Request.DISARM})))
        goal = reference(state, t, GOAL, CONFIG).goal
        if goal is not None:
            pos = pos + np.clip(goal - pos, -0.05, 0.05)
    assert state.mode not in IN_FLIGHT
    assert state.mode is not Mode.ARMED


@settings(max_examples=200, deadline=None)
@given(state=begin, steps=flights)
def test_no_state_lasts_for_ever_in_the_air_without_sight(state: FlightState, steps: list[FlightInputs]) -> None:
    """Motion capture that is gone brings every flight down, by time if by nothing else."""
    t, state = 31.0, run(state, *steps)
    for _ in range(400):
        t += 0.1
        state = run(state, replace(at(t, START), pos=None, vel=None, ready=False, action=Action.DESCEND, reason="why"))
    assert state.mode not in IN_FLIGHT


transitions = {
    Mode.IDLE: {Mode.READY},
    Mode.READY: {Mode.IDLE, Mode.ARMED},
    Mode.ARMED: {Mode.IDLE, Mode.TAKEOFF, Mode.FAULT},
    Mode.TAKEOFF: {Mode.IDLE, Mode.FLY, Mode.LAND, Mode.FAULT},
    Mode.FLY: {Mode.LAND, Mode.FAULT},
    Mode.LAND: {Mode.IDLE, Mode.FAULT},
    Mode.FAULT: set(),
    Mode.ESTOP: set(),
}


@settings(max_examples=300, deadline=None)
@given(state=begin, steps=flights)
def test_no_other_transitions_than_these(state: FlightState, steps: list[FlightInputs]) -> None:
    for inputs in steps:
        before, state = state.mode, advance(state, inputs, CONFIG)
        assert state.mode is before or state.mode in transitions[before]
