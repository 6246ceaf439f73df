"""The suite ``estimate``: that it finds delay and noise that are there, and that the estimator has little of either."""

import numpy as np
import pytest

from deq_mpc_core.bench.row import BenchOptions
from deq_mpc_sim import bench_estimate
from deq_mpc_sim.bench_estimate import CONDITIONS, PERIOD, Conditions, fly, measure, noise_and_delay


@pytest.mark.parametrize("delay", [-0.02, 0.0, 0.013, 0.04])
def test_a_known_delay_and_noise_are_found(delay: float) -> None:
    rng, t = np.random.default_rng(0), PERIOD * np.arange(2000)

    def signal(time: np.ndarray) -> np.ndarray:
        return np.stack([np.sin(5.0 * time), np.cos(8.0 * time)], axis=1)

    noise, found = noise_and_delay(signal(t), signal(t - delay) + rng.normal(0.0, 0.05, (2000, 2)))
    assert found == pytest.approx(delay, abs=0.0021)
    assert noise == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize("delay", [0.0, 0.04])
def test_the_estimate_is_up_to_date_whatever_the_delay_of_the_poses(delay: float) -> None:
    truths, estimates, times = fly(Conditions(0.001, 0.005, delay), 6.0)
    figures = measure(truths, estimates)
    assert abs(figures.velocity_delay_ms) <= 4.0
    assert abs(figures.rate_delay_ms) <= 4.0
    assert figures.velocity_mm_s < 40.0
    assert figures.rate_deg_s < 8.0
    assert len(times) == len(truths) == len(estimates)


def test_more_noise_is_seen() -> None:
    quiet, loud = (measure(*fly(Conditions(noise, noise, 0.01), 4.0)[:2]) for noise in (0.0005, 0.005))
    assert loud.velocity_mm_s > 2.0 * quiet.velocity_mm_s
    assert loud.rate_deg_s > quiet.rate_deg_s


def test_a_row_for_each_of_the_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_estimate, "QUICK_SECONDS", 2.0)
    rows = list(bench_estimate.suite(BenchOptions(quick=True)))
    assert [row.work for row in rows] == [conditions.name for conditions in CONDITIONS]
    assert rows[1].work == "mocap 1 mm, 0.3 deg, 10 ms late"
    assert all("velocity" in row.note and row.median_ms is not None and row.median_ms > 0.0 for row in rows)
