"""The policy and training suites: what is timed is the same computation, and the profile covers the whole step."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from deq_mpc_core.bench import policy, train
from deq_mpc_core.bench.row import BenchOptions
from deq_mpc_core.bench.timing import Effort
from deq_mpc_core.bench.torch_threads import torch_threads
from deq_mpc_core.bench.trained import Trained, train_briefly
from deq_mpc_core.policy.regulation import RegulationPolicy

EFFORT = Effort(rounds=2, seconds=0.1)


@pytest.fixture(scope="module")
def trained() -> Iterator[Trained]:
    with torch_threads(1):
        yield train_briefly("pendulum", quick=True)


def test_engines_compute_the_same_control_step(trained: Trained) -> None:
    x = trained.batch(1, seed=0)[0, 0].numpy()
    inputs = [RegulationPolicy(trained.task, *trained.by(engine)).step(x, None)[0] for engine in ("compiled", "torch")]
    np.testing.assert_allclose(*inputs, atol=1e-2)


def test_policy_rows_are_cold_and_warm_steps_of_both(trained: Trained) -> None:
    rows = list(policy._regulation(trained, EFFORT))
    assert [(row.work.rsplit(", ", 1)[1], row.ratio == 1.0) for row in rows] == [
        ("cold", True),
        ("cold", False),
        ("warm", True),
        ("warm", False),
    ]
    assert all(row.batch == 1 and row.median_ms and "Anderson steps" in row.note for row in rows)


def test_the_cold_step_and_the_shipped_one_are_rows_of_their_own(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "TASKS", ("pendulum",))
    monkeypatch.setattr(train, "train_briefly", lambda *_, **__: trained)
    monkeypatch.setattr(train, "_profile", lambda *_: iter(()))
    rows = list(train.suite(BenchOptions(quick=True)))
    parts = [row.work.rpartition("256, ")[2] for row in rows]
    cold, shipped = "cold control step alone", "cold control step and 2 streaming, as shipped"
    assert parts == [cold, cold, shipped, shipped]


def test_the_shipped_row_is_the_shipped_training(trained: Trained) -> None:
    """As many iterates, of cold and warm control steps, as the configuration asks for."""
    file = trained.file
    for stream_steps in (0, file.train.stream_steps):
        _, iterates = train._trainer(trained, "compiled", stream_steps).loss(trained.batch(2, 0))
        turns = file.alternation.cold_iterations + stream_steps * file.alternation.warm_iterations
        assert len(iterates) == turns
    assert file.train.stream_steps > 0


def test_the_profile_covers_the_step_and_does_not_change_it(trained: Trained) -> None:
    profiled, plain = train.ProfiledTrainer(trained), train._trainer(trained, "compiled", 0)
    for seed in range(2):
        samples = trained.batch(50, seed)
        begin = time.perf_counter()
        profile = profiled.step(samples)
        whole = 1e3 * (time.perf_counter() - begin)
        plain.train_step(samples)
        assert all(value > 0.0 for value in profile.values())
        assert sum(profile.values()) <= whole
    pairs = zip(profiled._trainer.network.parameters(), plain.network.parameters(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_profile_rows_are_the_whole_step_and_each_stages_share(trained: Trained) -> None:
    whole, *stages = train._profile(trained, 1, 1)
    assert whole.ratio == 1.0
    assert sum(row.ratio for row in stages) == pytest.approx(1.0)
    assert {row.work for row in stages} == {whole.work}


def test_torch_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
