"""Is the CPU engine right? Random problems of every model, each solved to convergence here and by IPOPT."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.bench.peers import UNUSABLE
from deq_mpc_core.bench.problems import random_problems
from deq_mpc_core.bench.quality import violation
from deq_mpc_core.errors import UserError
from deq_mpc_core.models import MODELS, Model
from deq_mpc_core.solver import (
    CpuEngine,
    Data,
    Solution,
    SolverOptions,
    SolverState,
    Status,
    cold_state,
    objective,
    several_starts,
    solve_from_several,
)

Array = NDArray[np.float64]

HORIZON = 15
_TIGHT = SolverOptions(al_iterations=200, newton_steps=8, tolerance=1e-6, newton_tolerance=1e-8)
"""Generous: a dozen multiplier iterations are usual."""
SOFT = _TIGHT.model_copy(update={"penalty_init": 100.0, "penalty_growth": 4.0, "penalty_max": 1e5})
STIFF = _TIGHT.model_copy(update={"newton_steps": 20, "penalty_init": 1e5, "penalty_max": 1e6})
"""Schedules of the penalty; see ``solver/several_starts.py`` for why both. Chosen on seed 0."""
REACHED_SHARE = 0.995
OBJECTIVE = 1e-4
"""The engine's objective may exceed IPOPT's by this share."""
VIOLATION = 1e-4
"""[SI] largest violation of dynamics, bounds and spheres that counts as none."""
_IPOPT_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Failure:
    """A problem whose optimum the engine missed: ``random_problems(model, ..., seed)``, sample ``index``."""

    model: str
    seed: int
    index: int
    reason: str


@dataclass(frozen=True)
class Count:
    """How one model did: problems reached from several starts and from the cold one alone, and solved by IPOPT."""

    model: str
    problems: int
    reached: int
    reached_cold: int
    reached_by_ipopt: int


@dataclass(frozen=True)
class Report:
    """The outcome of `check`."""

    problems: int
    seed: int
    horizon: int
    share: float
    passed: bool
    counts: tuple[Count, ...]
    failures: tuple[Failure, ...]


def check(problems: int, seed: int, progress: Callable[[str], object] = lambda _: None) -> Report:
    """Solve ``problems`` random problems, spread evenly over the models, both ways.

    Raises:
        UserError: if CasADi, which brings IPOPT, is not installed.
    """
    shares = np.diff(np.linspace(0, problems, len(MODELS) + 1).astype(int))
    counts, failures = [], []
    for name, batch in zip(MODELS, shares, strict=True):
        if batch:
            count, missed = _check_model(name, int(batch), seed, progress)
            counts.append(count)
            failures += missed
    share = 1.0 - len(failures) / problems
    return Report(problems, seed, HORIZON, share, share >= REACHED_SHARE, tuple(counts), tuple(failures))


def _check_model(name: str, batch: int, seed: int, progress: Callable[[str], object]) -> tuple[Count, list[Failure]]:
    progress(f"{name}: drawing {batch} problems and solving them")
    model, data = MODELS[name](), random_problems(name, batch, HORIZON, seed)
    engine, start = CpuEngine(model), cold_state(data, SOFT.penalty_init)
    cold = engine.solve(data, start, SOFT)
    solution = solve_from_several(engine, data, several_starts(model, data), (SOFT, STIFF))
    plans = _ipopt_plans(model, data, start, lambda done: progress(f"{name}: IPOPT {done}/{batch}"))
    solved = violation(model, data, plans) < VIOLATION
    best = np.where(solved, objective(data, plans), np.inf)
    failures = [
        Failure(name, seed, b, reason) for b, reason in enumerate(_reasons(model, data, solution, best)) if reason
    ]
    missed_cold = sum(bool(reason) for reason in _reasons(model, data, cold, best))
    return Count(name, batch, batch - len(failures), batch - missed_cold, int(solved.sum())), failures


def _ipopt_plans(model: Model, data: Data, start: SolverState, progress: Callable[[int], object]) -> Array:
    """IPOPT's plans (B, T, nz) from the same start."""
    try:
        from deq_mpc_core.bench.peers.casadi_ocp import CasadiPeer

        ipopt = CasadiPeer(model, data, start.tau, "ipopt", _IPOPT_TOLERANCE, compiled=False)
    except UNUSABLE as error:
        raise UserError(f"the check compares with IPOPT: {error}; pip install -r requirements/dev.txt") from error
    plans = []
    for b in range(len(data.x_init)):
        progress(b + 1)
        plans.append(ipopt.solve(b).tau)
    return np.stack(plans)


def _reasons(model: Model, data: Data, solution: Solution, best: Array) -> list[str]:
    """Why each problem counts as missed; empty where it does not. best: (B,) IPOPT's objective."""
    tau = solution.state.tau
    each = zip(solution.status, violation(model, data, tau), objective(data, tau), best, strict=True)
    return [_reason(Status(status), bad, found, wanted) for status, bad, found, wanted in each]


def _reason(status: Status, bad: float, found: float, best: float) -> str:
    if status != Status.CONVERGED:
        return f"status {status.name.lower()}, violation {bad:.1e}, objective {found:.6g} beside IPOPT's {best:.6g}"
    if not bad < VIOLATION:
        return f"violation {bad:.1e}"
    if not found <= best + OBJECTIVE * abs(best):
        return f"objective {found:.6g}, IPOPT's {best:.6g}"
    return ""


def describe(report: Report) -> Iterator[str]:
    """The report in lines."""
    for count in report.counts:
        yield (
            f"{count.model:10} {count.reached}/{count.problems} at IPOPT's objective or below, feasible"
            f" (from the cold start alone {count.reached_cold}); IPOPT solved {count.reached_by_ipopt}"
        )
    verdict = "reached" if report.passed else "NOT reached"
    yield f"all        {100 * report.share:.2f} % of {report.problems}; {100 * REACHED_SHARE:.1f} % {verdict}"
    yield from _listed(report.failures)


def _listed(failures: Sequence[Failure]) -> Iterator[str]:
    for failure in failures:
        yield f"  {failure.model} seed {failure.seed} index {failure.index}: {failure.reason}"
