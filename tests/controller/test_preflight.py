"""Every item of the pre-flight check: alone, in words that say what to do, and all of them at once."""

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest

from deq_mpc_controller.mocap_monitor import MocapReport
from deq_mpc_controller.preflight import Readiness, advice, missing
from deq_mpc_controller.settings import controller_config
from deq_mpc_controller.vehicle_io import VehicleStatus

CONFIG = controller_config()
POS = np.array([0.2, -0.1, 0.02])
VEHICLE = VehicleStatus(armed=False, voltage=4.0, age=0.05, pos=POS)
MOCAP = MocapReport(seen_for=2.0, rate=100.0, latency=0.01, rejects=0.0)
GOOD = Readiness(VEHICLE, MOCAP, POS, np.zeros(3), 0.01, obstacles_wanted=True, obstacles_known=True)

ITEMS = [
    ({"vehicle": replace(VEHICLE, fault="tumbled")}, "the vehicle reports: tumbled"),
    ({"vehicle": VehicleStatus(fault="locked: reboot it", age=0.1, voltage=4.0)}, "reports: locked: reboot it"),
    ({"vehicle": replace(VEHICLE, age=inf)}, "no word from the vehicle yet"),
    ({"vehicle": replace(VEHICLE, age=0.7)}, "no word from the vehicle for 0.7 s"),
    ({"vehicle": replace(VEHICLE, voltage=3.6)}, "battery at 3.60 V; charge it, 3.7 V are the least"),
    ({"vehicle": replace(VEHICLE, voltage=nan)}, "battery at nan V"),
    ({"vehicle": replace(VEHICLE, pos=np.array([0.2, -0.1, 0.22]))}, "its own estimate says (0.20, -0.10, 0.22) m"),
    ({"vehicle": replace(VEHICLE, pos=np.full(3, nan))}, "its own estimate says"),
    (
        {"vehicle": replace(VEHICLE, arms_itself=True), "arms_itself": False},
        "the vehicle arms by itself, its platform does not: another thrust map is needed; correct platform:=",
    ),
    (
        {"vehicle": replace(VEHICLE, arms_itself=False), "arms_itself": True},
        "the vehicle does not arm by itself, its platform does",
    ),
    ({"pos": None, "rpy": None}, "no usable mocap pose"),
    ({"mocap": MocapReport()}, "no usable mocap pose"),
    ({"mocap": replace(MOCAP, seen_for=0.0, latency=1.7e9)}, "stamped 1.7e+09 s before they arrive"),
    ({"mocap": replace(MOCAP, seen_for=0.4)}, "mocap seen for 0.4 s"),
    ({"mocap": replace(MOCAP, rate=20.0)}, "mocap at 20 Hz; 40 Hz are the least"),
    ({"mocap": replace(MOCAP, latency=0.15)}, "arrive 150 ms after their stamps"),
    ({"mocap": replace(MOCAP, rejects=0.3)}, "30 % of the mocap poses are refused"),
    ({"attitude_age": 0.7}, "mocap poses without attitude"),
    (
        {"pos": np.array([0.2, 2.5, 0.0]), "vehicle": replace(VEHICLE, pos=None)},
        "outside the fence, at (0.20, 2.50, 0.00)",
    ),
    (
        {"place": np.array([0.2, 0.3, 0.0])},
        "it stands at (0.20, -0.10) m, its initial_position in crazyflies.yaml is (0.20, 0.30) m",
    ),
    ({"rpy": np.array([0.0, 0.5, 0.0])}, "a tilt of 0 and 29 deg"),
    ({"obstacles_known": False}, "no obstacles; publish them on /obstacles"),
    ({"obstacle_age": 0.6}, "obstacles that move are 0.6 s old; check who publishes"),
]


def items(ready: Readiness) -> tuple[str, ...]:
    return missing(ready, CONFIG.preflight, CONFIG.safety)


def test_nothing_is_missing() -> None:
    assert items(GOOD) == ()
    assert items(replace(GOOD, vehicle=replace(VEHICLE, pos=None))) == ()
    assert items(replace(GOOD, obstacles_wanted=False, obstacles_known=False)) == ()
    for reported, expected in ((None, True), (False, None), (True, True), (False, False)):
        assert items(replace(GOOD, vehicle=replace(VEHICLE, arms_itself=reported), arms_itself=expected)) == ()
    assert items(replace(GOOD, place=POS + np.array([0.1, 0.2, 0.7]))) == ()  # heights differ by what is the origin


def test_a_flight_without_obstacles_is_possible_but_said() -> None:
    assert advice(GOOD) == ()
    (line,) = advice(replace(GOOD, obstacles_wanted=False, obstacles_known=False))
    assert "nobody has published obstacles" in line
    assert advice(replace(GOOD, obstacles_wanted=False)) == ()
    assert advice(replace(GOOD, obstacles_known=False)) == ()  # that is missing, not advice


@pytest.mark.parametrize(("change", "words"), ITEMS)
def test_each_item_alone(change: dict[str, object], words: str) -> None:
    (item,) = items(replace(GOOD, **change))
    assert words in item


def test_all_that_is_missing_is_said_at_once() -> None:
    nothing = items(Readiness(obstacles_wanted=True))
    assert len(nothing) == 3
    assert [text.split(";")[0].split(",")[0] for text in nothing] == [
        "no word from the vehicle yet",
        "no usable mocap pose",
        "no obstacles",
    ]
