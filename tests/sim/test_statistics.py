"""Wilson's interval against published values and scipy."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from deq_mpc_sim.statistics import wilson_interval


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2000), st.floats(0.0, 1.0))
def test_it_agrees_with_scipy(trials, fraction):
    successes = round(fraction * trials)
    expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_certainty_is_never_claimed():
    assert wilson_interval(500, 500)[0] == pytest.approx(0.99238, abs=1e-5)
    assert wilson_interval(0, 500)[1] == pytest.approx(0.00762, abs=1e-5)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError, match="successes in"):
        wilson_interval(successes, trials)
