"""What is due while no new setpoint comes: along the plan without jumps, then level, then off, and never back."""

from dataclasses import replace
from itertools import pairwise
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_controller.planned_inputs import planned_inputs
from deq_mpc_controller.setpoint_stream import Sent, Stream, due_setpoint, planned_command
from deq_mpc_controller.settings import controller_config
from deq_mpc_controller.vehicle_io import NO_COMMAND, OFF, Setpoint, SetpointKind
from deq_mpc_core.models.crazyflie import crazyflie_model, hover_thrust, nominal_params
from deq_mpc_core.policy import load_policy
from deq_mpc_core.policy.interface import Command, Observation
from deq_mpc_core.solver.generate import load_kernels

CONFIG = controller_config().link
LEVEL = CONFIG.hold_time
END = CONFIG.hold_time + CONFIG.level_time
commands = st.builds(
    Command, st.floats(-0.45, 0.45), st.floats(-0.45, 0.45), st.floats(-2.0, 2.0), st.floats(0.05, 0.43)
)
flights = st.builds(
    Setpoint,
    st.just(SetpointKind.FLY),
    commands,
    arm=st.just(True),
    plan=st.lists(commands, max_size=6).map(tuple),
    spacing=st.sampled_from([0.01, 0.05, 0.1]),
    hover=st.none() | st.floats(0.2, 0.4),
)
ages = st.floats(0.0, 2.0 * END)
quick = settings(max_examples=200, deadline=None)
COMMAND = Command(0.3, -0.2, 0.5, 0.36)
TILTED = Setpoint(SetpointKind.FLY, COMMAND, arm=True)


def stage(setpoint: Setpoint) -> int:
    """0 along the plan, 1 level and sinking, 2 off."""
    if setpoint.kind is SetpointKind.OFF:
        return 2
    return int(setpoint.command[:3] == (0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("age", "kind", "command"),
    [
        (0.0, SetpointKind.FLY, COMMAND),
        (LEVEL, SetpointKind.FLY, COMMAND),
        (LEVEL + 0.001, SetpointKind.FLY, Command(0.0, 0.0, 0.0, CONFIG.level_thrust * hover_thrust())),
        (END, SetpointKind.FLY, Command(0.0, 0.0, 0.0, CONFIG.level_thrust * hover_thrust())),
        (END + 0.001, SetpointKind.OFF, NO_COMMAND),
        (inf, SetpointKind.OFF, NO_COMMAND),
    ],
)
def test_the_three_stages(age: float, kind: SetpointKind, command: Command) -> None:
    due = due_setpoint(TILTED, age, CONFIG)
    assert due.kind is kind
    assert due.command == pytest.approx(command)


def test_the_descent_knows_the_vehicle() -> None:
    heavy = replace(TILTED, hover=0.35)
    assert due_setpoint(heavy, LEVEL + 0.1, CONFIG).command.thrust == pytest.approx(CONFIG.level_thrust * 0.35)


@pytest.mark.parametrize("kind", [SetpointKind.OFF, SetpointKind.EMERGENCY])
def test_off_and_emergency_stay_for_ever(kind: SetpointKind) -> None:
    for age in (0.0, LEVEL + 0.1, END + 0.1, inf):
        assert due_setpoint(Setpoint(kind, arm=True), age, CONFIG) == Setpoint(kind, arm=True)


@quick
@given(last=flights, age=ages, later=st.floats(0.0, END))
def test_stages_follow_each_other_and_never_go_back(last: Setpoint, age: float, later: float) -> None:
    if last.command[:3] == (0.0, 0.0, 0.0) or any(c[:3] == (0.0, 0.0, 0.0) for c in last.plan):
        return  # a level plan cannot be told from the descent
    assert stage(due_setpoint(last, age, CONFIG)) <= stage(due_setpoint(last, age + later, CONFIG))


@quick
@given(last=flights, age=ages)
def test_what_is_sent_lies_between_planned_commands_or_is_level(last: Setpoint, age: float) -> None:
    due = due_setpoint(last, age, CONFIG)
    if age <= LEVEL:
        knots = np.array([last.command, *last.plan])
        assert (np.array(due.command) >= knots.min(axis=0) - 1e-12).all()
        assert (np.array(due.command) <= knots.max(axis=0) + 1e-12).all()
    else:
        assert due.command[:3] == (0.0, 0.0, 0.0)
        assert due.command.thrust <= CONFIG.level_thrust * (last.hover or hover_thrust())
    assert due.kind is SetpointKind.OFF or due.arm == last.arm


@quick
@given(last=flights, age=st.floats(0.0, LEVEL), step=st.floats(0.0, 0.01))
def test_the_plan_is_followed_without_jumps(last: Setpoint, age: float, step: float) -> None:
    knots = np.array([last.command, *last.plan])
    slope = np.abs(np.diff(knots, axis=0)).max(axis=0) / last.spacing if len(knots) > 1 else np.zeros(4)
    moved = np.array(planned_command(last, age + step)) - np.array(planned_command(last, age))
    assert (np.abs(moved) <= slope * step + 1e-9).all()


@quick
@given(last=flights)
def test_every_planned_command_has_its_turn(last: Setpoint) -> None:
    for index, knot in enumerate((last.command, *last.plan)):
        assert planned_command(last, index * last.spacing) == pytest.approx(knot, abs=1e-9)
    assert planned_command(last, inf if not last.plan else 1e6) == (last.plan or (last.command,))[-1]


given_to_link = st.lists(
    st.tuples(
        st.sampled_from([OFF, replace(OFF, arm=True), TILTED]), st.sampled_from([0.01, LEVEL, END - 0.01, END + 0.01])
    ),
    max_size=8,
)


@quick
@given(given=given_to_link, look=st.sampled_from([0.0, LEVEL, END + 0.01]))
def test_after_a_silence_nothing_of_a_flight_is_due_before_off_was_said(
    given: list[tuple[Setpoint, float]], look: float
) -> None:
    stream, now, ended = Stream(), 0.0, False
    for setpoint, pause in given:
        stream = stream.add(setpoint, now, CONFIG)
        ended = ended and setpoint is TILTED
        assert stream.due(now, CONFIG) == (OFF if ended else setpoint)
        now += pause
        ended = ended or (setpoint is TILTED and pause > END)
        assert stream.has_ended(now, CONFIG) == ended
        assert not ended or stream.due(now + look, CONFIG) == OFF


def test_a_flight_that_has_ended_by_silence_can_still_be_stopped_for_good() -> None:
    stop = Setpoint(SetpointKind.EMERGENCY)
    stream = Stream().add(TILTED, 0.0, CONFIG).add(TILTED, END + 0.1, CONFIG).add(stop, END + 0.2, CONFIG)
    assert stream.due(END + 0.2, CONFIG) == stop
    for later in (TILTED, OFF):
        assert stream.add(later, END + 0.3, CONFIG).due(inf, CONFIG) == stop


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("place", range(4))
def test_what_is_not_finite_is_never_sent(value: float, place: int) -> None:
    broken = Command(*(value if i == place else v for i, v in enumerate(COMMAND)))
    for last in (replace(TILTED, command=broken), replace(TILTED, plan=(broken,), spacing=0.05)):
        due = due_setpoint(last, 0.02, CONFIG)
        assert due.command == due_setpoint(TILTED, LEVEL + 0.1, CONFIG).command


def test_a_plan_needs_its_spacing() -> None:
    with pytest.raises(ValueError, match="positive spacing"):
        Setpoint(SetpointKind.FLY, COMMAND, plan=(COMMAND,))
    assert OFF.plan == ()


@settings(max_examples=25, deadline=None)
@given(inputs=st.lists(commands, min_size=1, max_size=8), tilt=st.tuples(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4)))
def test_inputs_are_recovered_from_the_states_that_they_lead_to(inputs: list[Command], tilt: tuple) -> None:
    rk4, params, work, dt = load_kernels(crazyflie_model()).rk4.rk4, nominal_params(), np.empty((5, 13)), 0.05
    states = [np.array([0.0] * 6 + [*tilt, 0.1, 0.5, -0.5, 0.2, 0.3])]
    for command in inputs:
        states.append(np.empty(13))
        rk4(states[-2], np.array(command), params, dt, work, states[-1])
    recovered = planned_inputs(np.array(states), dt, 100)
    np.testing.assert_allclose(recovered, inputs, atol=1e-9)
    assert planned_inputs(np.array(states), dt, 2) == recovered[:2]
    assert planned_inputs(np.array(states[:1]), dt, 2) == []


def test_the_first_input_of_a_policys_plan_is_its_command() -> None:
    policy = load_policy("straight-line")
    x = np.zeros(13)
    x[2], x[12] = 1.0, hover_thrust()
    goal, state = np.array([0.8, -0.4, 1.2]), None
    for t in np.arange(0.0, 0.2, 0.01):
        command, state, info = policy.step(Observation(float(t), x, goal, np.zeros((0, 7))), state)
    inputs = planned_inputs(info.plan, policy.dt, 5)
    assert len(inputs) == 5
    np.testing.assert_allclose(inputs[0], command, atol=2e-3)
    assert all(np.abs(np.subtract(a, b)).max() < 0.5 for a, b in pairwise(inputs))


@quick
@given(setpoint=flights, looks=st.lists(st.floats(0.0, 3.0), min_size=1, max_size=6))
def test_what_was_sent_is_known_once_each_however_often_one_looks(setpoint: Setpoint, looks: list[float]) -> None:
    sent, stream = Sent(10.0, setpoint), []
    for look in sorted(looks):
        sent, new = sent.until(10.0 + look, CONFIG)
        stream += new
    _, at_once = Sent(10.0, setpoint).until(10.0 + max(looks), CONFIG)
    assert stream == at_once
    assert all(10.0 < t <= 10.0 + max(looks) for t, _ in stream)
    assert all(after > before for (before, _), (after, _) in pairwise(stream))
    if max(looks) > END + 2.0 * CONFIG.send_period:
        assert stream[-1][1] == NO_COMMAND


def test_nothing_is_sent_between_steps_in_time_nor_instead_of_motors_off() -> None:
    assert Sent(1.0, TILTED).until(1.01, CONFIG)[1] == []
    assert Sent(1.0, OFF).until(9.0, CONFIG)[1] == []
    assert [t for t, _ in Sent(1.0, TILTED).until(1.031, CONFIG)[1]] == pytest.approx([1.015, 1.03])
