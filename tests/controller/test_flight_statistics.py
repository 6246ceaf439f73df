"""What counts as a missed deadline, whose fault it is, and the running percentiles."""

import math

import numpy as np
import pytest

from deq_mpc_controller.flight_statistics import FlightStatistics
from deq_mpc_controller.process import Instant

PERIOD = 0.01


@pytest.mark.parametrize(
    ("gap", "length", "in_flight", "late"),
    [
        (1.0, 0.5, True, False),
        (1.4, 0.9, True, False),
        (1.6, 0.5, True, True),
        (1.0, 1.1, True, True),
        (1.6, 1.1, False, False),
    ],
)
def test_deadline(gap: float, length: float, in_flight: bool, late: bool) -> None:
    statistics = FlightStatistics(PERIOD)
    statistics.add_step(Instant(0.0), Instant(0.001), True, None)
    statistics.add_step(Instant(gap * PERIOD), Instant((gap + length) * PERIOD), in_flight, None)
    assert statistics.late is late
    assert (statistics.misses, statistics.stalls, statistics.steps) == (int(late), 0, 1 + in_flight)


@pytest.mark.parametrize(
    ("gap", "gap_waited", "length", "length_waited", "stalls"),
    [
        (1.6, 0.2, 0.5, 0.0, 1),  # began late because it had waited
        (1.6, 0.05, 0.5, 0.45, 0),  # would have begun late all the same
        (1.0, 0.0, 1.3, 0.4, 1),  # took long because it was interrupted
        (1.0, 0.4, 1.3, 0.2, 0),  # took long by itself
        (1.6, 0.2, 1.3, 0.4, 1),
        (1.6, 0.2, 1.3, 0.0, 0),
        (1.4, 0.4, 0.9, 0.4, 0),  # waited, but was in time
    ],
)
def test_a_stall_is_a_miss_that_waiting_for_a_cpu_explains(
    gap: float, gap_waited: float, length: float, length_waited: float, stalls: int
) -> None:
    statistics = FlightStatistics(PERIOD)
    statistics.add_step(Instant(0.0, 5.0), Instant(0.001, 5.0), True, None)
    began = Instant(gap * PERIOD, 5.0 + gap_waited * PERIOD)
    ended = Instant(began.t + length * PERIOD, began.waited + length_waited * PERIOD)
    statistics.add_step(began, ended, True, None)
    assert statistics.stalls == stalls
    assert statistics.misses == int(gap > 1.5 or length > 1.0)


def test_one_long_interruption_makes_two_late_steps_both_the_schedulers() -> None:
    statistics = FlightStatistics(PERIOD)
    statistics.add_step(Instant(0.0, 0.0), Instant(0.03, 0.028), True, None)
    statistics.add_step(Instant(0.03, 0.028), Instant(0.032, 0.028), True, None)
    assert (statistics.misses, statistics.stalls) == (2, 2)


def test_policy_time() -> None:
    statistics = FlightStatistics(PERIOD)
    assert all(math.isnan(value) for value in statistics.policy_ms())
    for k, seconds in enumerate(np.arange(1, 101) / 1000.0):
        statistics.add_step(Instant(k * PERIOD), Instant(k * PERIOD + seconds), True, seconds)
    statistics.add_step(Instant(2.0), Instant(3.0), True, None)
    assert statistics.policy_ms() == pytest.approx((50.0, 99.0, 100.0), rel=0.01)
