"""``deq-mpc bench``: fair timing, rows for what is missing, the JSON, the check against IPOPT."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deq_mpc_core.bench import check, command, solver, timing
from deq_mpc_core.bench.optima import independent_optima, reached, verdict
from deq_mpc_core.bench.peers import MissingPeerError
from deq_mpc_core.bench.quality import violation
from deq_mpc_core.bench.row import BenchOptions, Row, Work
from deq_mpc_core.bench.scenes import corridor, quadrotors
from deq_mpc_core.bench.table import markdown
from deq_mpc_core.bench.timing import Candidate, Effort, compare, measure
from deq_mpc_core.errors import UserError
from deq_mpc_core.models import MODELS
from deq_mpc_core.solver import CpuEngine, SolverOptions, Status, cold_state, objective


class Clock:
    """Stands still but for what candidates take."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def candidate(self, name: str, seconds: float, log: list[tuple[str, int]], prepared: bool = False) -> Candidate:
        def run(number: int) -> None:
            log.append((name, number))
            self.now += seconds

        def prepare(number: int) -> None:
            log.append((f"{name} prepares", number))
            self.now += 100.0

        return Candidate(name, run, prepare=prepare if prepared else None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_rounds_are_interleaved_and_the_warm_up_does_not_count(clock: Clock) -> None:
    log: list[tuple[str, int]] = []
    a, b = measure([clock.candidate("a", 0.001, log), clock.candidate("b", 0.002, log)], Effort(rounds=3, seconds=9.0))
    warm_up = [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert log == warm_up + [(name, number) for number in range(3) for name in "ab"]
    np.testing.assert_allclose(a, [1.0] * 3)
    np.testing.assert_allclose(b, [2.0] * 3)


def test_time_runs_out_for_all_after_the_least_rounds_and_preparation_is_not_timed(clock: Clock) -> None:
    log: list[tuple[str, int]] = []
    quick, slow = clock.candidate("quick", 0.01, log), clock.candidate("slow", 50.0, log, prepared=True)
    times = measure([quick, slow], Effort(rounds=40, seconds=1.0))
    assert [len(taken) for taken in times] == [5, 5]
    np.testing.assert_allclose(times[1], 50e3)
    assert [number for name, number in log if name == "slow prepares"] == [0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(("effort", "rounds"), [(Effort(rounds=40, seconds=0.1), 6), (Effort(rounds=4), 6)])
def test_every_case_is_taken_as_often_by_everyone(clock: Clock, effort: Effort, rounds: int) -> None:
    log: list[tuple[str, int]] = []
    candidates = [clock.candidate("quick", 0.001, log), clock.candidate("slow", 0.03, log)]
    times = measure(candidates, effort, cases=3)
    assert [len(taken) for taken in times] == [rounds, rounds]
    assert log[4:] == [(name, number) for number in range(rounds) for name in ("quick", "slow")]


def test_ratios_refer_to_the_first_candidate(clock: Clock) -> None:
    log: list[tuple[str, int]] = []
    candidates = [clock.candidate("own", 0.002, log), replace(clock.candidate("peer", 0.01, log), note="n", threads=2)]
    own, peer = compare(Work("w", 3, 7), candidates, Effort(rounds=5))
    assert (own.work, own.engine, own.batch, own.threads, own.horizon, own.note) == ("w", "own", 3, 1, 7, "")
    assert own.median_ms == pytest.approx(2.0)
    assert own.p99_ms == pytest.approx(2.0)
    assert own.ratio == pytest.approx(1.0)
    assert peer.ratio == pytest.approx(5.0)
    assert (peer.note, peer.threads) == ("n", 2)


def test_cases_that_were_missed_count_for_nobody(clock: Clock) -> None:
    """Case c takes c + 1 s here and ten times as long for the peer; ours misses case 0, the peer case 3."""

    def run(slowness: float) -> Callable[[int], None]:
        def spend(number: int) -> None:
            clock.now += slowness * (number % 4 + 1)

        return spend

    ours = Candidate("ours", run(1.0), reached=np.array([False, True, True, True]))
    peer = Candidate("peer", run(10.0), reached=np.array([True, True, True, False]), note="3/4")
    lost = Candidate("lost", run(0.1), reached=np.zeros(4, dtype=bool), note="0/4")
    rows = compare(Work("w", 1, 7, cases=4), [ours, peer, lost], Effort(rounds=8, seconds=1e6))
    assert [(row.median_ms, row.ratio) for row in rows] == [(3000.0, 1.0), (25000.0, 10.0), (None, None)]
    assert [row.note for row in rows] == ["", "3/4", "0/4"]


# The command ----------------------------------------------------------------------------------------------------------


class Point:
    """An installed suite."""

    def __init__(self, name: str) -> None:
        self.name = name

    def load(self) -> Any:
        def suite(options: BenchOptions) -> Iterator[Row]:
            os.write(1, b"a library chatters\n")
            work = Work(f"{self.name}{' quickly' if options.quick else ''}", 1, 5)
            yield work.row("deq-mpc CPU", 1, np.array([1.0, 3.0]), 2.0)
            yield work.missing("peer", 1, "not installed")

        return suite


@pytest.fixture
def suites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "entry_points", lambda group: [Point("solver"), Point("flight"), Point("flight")])


@pytest.mark.usefixtures("suites")
def test_json_is_the_last_line_and_all_else_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    command.bench(["solver"], json_output=True, quick=True)
    out, err = capfd.readouterr()
    result = json.loads(out)
    assert set(result) == {"machine", "versions", "rows"}
    assert result["machine"]["cores"] >= 1
    assert result["versions"]["numpy"] == np.__version__
    first, second = result["rows"]
    assert first["work"] == "solver quickly"
    assert (first["median_ms"], first["ratio"], first["p99_ms"]) == (2.0, 1.0, pytest.approx(2.98))
    assert (second["median_ms"], second["note"]) == (None, "missing: not installed")
    assert "a library chatters" in err
    assert "missing: not installed" in err


@pytest.mark.usefixtures("suites")
def test_all_suites_run_once_by_default_and_the_table_is_the_output(capfd: pytest.CaptureFixture[str]) -> None:
    command.bench(None)
    out = capfd.readouterr().out
    assert out.count("deq-mpc CPU") == 2
    assert out.index("flight") < out.index("solver")
    assert "2 peer: missing: not installed" in out


@pytest.mark.usefixtures("suites")
def test_the_tables_as_the_document_has_them(tmp_path: Path) -> None:
    command.bench(["solver", "flight"], markdown=tmp_path / "tables.md")
    lines = (tmp_path / "tables.md").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("machine: cpu ")
    start = lines.index("## solver")
    assert lines[start : lines.index("## flight")] == [
        "## solver",
        "",
        "| work | engine | batch | threads | T | median ms | p99 ms | ratio | note |",
        "|---|---|---|---|---|---|---|---|---|",
        "| solver | deq-mpc CPU | 1 | 1 | 5 | 2 | 2.98 | 1 |  |",
        "| solver | peer | 1 | 1 | 5 | - | - | - | missing: not installed |",
        "",
    ]


def test_a_note_cannot_break_the_table() -> None:
    row = Row("w", "e", 1, 1, 5, 1234.5, 1.0, 0.123456, "|d| < r")
    assert list(markdown({"s": [row]}, {}))[-2] == r"| w | e | 1 | 1 | 5 | 1234 | 1 | 0.123 | \|d\| < r |"


@pytest.mark.usefixtures("suites")
def test_tables_that_cannot_be_written_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make it first"):
        command.bench(["solver"], markdown=tmp_path / "nowhere" / "tables.md")
    with pytest.raises(UserError, match="check makes no tables"):
        command.bench(["check"], markdown=tmp_path / "tables.md")
    with pytest.raises(UserError, match="is no regular file"):
        command.bench(["solver"], markdown=Path("/dev/null"))


@pytest.mark.usefixtures("suites")
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["solver", "swim"], "no suite 'swim'; choose from flight, solver, check"),
        (["check", "solver"], "check takes no other suite"),
    ],
)
def test_wrong_suites_are_refused(asked: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        command.bench(asked)


# The solver suite -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MissingPeerError, ImportError, OSError, RuntimeError, AttributeError])
def test_peers_that_are_missing_or_there_by_half_are_rows(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise kind("not here")

    monkeypatch.setattr(solver, "_peers", lambda *_, **__: {"peer A": missing, "peer B": missing})
    monkeypatch.setattr(solver, "_SCENES", 2)
    monkeypatch.setattr(solver, "_effort", lambda _: Effort(rounds=1))
    own, *peers = solver.converged_crazyflies(BenchOptions(quick=True))
    assert own.note == "optimum in 2/2; options chosen on other scenes (seed 0)"
    assert [(row.engine, row.median_ms, row.note) for row in peers] == [
        ("peer A", None, "missing: not here"),
        ("peer B", None, "missing: not here"),
    ]


@pytest.mark.parametrize("work", [solver.cold_quadrotors, solver.converged_crazyflies])
def test_without_ipopt_nobody_is_said_to_reach_the_optimum(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[BenchOptions], Iterator[Row]]
) -> None:
    monkeypatch.setattr(solver, "quadrotors", lambda _: quadrotors(2))
    monkeypatch.setitem(sys.modules, "deq_mpc_core.bench.peers.casadi_ocp", None)
    monkeypatch.setattr(solver, "_SCENES", 2)
    monkeypatch.setattr(solver, "_effort", lambda _: Effort(rounds=1, seconds=0.0, least=1))
    measured = [row for row in work(BenchOptions(quick=True)) if row.median_ms is not None]
    assert measured[0].engine == "deq-mpc CPU"
    assert all(row.note.startswith("no independent optimum") for row in measured)


def test_the_corridors_optimum_leans_on_all_four_spheres() -> None:
    model, data = MODELS["crazyflie"](), corridor(3)
    assert data.radii.shape == (3, 4)
    solution = CpuEngine(model, threads=1).solve(data, cold_state(data, 1000.0), solver.CONVERGED)
    assert (solution.status == Status.CONVERGED).all()
    assert violation(model, data, solution.state.tau).max() < 1e-4
    distance = np.linalg.norm(solution.state.tau[:, 1:, None, :3] - data.centres[:, 1:], axis=-1)
    assert (distance.min(axis=1) - data.radii).max() < 1e-4


def test_plans_that_miss_the_optimum_or_the_constraints_are_said_to() -> None:
    pytest.importorskip("casadi")
    model, data = MODELS["quadrotor"](), quadrotors(2)
    tau = CpuEngine(model, threads=1).solve(data, cold_state(data, 1.0), solver.PAPER).state.tau
    best = independent_optima(model, data)
    assert best is not None
    np.testing.assert_allclose(objective(data, tau), best, rtol=1e-4)
    assert verdict(reached(model, data, tau, best)) == "optimum in 2/2"
    missed = "optimum in 1/2, the rest NOT REACHED and not counted"
    assert verdict(reached(model, data, tau, best * [1.0, 0.99])) == missed
    assert verdict(reached(model, data, tau, best * [np.nan, 1.0])) == missed
    off = tau.copy()
    off[0, 2, 0] += 1e-3
    assert verdict(reached(model, data, off, best + 1.0)) == missed


# The check ------------------------------------------------------------------------------------------------------------


def test_the_solver_reaches_what_ipopt_reaches() -> None:
    report = check.check(40, seed=1)
    assert {count.model: count.problems for count in report.counts} == dict.fromkeys(MODELS, 10)
    assert sum(count.reached_by_ipopt for count in report.counts) >= 39
    assert sum(count.reached for count in report.counts) + len(report.failures) == 40
    assert report.share >= 0.975, list(check.describe(report))


def test_failures_are_listed_with_model_seed_and_index(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOFT", "STIFF"):
        monkeypatch.setattr(check, name, SolverOptions(al_iterations=1, newton_steps=1))
    report = check.check(5, seed=3)
    assert not report.passed
    assert {(failure.model, failure.seed) for failure in report.failures} <= {(name, 3) for name in MODELS}
    assert len(report.failures) >= 4
    lines = list(check.describe(report))
    assert "99.5 % NOT reached" in lines[-1 - len(report.failures)]
    assert any("seed 3 index 0: status iterating" in line for line in lines)


def test_a_missed_objective_and_a_violation_are_reasons() -> None:
    assert check._reason(Status.CONVERGED, 1e-6, 1.00009, 1.0) == ""
    assert check._reason(Status.CONVERGED, 1e-6, 0.5, np.inf) == ""
    assert check._reason(Status.CONVERGED, 1e-6, 1.0002, 1.0) == "objective 1.0002, IPOPT's 1"
    assert check._reason(Status.CONVERGED, 2e-4, 1.0, 1.0) == "violation 2.0e-04"
