"""The solver against IPOPT, which is given the same problems by CasADi."""

from __future__ import annotations

import numpy as np
import pytest
from solver_problems import MODELS, PROBLEMS, cost, take

from deq_mpc_core.bench.check import SOFT, STIFF
from deq_mpc_core.bench.peers.casadi_ocp import CasadiPeer
from deq_mpc_core.bench.quality import violation
from deq_mpc_core.solver import CpuEngine, Status, cold_state, several_starts, solve_from_several

SAMPLES = 30


@pytest.mark.parametrize("name", MODELS)
def test_reaches_the_optimum_that_ipopt_finds(name: str) -> None:
    model, data = MODELS[name], PROBLEMS[name](SAMPLES, seed=1)
    start = cold_state(data, SOFT.penalty_init)
    ipopt = CasadiPeer(model, data, start.tau, "ipopt", 1e-9, compiled=False)
    found = [ipopt.solve(b) for b in range(SAMPLES)]
    solved = np.flatnonzero([f.success for f in found])
    assert len(solved) >= 0.95 * SAMPLES, "the random problems are feasible"

    engine = CpuEngine(model, threads=1)
    solution = solve_from_several(engine, data, several_starts(model, data), (SOFT, STIFF))

    tau, expected = solution.state.tau[solved], np.stack([f.tau for f in found])[solved]
    data = take(data, solved)
    assert (solution.status == Status.CONVERGED).all()
    assert violation(model, data, tau).max() < 1e-4
    assert violation(model, data, expected).max() < 1e-4, "the two formulations are not the same problem"
    assert (cost(data, tau) / cost(data, expected) - 1.0).max() < 1e-4
    constrained = sum((a > 0.0).any(axis=(1, 2)) for a in solution.state.duals[1:])
    assert (constrained > 0).sum() >= 10, "the random problems are meant to touch their constraints"
