"""From take-off to the verdict, as the recorder follows it."""

from __future__ import annotations

import numpy as np
import pytest

from deq_mpc_sim.flight_watch import FlightWatch
from deq_mpc_sim.referee import PolicyTimes

START, GOAL = np.array([-1.5, 0.0, 1.0]), np.array([1.5, 0.0, 1.0])
SPHERE = np.array([[0.0, 0.4, 1.0, 0.15, 0.0, 0.0, 0.0]])


def take_off(watch: FlightWatch, obstacles: np.ndarray = SPHERE) -> None:
    watch.see_goal(GOAL)
    watch.see_obstacles(0.0, obstacles)
    for i, state in enumerate(("IDLE", "READY", "ARMED", "TAKEOFF")):
        watch.see_state(state)
        watch.see_vehicle(0.1 * i, START)


def fly_across(watch: FlightWatch, t0: float = 1.0, measured_velocity: bool = True) -> float:
    watch.see_state("FLY")
    for i in range(401):
        s = i / 400
        pos = START + (10 * s**3 - 15 * s**4 + 6 * s**5) * (GOAL - START)
        vel = 30 * s**2 * (1 - s) ** 2 / 4.0 * (GOAL - START)
        watch.see_vehicle(t0 + 4.0 * s, pos, vel if measured_velocity else None)
    return t0 + 4.0


def land(watch: FlightWatch, t: float) -> None:
    watch.see_state("LAND")
    for i in range(1, 11):
        watch.see_vehicle(t + 0.1 * i, GOAL - [0.0, 0.0, 0.1 * i])
    watch.see_state("IDLE")


@pytest.mark.parametrize("measured_velocity", [True, False])
def test_a_good_flight(measured_velocity: bool) -> None:
    watch = FlightWatch()
    take_off(watch)
    end = fly_across(watch, measured_velocity=measured_velocity)
    assert watch.end is None
    assert watch.fault == "not landed"
    watch.see_policy(4.0, PolicyTimes(1.0, 2.0, 3.0))
    watch.see_deadlines(2, 900)
    land(watch, end)
    assert (watch.end, watch.fault) == ("landed", None)
    verdict = watch.verdict("bag", "flight.png")
    assert verdict.success
    assert verdict.min_clearance_m == pytest.approx(0.25, abs=1e-3)
    assert verdict.time_to_goal_s == pytest.approx(3.46, abs=0.1)  # when it is slow enough
    assert verdict.policy_ms == PolicyTimes(1.0, 2.0, 3.0)
    assert (verdict.deadline_misses, verdict.control_steps) == (2, 900)


def test_a_goal_reached_just_after_the_controllers_decision_counts() -> None:
    for delay, success in ((0.3, True), (0.7, False)):
        watch = FlightWatch()
        take_off(watch)
        watch.see_state("FLY")
        watch.see_vehicle(1.0, GOAL - [0.16, 0.0, 0.0], np.zeros(3))
        watch.see_state("LAND")
        watch.see_vehicle(1.0 + delay, GOAL, np.zeros(3))
        watch.see_state("IDLE")
        assert (watch.fault is None) == success


def test_the_record_is_what_was_seen() -> None:
    watch = FlightWatch()
    take_off(watch)
    land(watch, fly_across(watch))
    record = watch.record()
    assert len(record.t) == len(record.pos) == 4 + 401 + 10
    assert record.fly == pytest.approx((1.0, 5.5))
    assert record.clearance.min() == pytest.approx(0.25, abs=1e-3)
    np.testing.assert_allclose(record.sphere_clearance, record.clearance.min())
    np.testing.assert_array_equal(record.spheres, SPHERE)


def test_moving_spheres_are_remembered_where_they_came_nearest() -> None:
    """A sphere that comes down on the path and is there when the vehicle is; its messages come at 20 Hz."""
    watch = FlightWatch()
    take_off(watch)
    watch.see_state("FLY")
    for i in range(401):
        t = 1.0 + i / 100
        height = 1.9 - 0.3 * (t - 1.0)
        if i % 5 == 0:
            watch.see_obstacles(t, np.array([[0.0, 0.0, height, 0.15, 0.0, 0.0, -0.3]]))
        watch.see_vehicle(t, np.array([-1.5 + 0.75 * (t - 1.0), 0.0, 1.0]), np.array([0.75, 0.0, 0.0]))
    record = watch.record()
    times = 1.0 + np.arange(401) / 100
    distance = np.hypot(-1.5 + 0.75 * (times - 1.0), 0.9 - 0.3 * (times - 1.0)) - 0.15
    np.testing.assert_allclose(record.clearance, distance, atol=1e-9)
    nearest = times[distance.argmin()]
    np.testing.assert_allclose(record.spheres[0, 2], 1.9 - 0.3 * (nearest - 1.0), atol=1e-9)


def test_a_collision_fails_the_flight() -> None:
    watch = FlightWatch()
    take_off(watch, np.array([[0.0, 0.0, 1.0, 0.15, 0.0, 0.0, 0.0]]))
    land(watch, fly_across(watch))
    verdict = watch.verdict(None, None)
    assert (verdict.success, verdict.collisions) == (False, 1)
    assert verdict.fault == "1 collision"
    assert verdict.min_clearance_m == pytest.approx(-0.15, abs=5e-3)
    assert "collisions: 1" in watch.progress()


@pytest.mark.parametrize("simulated", [True, False])
@pytest.mark.parametrize(
    ("failure", "busy"), [("no mocap pose", True), ("control steps too late", True), ("tilted too far", False)]
)
def test_the_fault_is_what_the_controller_says(failure: str, busy: bool, simulated: bool) -> None:
    watch = FlightWatch()
    watch.simulated = simulated
    take_off(watch)
    fly_across(watch)
    watch.see_failure(failure)
    watch.see_state("FAULT")
    hint = " (this machine was too busy; close other programs)" if busy and simulated else ""
    assert watch.verdict(None, None).fault == failure + hint


@pytest.mark.parametrize(("obstacles", "fault"), [(SPHERE, ""), (SPHERE - [0.0, 0.4, 0, 0, 0, 0, 0], "; 1 collision")])
def test_the_fault_is_the_cause_and_what_went_wrong_before(obstacles: np.ndarray, fault: str) -> None:
    watch = FlightWatch()
    take_off(watch, obstacles)
    watch.see_state("FLY")
    for i in range(61):
        watch.see_vehicle(2.0 + 0.05 * i, START + 0.0117 * i * (GOAL - START), np.array([0.7, 0.0, 0.0]))
    watch.see_failure("battery low")
    land(watch, 5.0)
    assert watch.fault == "battery low" + fault


def test_a_flight_that_is_given_up_says_so() -> None:
    watch = FlightWatch()
    take_off(watch)
    fly_across(watch)
    watch.stop("interrupted")
    assert (watch.end, watch.fault) == ("interrupted", "interrupted")


@pytest.mark.parametrize("state", ["FAULT", "ESTOP"])
def test_faults_end_and_fail_the_flight(state: str) -> None:
    watch = FlightWatch()
    take_off(watch)
    fly_across(watch)
    watch.see_state(state)
    assert watch.end == f"flight state {state}"
    assert watch.fault == f"flight state {state}"


def test_motors_off_in_mid_air_is_no_landing() -> None:
    watch = FlightWatch()
    take_off(watch)
    fly_across(watch)
    watch.see_state("IDLE")
    assert watch.end == "from FLY to IDLE without landing"
    assert not watch.verdict(None, None).success


def test_what_never_flew_is_no_success() -> None:
    watch = FlightWatch()
    assert watch.progress() == "waiting for the controller"
    take_off(watch)
    land(watch, 2.0)
    assert (watch.end, watch.fault) == ("landed", "the policy never flew")
    assert watch.record().fly is None


def test_nothing_on_the_ground_ends_the_flight() -> None:
    watch = FlightWatch()
    for state in ("IDLE", "READY", "IDLE", "READY", "ARMED"):
        watch.see_state(state)
        assert watch.end is None
    assert not watch.took_off


def test_without_spheres_there_is_no_clearance() -> None:
    watch = FlightWatch()
    take_off(watch, np.zeros((0, 7)))
    land(watch, fly_across(watch))
    assert watch.verdict(None, None).min_clearance_m is None
    assert watch.fault is None


def test_progress_says_what_matters() -> None:
    watch = FlightWatch()
    take_off(watch)
    watch.see_state("FLY")
    watch.see_vehicle(2.0, np.array([0.0, 0.0, 1.0]), np.zeros(3))
    watch.see_policy(2.0, PolicyTimes(1.04, 2.06, 3.0))
    assert watch.progress() == "  2.0 s  FLY   1.50 m to the goal   0.25 m to the nearest sphere  policy p99 2.1 ms"


def test_repeated_and_older_samples_are_ignored() -> None:
    watch = FlightWatch()
    for t in (1.0, 1.0, 0.5, 1.1):
        watch.see_vehicle(t, START)
    np.testing.assert_allclose(watch.record().t, [0.0, 0.1])
