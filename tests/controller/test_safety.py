"""Every check: below, at and above its limit; the gravest verdict wins; memories reset."""

from dataclasses import replace
from itertools import combinations
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_controller.safety import (
    MAX_OBSTACLES,
    NOMINAL,
    Action,
    Facts,
    Memory,
    Reason,
    Verdict,
    check,
    goal_refusal,
    is_finite,
    limit_command,
    obstacles_refusal,
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
    ({"link_age": inf}, Action.LAND, Reason.LINK),
    ({"link_lost": True}, Action.STOP, Reason.LOST),
    ({"link_lost": True, "vehicle_fault": True, "link_age": 1.0}, Action.STOP, Reason.LOST),
    ({"vehicle_fault": True}, Action.STOP, Reason.VEHICLE),
    ({"link_stopped": True}, Action.STOP, Reason.SILENCE),
    ({"link_stopped": True, "link_lost": True}, Action.STOP, Reason.LOST),
    ({"link_stopped": True, "vehicle_fault": True}, Action.STOP, Reason.SILENCE),
    ({"pos": np.array([2.1, 0.0, 1.0])}, Action.NONE, Reason.NOMINAL),
    ({"pos": np.array([2.2, 0.0, 1.0])}, Action.LAND, Reason.FENCE),
    ({"pos": np.array([0.0, -2.2, 1.0])}, Action.LAND, Reason.FENCE),
    ({"pos": np.array([0.0, 0.0, 2.0])}, Action.LAND, Reason.FENCE),
    ({"pos": np.array([0.0, -2.5, 1.0])}, Action.STOP, Reason.FENCE),
    ({"pos": np.array([0.0, nan, 1.0])}, Action.STOP, Reason.FENCE),
    ({"attitude_age": CONFIG.attitude_land}, Action.NONE, Reason.NOMINAL),
    ({"attitude_age": CONFIG.attitude_land + 0.01}, Action.LAND, Reason.ATTITUDE),
    ({"pose_rejects": CONFIG.rejects_warn + 0.01}, Action.WARN, Reason.REJECTS),
    ({"pose_rejects": CONFIG.rejects_land}, Action.WARN, Reason.REJECTS),
    ({"pose_rejects": CONFIG.rejects_land + 0.01}, Action.LAND, Reason.REJECTS),
    ({"rpy": np.array([1.0, 0.0, 0.0])}, Action.NONE, Reason.NOMINAL),
    ({"rpy": np.array([1.8, 0.0, 0.0])}, Action.STOP, Reason.TUMBLE),
    ({"rpy": np.array([3.1, 0.1, 2.0])}, Action.STOP, Reason.TUMBLE),
    ({"margin": 0.0}, Action.NONE, Reason.NOMINAL),
    ({"margin": -0.01}, Action.WARN, Reason.PROXIMITY),
    ({"overruled": True}, Action.WARN, Reason.FILTER),
    ({"voltage": CONFIG.battery_warn - 0.01}, Action.WARN, Reason.BATTERY),
    ({"command_finite": False}, Action.WARN, Reason.COMMAND),
    ({"solver_ok": False}, Action.WARN, Reason.SOLVER),
    ({"policy_ok": False}, Action.WARN, Reason.POLICY),
    ({"obstacle_age": CONFIG.obstacle_age}, Action.NONE, Reason.NOMINAL),
    ({"obstacle_age": CONFIG.obstacle_age + 0.01}, Action.LAND, Reason.OBSTACLE_AGE),
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
        ({"policy_ok": False}, CONFIG.bad_steps_land, Reason.POLICY, Action.LAND),
        ({"policy_ok": False}, CONFIG.bad_steps_descend, Reason.POLICY, Action.DESCEND),
    ],
)
def test_steps_in_a_row(change: dict[str, bool], limit: int, reason: Reason, action: Action) -> None:
    memory, verdicts = Memory(), []
    for _ in range(limit):
        memory = remember(memory, replace(GOOD, **change), CONFIG)
        verdicts.append(check(GOOD, memory, CONFIG))
    assert verdicts[-1] == (action, reason)
    assert all(verdict.action < action for verdict in verdicts[:-1])
    unasked = remember(memory, replace(GOOD, policy_asked=False), CONFIG)
    assert check(GOOD, unasked, CONFIG) == (action, reason)
    assert check(GOOD, remember(memory, GOOD, CONFIG), CONFIG) == NOMINAL


@pytest.mark.parametrize(
    ("change", "duration", "verdict"),
    [
        ({"rpy": np.array([1.1, 0.0, 0.0])}, CONFIG.tilt_time, (Action.STOP, Reason.TILT)),
        ({"rpy": np.array([0.0, -1.1, 0.0])}, CONFIG.tilt_time, (Action.STOP, Reason.TILT)),
        ({"rpy": np.array([0.8, 0.8, 0.0])}, CONFIG.tilt_time, (Action.STOP, Reason.TILT)),
        ({"attitude_error": 0.7}, CONFIG.response_time, (Action.STOP, Reason.RESPONSE)),
        ({"attitude_error": nan}, CONFIG.response_time, (Action.STOP, Reason.RESPONSE)),
        ({"disturbance": 3.6}, CONFIG.disturbance_time, (Action.LAND, Reason.DISTURBANCE)),
        ({"vel": np.array([2.0, -2.0, 2.0])}, CONFIG.speed_time, (Action.LAND, Reason.SPEED)),
        ({"clearance": -0.01}, CONFIG.obstacle_time, (Action.LAND, Reason.OBSTACLE)),
        ({"late": True}, CONFIG.late_time, (Action.LAND, Reason.DEADLINE)),
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


@pytest.mark.parametrize(
    ("goal", "refusal"),
    [
        ([0.0, 0.0, 1.0], ""),
        ([2.2, 0.0, 1.0], "the goal is outside the fence"),
        ([0.0, 0.0, 1e300], "the goal is outside the fence"),
        ([0.0, nan, 1.0], "the goal is not finite"),
        ([0.0, 0.0, -inf], "the goal is not finite"),
    ],
)
def test_goals_nobody_flies_to(goal: list[float], refusal: str) -> None:
    assert goal_refusal(np.array(goal), CONFIG) == refusal


@pytest.mark.parametrize(
    ("obstacles", "refusal"),
    [
        (np.zeros((0, 7)), ""),
        (np.zeros((MAX_OBSTACLES, 7)), ""),
        (np.zeros((MAX_OBSTACLES + 1, 7)), "there are 501, at most 500 can be flown around"),
        (np.array([[0.0, 0.0, 1.0, -0.1, 0.0, 0.0, 0.0]]), "one is not finite or has a negative radius"),
        (np.array([[0.0, 0.0, 1.0, 0.1, 0.0, nan, 0.0]]), "one is not finite or has a negative radius"),
    ],
)
def test_obstacles_nobody_flies_around(obstacles: np.ndarray, refusal: str) -> None:
    assert obstacles_refusal(obstacles) == refusal


def test_every_reason_has_a_check() -> None:
    """A reason that nothing gives is dead; NOMINAL is what is left, PREFLIGHT is the ground's."""
    here = {reason for _, _, reason in SINGLE} | {Reason.PREFLIGHT, Reason.TILT, Reason.RESPONSE, Reason.DISTURBANCE}
    assert set(Reason) == here | {Reason.SPEED, Reason.OBSTACLE}
