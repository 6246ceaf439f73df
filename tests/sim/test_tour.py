"""Legs to and fro, what counts on the way, the memory's slope, and the summary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_sim.referee import PolicyTimes, Rules
from deq_mpc_sim.tour import MEMORY_PERIOD, MemoryTrack, Tour, TourSummary

GOAL, START = np.array([1.5, 0.0, 1.0]), np.array([-1.5, 0.0, 1.0])
SPHERE = np.array([[0.0, 0.0, 1.0, 0.15, 0.0, 0.0, 0.0]])


def fly_leg(tour: Tour, t: float, duration: float = 2.0) -> float:
    """From the other end to the goal at constant speed and a moment of rest there; gives the time after it."""
    goal = tour.goal
    origin = START if goal is GOAL else GOAL
    for i in range(1, 101):
        tour.see_vehicle(t + duration * i / 100, origin + i / 100 * (goal - origin), (goal - origin) / duration)
    assert tour.goal is goal  # it is there, but too fast
    tour.see_vehicle(t + duration + 0.1, goal, np.zeros(3))
    return t + duration + 0.1


def test_goals_alternate_until_the_time_is_up() -> None:
    tour = Tour((GOAL, START), minutes=0.1)
    t, goals = 100.0, []
    while not tour.over:
        goals.append(tour.goal)
        t = fly_leg(tour, t)
    assert [goal is GOAL for goal in goals] == [True, False, True]
    assert (tour.reached, tour.missed, tour.collisions) == (3, 0, 0)
    assert tour.min_clearance == float("inf")


def test_a_leg_that_takes_too_long_is_given_up() -> None:
    tour = Tour((GOAL, START), minutes=10.0, rules=Rules(time_limit=5.0))
    for t in np.arange(0.0, 5.1, 0.1):
        tour.see_vehicle(t, START, np.zeros(3))
    assert (tour.reached, tour.missed) == (0, 1)
    assert tour.goal is START
    tour.see_vehicle(5.2, START, np.zeros(3))
    assert (tour.reached, tour.missed) == (1, 1)
    assert not tour.over


def test_collisions_of_all_legs_count_where_the_spheres_have_moved_to() -> None:
    tour = Tour((GOAL, START), minutes=10.0)
    t = 0.0
    for legs in (1, 2):
        tour.see_obstacles(t, SPHERE)
        t = fly_leg(tour, t)
        assert (tour.reached, tour.collisions) == (legs, legs)
    assert tour.min_clearance == pytest.approx(-0.15)
    away = np.array([[0.0, 2.0, 1.0, 0.15, 0.0, -10.0, 0.0]])
    tour.see_obstacles(t, away)
    tour.see_vehicle(t + 0.2, np.array([0.0, 0.0, 1.0]), np.zeros(3))
    assert tour.collisions == 3


@settings(max_examples=20, deadline=None)
@given(st.floats(-5.0, 5.0), st.integers(3, 60))
def test_the_slope_is_found_between_samples_that_are_far_enough_apart(slope: float, count: int) -> None:
    track = MemoryTrack()
    for i in range(count * 50):
        t = 1.7e9 + 0.2 * i
        track.add(t, 400.0 + slope * 0.2 * i / 60.0)
    times = [t for t, _ in track.samples]
    assert len(times) == count
    assert min(np.diff(times)) >= MEMORY_PERIOD
    assert track.slope() == pytest.approx(slope, abs=1e-4)


def test_two_samples_make_no_slope() -> None:
    track = MemoryTrack()
    track.add(0.0, 1.0)
    track.add(MEMORY_PERIOD, 2.0)
    assert track.slope() is None


def summary(**changes: object) -> TourSummary:
    values = {
        "fault": None,
        "minutes": 10.0,
        "control_steps": 60000,
        "deadline_misses": 40,
        "scheduler_stalls": 34,
        "policy_ms": PolicyTimes(0.5, 0.9, 2.0),
        "goals_reached": 140,
        "goals_missed": 1,
        "collisions": 0,
        "min_clearance_m": 0.05,
        "memory_mb": (400.0, 400.0, 400.5),
        "memory_mb_per_min": 0.002,
    }
    return TourSummary(**{**values, **changes})  # type: ignore[arg-type]


def test_the_summary_survives_json() -> None:
    assert TourSummary.from_json(summary().to_json()) == summary()


def test_the_schedulers_share_of_the_misses_does_not_count() -> None:
    assert summary().miss_share == pytest.approx(1e-4)
    assert summary(control_steps=0, deadline_misses=0, scheduler_stalls=0).miss_share == 0.0
