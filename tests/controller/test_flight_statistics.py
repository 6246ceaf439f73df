"""What counts as a missed deadline, and the running percentiles."""

import math

import numpy as np
import pytest

from deq_mpc_controller.flight_statistics import FlightStatistics

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
    statistics.add_step(0.0, 0.001, True, None)
    statistics.add_step(gap * PERIOD, (gap + length) * PERIOD, in_flight, None)
    assert statistics.late is late
    assert (statistics.misses, statistics.steps) == (int(late), 1 + in_flight)


def test_policy_time() -> None:
    statistics = FlightStatistics(PERIOD)
    assert all(math.isnan(value) for value in statistics.policy_ms())
    for k, seconds in enumerate(np.arange(1, 101) / 1000.0):
        statistics.add_step(k * PERIOD, k * PERIOD + seconds, True, seconds)
    statistics.add_step(2.0, 3.0, True, None)
    assert statistics.policy_ms() == pytest.approx((50.5, 99.01, 100.0))
