"""What is known of obstacles: those that move must be dated, by this machine's clock."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from deq_mpc_controller.surroundings import Surroundings

STILL = np.array([[1.0, 0.0, 1.0, 0.2, 0.0, 0.0, 0.0]])
MOVING = np.array([[1.0, 0.0, 1.0, 0.2, 0.0, 0.3, 0.0]])
ELSEWHERE = np.array([[1.5, 0.0, 1.0, 0.2, 0.0, 0.3, 0.0]])
NOW, TOLERANCE = 10.0, 0.02
LATEST = NOW + TOLERANCE
UNKNOWN = Surroundings(obstacles_known=False)


@pytest.mark.parametrize("stamp", [9.8, NOW, LATEST])
@pytest.mark.parametrize("obstacles", [STILL, MOVING, np.zeros((0, 7))])
def test_news_of_now_are_taken(obstacles: np.ndarray, stamp: float) -> None:
    world = UNKNOWN.with_obstacles(obstacles, stamp, LATEST)
    assert world.obstacles_known
    np.testing.assert_array_equal(world.obstacles, obstacles)
    assert world.motion_age(NOW) == pytest.approx(max(NOW - stamp, 0.0) if obstacles is MOVING else 0.0)


def test_those_that_stand_need_no_date() -> None:
    world = UNKNOWN.with_obstacles(STILL, NOW + 3600.0, LATEST)
    np.testing.assert_array_equal(world.obstacles_at(NOW), STILL)
    assert world.motion_age(NOW) == 0.0


def test_news_from_the_future_are_none_and_the_former_grow_old() -> None:
    world = UNKNOWN.with_obstacles(MOVING, NOW - 0.1, LATEST)
    for late in (0.0, 0.3, 0.6):
        world = world.with_obstacles(ELSEWHERE, NOW + late + TOLERANCE + 0.01, NOW + late + TOLERANCE)
        np.testing.assert_array_equal(world.obstacles, MOVING)
        assert world.motion_age(NOW + late) == pytest.approx(0.1 + late)
    assert world.with_obstacles(ELSEWHERE, NOW + 0.6, NOW + 0.62).motion_age(NOW + 0.6) == 0.0


@pytest.mark.parametrize("before", [UNKNOWN, UNKNOWN.with_obstacles(STILL, NOW - 5.0, LATEST)])
def test_nobody_flies_among_moving_ones_that_were_never_dated(before: Surroundings) -> None:
    world = before.with_obstacles(MOVING, NOW + 1.0, LATEST)
    assert world.motion_age(NOW) == inf
    assert np.isfinite(world.obstacles_at(NOW)).all()
    assert replace(world, obstacles=STILL).motion_age(NOW) == 0.0
