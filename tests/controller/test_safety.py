"""Every check: below, at and above its limit; the gravest verdict wins; memories reset."""

from dataclasses import replace
from itertools import combinations
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_controller.safety import (
    NOMINAL,
    Action,
    Facts,
    Memory,
    Reason,
    Verdict,
    check,
    is_finite,
    limit_command,
    may_arm,
    remember,
)
from deq_mpc_controller.settings import controller_config
from deq_mpc_core.policy.interface import Command

CONFIG = controller_config().safety
GOOD = Facts(t=10.0, pose_age=0.02, pos=np.array([0.0, 0.0, 1.0]), rpy=np.zeros(3), link_age=0.05, voltage=3.9)

SINGLE = [
    ({}, Action.NONE, Reason.NOMINAL),
    ({"pose_age": CONFIG.pose_warn}, Action.NONE, Reason.NOMINAL),
    ({"pose_age": CONFIG.pose_warn + 0.01}, Action.WARN, Reason.POSE),
    ({"pose_age": CONFIG.pose_descend + 0.01}, Action.DESCEND, Reason.POSE),
    ({"pose_age": CONFIG.pose_stop + 0.01}, Action.STOP, Reason.POSE),
    ({"pos": None}, Action.STOP, Reason.POSE),
    ({"link_age": CONFIG.link_land}, Action.NONE, Reason.NOMINAL),
    ({"link_age": CONFIG.link_land + 0.01}, Action.LAND, Reason.LINK),
    ({"link_age": CONFIG.link_stop + 0.01}, Action.STOP, Reason.LINK),
    ({"link_age": inf}, Action.STOP, Reason.LINK),
    ({"vehicle_fault": True}, Action.STOP, Reason.VEHICLE),
    ({"pos": np.array([2.1, 0.0, 1.0])}, Action.NONE, Reason.NOMINAL),
    ({"pos": np.array([2.2, 0.0, 1.0])}, Action.LAND, Reason.FENCE),
    ({"pos": np.array([0.0, -2.2, 1.0])}, Action.LAND, Reason.FENCE),
    ({"pos": np.array([0.0, 0.0, 2.0])}, Action.LAND, Reason.FENCE),
    ({"pos": np.array([0.0, -2.5, 1.0])}, Action.STOP, Reason.FENCE),
    ({"pos": np.array([0.0, nan, 1.0])}, Action.STOP, Reason.FENCE),
    ({"voltage": CONFIG.battery_warn - 0.01}, Action.WARN, Reason.BATTERY),
    ({"command_finite": False}, Action.WARN, Reason.COMMAND),
    ({"solver_ok": False}, Action.WARN, Reason.SOLVER),
    ({"late": True}, Action.WARN, Reason.DEADLINE),
]


def judge(facts: Facts, memory: Memory | None = None) -> Verdict:
    return check(facts, remember(memory or Memory(), facts, CONFIG), CONFIG)


@pytest.mark.parametrize(("change", "action", "reason"), SINGLE)
def test_each_check_on_its_own(change: dict[str, object], action: Action, reason: Reason) -> None:
    assert judge(replace(GOOD, **change)) == (action, reason)


PAIRS = [pair for pair in combinations(SINGLE, 2) if not pair[0][0].keys() & pair[1][0].keys()]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_gravest_verdict_wins(first: tuple, second: tuple) -> None:
    both = replace(GOOD, **{**first[0], **second[0]})
    assert judge(both).action == max(first[1], second[1])


@pytest.mark.parametrize(
    ("change", "limit", "reason", "action"),
    [
        ({"command_finite": False}, CONFIG.bad_steps_land, Reason.COMMAND, Action.LAND),
        ({"command_finite": False}, CONFIG.bad_steps_descend, Reason.COMMAND, Action.DESCEND),
        ({"solver_ok": False}, CONFIG.bad_steps_land, Reason.SOLVER, Action.LAND),
        ({"solver_ok": False}, CONFIG.bad_steps_descend, Reason.SOLVER, Action.DESCEND),
        ({"late": True}, CONFIG.late_steps_land, Reason.DEADLINE, Action.LAND),
    ],
)
def test_steps_in_a_row(change: dict[str, bool], limit: int, reason: Reason, action: Action) -> None:
    memory, verdicts = Memory(), []
    for _ in range(limit):
        memory = remember(memory, replace(GOOD, **change), CONFIG)
        verdicts.append(check(GOOD, memory, CONFIG))
    assert verdicts[-1] == (action, reason)
    assert all(verdict.action < action for verdict in verdicts[:-1])
    assert check(GOOD, remember(memory, GOOD, CONFIG), CONFIG) == NOMINAL


@pytest.mark.parametrize(
    ("change", "duration", "verdict"),
    [
        ({"rpy": np.array([1.1, 0.0, 0.0])}, CONFIG.tilt_time, (Action.STOP, Reason.TILT)),
        ({"rpy": np.array([0.0, -1.1, 0.0])}, CONFIG.tilt_time, (Action.STOP, Reason.TILT)),
        ({"voltage": CONFIG.battery_land - 0.01}, CONFIG.battery_time, (Action.LAND, Reason.BATTERY)),
    ],
)
def test_what_must_last(change: dict[str, object], duration: float, verdict: tuple[Action, Reason]) -> None:
    begin = replace(GOOD, **change)
    memory = remember(Memory(), begin, CONFIG)
    in_time = replace(begin, t=begin.t + duration - 0.01)
    too_long = replace(begin, t=begin.t + duration + 0.01)
    assert judge(in_time, memory).action < verdict[0]
    assert judge(too_long, memory) == verdict
    interrupted = remember(remember(memory, GOOD, CONFIG), too_long, CONFIG)
    assert check(too_long, interrupted, CONFIG).action < verdict[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, Reason.NOMINAL),
        ({"vehicle_fault": True}, Reason.VEHICLE),
        ({"link_age": 0.6}, Reason.LINK),
        ({"pose_age": 0.15}, Reason.POSE),
        ({"pos": None}, Reason.POSE),
        ({"voltage": 3.69}, Reason.BATTERY),
        ({"pos": np.array([3.0, 0.0, 0.0])}, Reason.FENCE),
        ({"rpy": np.array([0.0, 0.6, 0.0])}, Reason.TILT),
    ],
)
def test_may_arm(change: dict[str, object], reason: Reason) -> None:
    assert may_arm(replace(GOOD, **change), CONFIG).reason is reason


@settings(max_examples=100, deadline=None)
@given(st.builds(Command, *[st.floats(allow_nan=False, allow_infinity=True)] * 4))
def test_limited_commands_are_within_the_limits_and_unchanged_inside(command: Command) -> None:
    limited = limit_command(command, 0.44, CONFIG)
    assert max(abs(limited.roll), abs(limited.pitch)) <= CONFIG.tilt_command_max
    assert abs(limited.yaw_rate) <= CONFIG.yaw_rate_command_max
    assert CONFIG.thrust_command_min <= limited.thrust <= 0.44
    assert limit_command(limited, 0.44, CONFIG) == limited


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_is_finite(position: int, value: float) -> None:
    command = [0.1, 0.1, 0.1, 0.3]
    assert is_finite(Command(*command))
    command[position] = value
    assert not is_finite(Command(*command))
