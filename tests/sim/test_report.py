"""The picture of a flight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from deq_mpc_sim.flight_watch import FlightWatch
from deq_mpc_sim.referee import PolicyTimes
from deq_mpc_sim.report import FAILURE, HIT, NEAR, SUCCESS, save_report

START, GOAL = np.array([-1.5, 0.0, 1.0]), np.array([1.5, 0.0, 1.0])


def watch_flight(obstacles: np.ndarray) -> FlightWatch:
    watch = FlightWatch()
    watch.see_goal(GOAL)
    watch.see_obstacles(0.0, obstacles)
    watch.see_state("TAKEOFF")
    watch.see_vehicle(0.0, START)
    watch.see_state("FLY")
    for i in range(101):
        watch.see_vehicle(0.1 + i / 25, START + i / 100 * (GOAL - START), np.zeros(3))
        watch.see_policy(0.1 + i / 25, PolicyTimes(1.0, 2.0, 3.0))
    watch.see_state("LAND")
    watch.see_state("IDLE")
    return watch


def colours(picture: Path) -> set[str]:
    red, green, blue = np.moveaxis(np.rint(255 * imread(picture)[..., :3]).astype(int), -1, 0)
    return {f"#{colour:06x}" for colour in np.unique(red << 16 | green << 8 | blue).tolist()}


def save(watch: FlightWatch, path: Path) -> set[str]:
    save_report(path, watch.record(), watch.verdict(None, str(path)), "clutter, seed 0")
    return colours(path)


def test_a_good_flight_and_a_collision_look_different(tmp_path: Path) -> None:
    good = save(watch_flight(np.array([[0.0, 0.5, 1.0, 0.2, 0.0, 0.0, 0.0]])), tmp_path / "good.png")
    bad = save(watch_flight(np.array([[0.0, 0.1, 1.0, 0.2, 0.1, 0.0, 0.0]])), tmp_path / "bad.png")
    assert SUCCESS in good
    assert FAILURE not in good
    assert {FAILURE, HIT} <= bad
    assert NEAR in good
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.png", "good.png"]


@pytest.mark.parametrize("states", [[], ["TAKEOFF", "FAULT"]])
def test_a_flight_that_never_was_has_a_picture_too(tmp_path: Path, states: list[str]) -> None:
    watch = FlightWatch()
    for state in states:
        watch.see_state(state)
    assert FAILURE in save(watch, tmp_path / "nothing.png")


def test_nothing_is_left_of_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    watch = watch_flight(np.zeros((0, 7)))
    with pytest.raises(FileNotFoundError):
        save(watch, tmp_path / "missing" / "flight.png")
    assert not list(tmp_path.iterdir())
