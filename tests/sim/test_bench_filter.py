"""Adversaries in lockstep with the simulated vehicle: with the filter none hits anything, without it all do."""

import pytest

from deq_mpc_controller.settings import controller_config, unfiltered_config
from deq_mpc_core.bench.row import BenchOptions
from deq_mpc_sim import bench_filter
from deq_mpc_sim.adversaries import ADVERSARIES
from deq_mpc_sim.bench_filter import fly

CONFIG, OFF = controller_config(), unfiltered_config()


@pytest.mark.parametrize("kind", ADVERSARIES)
def test_no_adversary_gets_through(kind: str) -> None:
    outcome = fly(kind, 0, 4.0, CONFIG)
    assert not outcome.lost, outcome
    assert outcome.failure == ""
    assert outcome.overruled > 0.02


@pytest.mark.parametrize("kind", ["ram", "escape", "drop", "random"])
def test_without_the_filter_they_do(kind: str) -> None:
    outcome = fly(kind, 0, 4.0, OFF)
    assert outcome.lost or outcome.failure != ""
    assert outcome.overruled == 0.0


def test_the_suite_says_what_was_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_filter, "ADVERSARIES", {"drop": ADVERSARIES["drop"]})
    monkeypatch.setattr(bench_filter, "QUICK_SECONDS", 1.5)
    with_filter, without = bench_filter.suite(BenchOptions(quick=True))
    assert with_filter.engine == "filter"
    assert with_filter.note.startswith("0 collisions, 0 out of the fence, 0 on the ground")
    assert without.details["overruled"] == 0.0
    assert without.details["min_clearance_m"] < with_filter.details["min_clearance_m"] or without.details["crashes"] > 0
