"""The flight states around arming, and that hovering, holding and landing points lie inside the fence."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lockstep_flight import STRAIGHT, THRUST_MAP, Flight

from deq_mpc_controller.flight import FlightInputs, FlightState, Mode, Request, advance, in_the_air
from deq_mpc_controller.manoeuvres import Manoeuvre
from deq_mpc_controller.pilot import Pilot
from deq_mpc_controller.safety import Action
from deq_mpc_controller.settings import controller_config

CONFIG = controller_config().flight
GROUND, GOAL = np.array([0.2, -0.1, 0.02]), np.array([1.5, 0.0, 1.0])
STANDING = FlightInputs(t=0.0, pos=GROUND, vel=np.zeros(3), ready=True)
BOX = np.array([[-2.1, -2.1, -0.45], [2.1, 2.1, 1.9]])


def steps(state: FlightState, count: int, **changes: object) -> FlightState:
    """``count`` steps of 0.1 s with these inputs; requests count in the first."""
    for _ in range(count):
        state = advance(state, replace(STANDING, t=state.since + 0.1, **changes), CONFIG)
        changes.pop("requests", None)
    return state


def asks(*requests: Request) -> frozenset[Request]:
    return frozenset(requests)


def armed() -> FlightState:
    state = steps(FlightState(), 1)
    return steps(state, 1, requests=asks(Request.ARM))


def test_a_take_off_that_is_asked_for_while_the_vehicle_arms_is_done_once_it_is_armed() -> None:
    wish = Manoeuvre(height=0.7, duration=2.0)
    state = steps(armed(), 2, requests=asks(Request.TAKEOFF), manoeuvre=wish)
    assert state.mode is Mode.ARMED
    state = steps(state, 1, armed=True)
    assert state.mode is Mode.TAKEOFF
    assert state.anchor == pytest.approx([*GROUND[:2], 0.7])


def test_a_take_off_is_forgotten_with_the_arming_that_it_was_asked_for_in() -> None:
    state = steps(armed(), 1, requests=asks(Request.TAKEOFF))
    state = steps(state, 1, ready=False)
    assert state.mode is Mode.IDLE
    state = steps(state, 1)
    state = steps(state, 3, requests=asks(Request.ARM), armed=True)
    assert state.mode is Mode.ARMED


@pytest.mark.parametrize("by_request", [True, False])
def test_an_automatic_flight_that_is_disarmed_is_called_off(by_request: bool) -> None:
    auto = {"auto": True, "goal": GOAL}
    state = steps(FlightState(), 2, **auto)
    assert state.mode is Mode.ARMED
    if by_request:
        state = steps(state, 1, requests=asks(Request.DISARM), **auto)
    else:
        state = steps(replace(state, was_armed=True), 1, **auto)
    assert state.mode is Mode.IDLE
    state = steps(state, 10, armed=True, **auto)
    assert state.mode is Mode.READY
    state = steps(state, 2, requests=asks(Request.ARM), armed=True, **auto)
    assert state.mode is Mode.TAKEOFF


speeds = st.tuples(*[st.floats(-4.0, 4.0)] * 3).map(np.array)
places = st.tuples(st.floats(-2.6, 2.6), st.floats(-2.6, 2.6), st.floats(-0.1, 2.4)).map(np.array)


@settings(max_examples=100, deadline=None)
@given(
    pos=places,
    vel=speeds,
    requests=st.sampled_from([asks(Request.HOLD), asks(Request.LAND), asks()]),
    action=st.sampled_from([Action.NONE, Action.LAND, Action.DESCEND]),
)
def test_where_it_holds_and_lands_is_inside_the_fence(
    pos: np.ndarray, vel: np.ndarray, requests: frozenset[Request], action: Action
) -> None:
    flying = in_the_air(0.0, np.array([0.0, 0.0, 1.0]))
    inputs = FlightInputs(1.0, pos, vel, action=action, requests=requests, box=BOX)
    anchor = advance(flying, inputs, CONFIG).anchor
    assert (anchor >= BOX[0]).all()
    assert (anchor <= BOX[1]).all()
    if not requests and action is Action.NONE:
        assert anchor == pytest.approx(flying.anchor)


@settings(max_examples=100, deadline=None)
@given(place=places, start=st.none() | places, height=st.none() | st.floats(0.1, 5.0))
def test_where_it_takes_off_to_is_inside_the_fence(
    place: np.ndarray, start: np.ndarray | None, height: float | None
) -> None:
    state = steps(armed(), 1, requests=asks(Request.TAKEOFF), armed=True, pos=place, start=start, box=BOX)
    assert state.mode is Mode.TAKEOFF
    assert (state.anchor == np.clip(state.anchor, *BOX)).all()


def test_the_pilot_knows_the_fence() -> None:
    config = controller_config()
    low = config.safety.model_copy(update={"fence_high": (2.15, 2.15, 0.9)})
    pilot = Pilot(STRAIGHT, STRAIGHT, config.model_copy(update={"safety": low}), THRUST_MAP, auto=True)
    flight = Flight()
    flight.pilot = pilot
    step = flight.run(lambda step: step.state.mode is Mode.FLY)
    assert step.state.anchor[2] <= 0.9 - config.filter.fence_margin
    assert max(step.estimate.x[2] for step in flight.steps if step.estimate is not None) < 0.9
