"""The rules of the flight task."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_sim.referee import Ending, PolicyTimes, Referee, Rules, Verdict, describe_misses

GOAL = np.array([1.5, 0.0, 1.0])
START = np.array([-1.5, 0.0, 1.0])
NOTHING = np.zeros((0, 7))
REST = np.zeros(3)


def sphere(x: float, y: float, z: float, radius: float) -> np.ndarray:
    return np.array([[x, y, z, radius, 0.0, 0.0, 0.0]])


def fly(referee: Referee, way: np.ndarray, obstacles: np.ndarray, dt: float = 0.01) -> None:
    vel = np.gradient(way, dt, axis=0)
    for i in range(len(way)):
        referee.observe(5.0 + i * dt, way[i], vel[i], obstacles)


def straight(duration: float = 4.0, stop: float = 1.0) -> np.ndarray:
    """From start to goal at constant speed, then ``stop`` seconds of rest."""
    s = np.minimum(np.arange(0.0, duration + stop, 0.01) / duration, 1.0)
    return START + s[:, None] * (GOAL - START)


def test_a_clean_flight() -> None:
    referee = Referee(GOAL)
    fly(referee, straight(), sphere(0.0, 0.5, 1.0, 0.2))
    assert referee.ending is Ending.GOAL
    assert referee.fault is None
    assert referee.collisions == 0
    assert referee.min_clearance == pytest.approx(0.3, abs=1e-4)
    assert referee.time_to_goal == pytest.approx(4.0, abs=0.02)  # at 0.75 m/s until then: too fast to have arrived
    assert referee.elapsed == pytest.approx(4.99)


def test_entries_are_counted_not_samples() -> None:
    referee = Referee(GOAL)
    spheres = np.concatenate([sphere(-0.5, 0.0, 1.0, 0.1), sphere(0.5, 0.05, 1.0, 0.1)])
    fly(referee, straight(), spheres)
    assert referee.collisions == 2
    assert referee.ending is Ending.COLLISION
    assert referee.min_clearance == pytest.approx(-0.1, abs=5e-3)
    assert referee.time_to_goal is not None
    assert referee.fault == "2 collisions"


def test_the_border_of_the_fence() -> None:
    referee = Referee(GOAL)
    assert referee.observe(0.0, np.array([0.0, 2.29, 1.0]), REST, NOTHING) is None
    assert referee.observe(0.1, np.array([0.0, 2.31, 1.0]), REST, NOTHING) is Ending.OUTSIDE
    assert referee.observe(0.2, GOAL, REST, NOTHING) is Ending.OUTSIDE
    assert referee.fault == "left the arena"


def test_time_is_up() -> None:
    referee = Referee(GOAL)
    assert referee.observe(100.0, START, REST, NOTHING) is None
    assert referee.observe(119.9, START, REST, NOTHING) is None
    assert referee.observe(120.0, START, REST, NOTHING) is Ending.TIMEOUT
    assert referee.fault == "goal not reached"
    referee.observe(121.0, GOAL, REST, NOTHING)
    assert referee.fault == "goal reached after more than 20 s"


@settings(max_examples=60, deadline=None)
@given(st.floats(0.0, 0.3), st.floats(0.0, 0.6), st.floats(0.0, 6.28))
def test_at_the_goal_is_near_and_slow(distance: float, speed: float, angle: float) -> None:
    direction = np.array([np.cos(angle), np.sin(angle), 0.0])
    referee = Referee(GOAL)
    ending = referee.observe(0.0, GOAL + distance * direction, speed * direction, NOTHING)
    rules = Rules()
    if abs(distance - rules.goal_radius) > 1e-9:
        assert (ending is Ending.GOAL) == (distance < rules.goal_radius and speed < rules.goal_speed - 1e-12)


def test_verdicts_are_json_with_exactly_these_keys() -> None:
    verdict = Verdict(
        True, None, 0, 0.07, 4.2, PolicyTimes(1.2, 2.9, 3.5), 1, 900, "flights/a/bag", "flights/a/flight.png"
    )
    raw = json.loads(verdict.to_json())
    assert list(raw) == [
        "success",
        "fault",
        "collisions",
        "min_clearance_m",
        "time_to_goal_s",
        "policy_ms",
        "deadline_misses",
        "control_steps",
        "bag",
        "picture",
    ]
    assert raw["policy_ms"] == {"p50": 1.2, "p99": 2.9, "max": 3.5}
    assert Verdict.from_json(verdict.to_json()) == verdict
    with pytest.raises(ValueError, match="not JSON compliant"):
        Verdict(False, "why", 0, float("inf"), None, PolicyTimes(), None, None, None, None).to_json()


@pytest.mark.parametrize(
    ("misses", "steps", "text"),
    [
        (None, None, "unknown"),
        (0, 1200, "none of 1,200 steps"),
        (7, 1200, "7 of 1,200 steps (0.5 s of them in a row land it)"),
        (200, 1200, "200 of 1,200 steps (this machine is too busy)"),
    ],
)
def test_missed_deadlines_come_with_what_they_mean(misses: int | None, steps: int | None, text: str) -> None:
    verdict = Verdict(True, None, 0, 0.1, 4.0, PolicyTimes(), misses, steps, None, None)
    assert describe_misses(verdict) == text
