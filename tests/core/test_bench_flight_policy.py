"""The flight policy's rows: a warm step of every observation of a flight, a cold one of some."""

from __future__ import annotations

import pytest

from deq_mpc_core.bench import flight_policy
from deq_mpc_core.bench.row import BenchOptions


def test_rows_are_cold_and_warm_steps_of_the_shipped_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight_policy, "_QUICK_STEPS", 30)
    cold, warm = flight_policy.suite(BenchOptions(quick=True))
    assert (cold.work, warm.work) == tuple(f"shipped Crazyflie policy, 40 obstacles, {k}" for k in ("cold", "warm"))
    assert (cold.note, warm.note) == tuple(f"{n} x (network and 2 AL iterations)" for n in (6, 1))
    for row in (cold, warm):
        assert (row.batch, row.threads, row.horizon, row.ratio) == (1, 1, 16, 1.0)
        assert 0.0 < row.median_ms <= row.p99_ms
