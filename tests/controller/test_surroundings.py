"""What is known of obstacles: news of those that move must be dated by this machine's clock, and in order."""

from __future__ import annotations

import numpy as np
import pytest

from deq_mpc_controller.surroundings import Surroundings

STILL = np.array([[1.0, 0.0, 1.0, 0.2, 0.0, 0.0, 0.0]])
MOVING = np.array([[1.0, 0.0, 1.0, 0.2, 0.0, 0.3, 0.0]])
ELSEWHERE = np.array([[1.5, 0.0, 1.0, 0.2, 0.0, 0.3, 0.0]])
NOW, TOLERANCE = 10.0, 0.02
UNKNOWN = Surroundings(obstacles_known=False)


def told(world: Surroundings, obstacles: np.ndarray, stamp: float, now: float = NOW) -> Surroundings:
    return world.with_obstacles(obstacles, stamp, now, TOLERANCE)


@pytest.mark.parametrize("stamp", [9.8, NOW, NOW + TOLERANCE])
@pytest.mark.parametrize("obstacles", [STILL, MOVING, np.zeros((0, 7))])
def test_news_of_now_are_taken(obstacles: np.ndarray, stamp: float) -> None:
    world = told(UNKNOWN, obstacles, stamp)
    assert world.obstacles_known
    np.testing.assert_array_equal(world.obstacles, obstacles)
    assert world.motion_age(NOW) == pytest.approx(max(NOW - stamp, 0.0) if obstacles is MOVING else 0.0)


@pytest.mark.parametrize("stamp", [NOW - 3600.0, NOW + 3600.0])
@pytest.mark.parametrize("before", [UNKNOWN, told(UNKNOWN, MOVING, NOW)])
def test_those_that_stand_need_no_date(before: Surroundings, stamp: float) -> None:
    world = told(before, STILL, stamp)
    np.testing.assert_array_equal(world.obstacles_at(NOW), STILL)
    assert world.motion_age(NOW) == 0.0


def test_news_from_the_future_are_none_and_the_former_grow_old() -> None:
    world = told(UNKNOWN, MOVING, NOW - 0.1)
    for late in (0.0, 0.3, 0.6):
        world = told(world, ELSEWHERE, NOW + late + TOLERANCE + 0.01, NOW + late)
        np.testing.assert_array_equal(world.obstacles, MOVING)
        assert world.motion_age(NOW + late) == pytest.approx(0.1 + late)
    assert told(world, ELSEWHERE, NOW + 0.6, NOW + 0.6).motion_age(NOW + 0.6) == 0.0


@pytest.mark.parametrize("before", [UNKNOWN, told(UNKNOWN, STILL, NOW - 5.0)])
def test_a_publisher_whose_clock_is_ahead_is_heard_once(before: Surroundings) -> None:
    world = told(before, MOVING, NOW + 1.0)
    assert world.motion_age(NOW) == 0.0
    world = told(world, ELSEWHERE, NOW + 1.7, NOW + 0.7)
    np.testing.assert_array_equal(world.obstacles, MOVING)
    assert world.motion_age(NOW + 0.7) == pytest.approx(0.7)


def test_news_that_were_overtaken_are_none() -> None:
    world = told(UNKNOWN, MOVING, NOW)
    assert told(world, ELSEWHERE, NOW - 0.01) is world
    np.testing.assert_array_equal(told(world, ELSEWHERE, NOW).obstacles, ELSEWHERE)
