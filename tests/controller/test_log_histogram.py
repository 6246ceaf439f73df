"""The histogram's percentiles beside those of all the values."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_controller.log_histogram import RESOLUTION, LogHistogram

LOW, HIGH = 1e-3, 1e5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(LOW, HIGH), min_size=1, max_size=60), st.floats(0.1, 100.0))
def test_percentiles_are_those_of_all_values_to_half_a_bin(values: list[float], q: float) -> None:
    histogram = LogHistogram(LOW, HIGH)
    for value in values:
        histogram.add(value)
    exact = np.percentile(values, q, method="inverted_cdf")
    assert histogram.percentile(q) == pytest.approx(exact, rel=0.51 * RESOLUTION)
    assert histogram.percentile(q) <= histogram.max == max(values)


def test_values_beyond_the_bounds_count_as_the_bounds() -> None:
    histogram = LogHistogram(LOW, HIGH)
    for value in (0.0, 1e9):
        histogram.add(value)
    assert histogram.percentile(50.0) == pytest.approx(LOW, rel=RESOLUTION)
    assert histogram.percentile(100.0) == pytest.approx(HIGH, rel=RESOLUTION)
    assert histogram.max == 1e9


def test_without_values_there_is_nothing_to_tell() -> None:
    histogram = LogHistogram(LOW, HIGH)
    assert math.isnan(histogram.percentile(50.0))
    assert math.isnan(histogram.max)


def test_it_does_not_grow() -> None:
    histogram = LogHistogram(LOW, HIGH)
    histogram.add(1.0)
    size = len(pickle.dumps(histogram))
    for value in np.random.default_rng(0).lognormal(size=3000).tolist():
        histogram.add(value)
    assert len(pickle.dumps(histogram)) == size
