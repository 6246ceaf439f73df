"""The picture of a flight."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Annotation, Text

from deq_mpc_sim.flight_watch import FlightWatch
from deq_mpc_sim.referee import PolicyTimes
from deq_mpc_sim.report import FAILURE, HIT, NEAR, SUCCESS, draw_report, save_report

NEARER, ENTERED = "● nearer than 0.15 m", "● entered"
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


def texts(watch: FlightWatch) -> list[str]:
    figure = draw_report(watch.record(), watch.verdict(None, None), "clutter, seed 0")
    return [text.get_text().strip() for text in figure.findobj(Text) if text.get_text()]


@pytest.mark.parametrize(("y", "meanings"), [(0.5, set()), (0.3, {NEARER}), (0.1, {ENTERED})])
def test_only_colours_that_are_there_are_explained(y: float, meanings: set[str]) -> None:
    sphere = np.array([[0.0, y, 1.0, 0.2, 0.0, 0.0, 0.0]])
    assert {text for text in texts(watch_flight(sphere)) if text.startswith("●")} == meanings


def test_a_failed_flight_says_why_and_what_is_not_there() -> None:
    watch = FlightWatch()
    watch.see_obstacles(0.0, np.array([[0.0, 0.5, 1.0, 0.2, 0.0, 0.0, 0.0]]))
    watch.see_state("TAKEOFF")
    watch.see_failure("battery low")
    watch.see_state("FAULT")
    shown = texts(watch)
    assert {"Failed", "battery low"} <= set(shown)
    assert shown.count("the policy never flew") == 2
    assert "no spheres" not in shown


def test_deadlines_are_shown_out_of_how_many_steps() -> None:
    watch = watch_flight(np.zeros((0, 7)))
    watch.see_deadlines(28, 1000)
    assert {"28 of 1,000", "no spheres", "Goal reached"} <= set(texts(watch))


def test_labels_of_equal_values_do_not_lie_on_each_other() -> None:
    watch = FlightWatch()
    watch.see_policy(0.0, PolicyTimes(1.0, 1.0, 1.0))
    figure = draw_report(watch.record(), watch.verdict(None, None), "")
    labels = [text for text in figure.findobj(Annotation) if text.get_text().strip().startswith(("p50", "p99", "max"))]
    boxes = [label.get_window_extent() for label in labels]
    assert len(boxes) == 3
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


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
