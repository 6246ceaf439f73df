"""The peers solve the very problems that this solver does: their optima are its optima."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from deq_mpc_core.bench import solver
from deq_mpc_core.bench.peers import MissingPeerError
from deq_mpc_core.bench.peers.acados import AcadosPeer
from deq_mpc_core.bench.peers.casadi_ocp import CasadiPeer
from deq_mpc_core.bench.peers.mpc_pytorch import MpcPytorchPeer
from deq_mpc_core.bench.problems import random_problems
from deq_mpc_core.bench.quality import violation
from deq_mpc_core.bench.scenes import corridor, quadrotors
from deq_mpc_core.models import MODELS
from deq_mpc_core.solver import CpuEngine, cold_state, objective


@pytest.mark.parametrize("plugin", ["ipopt", "fatrop"])
def test_casadis_solvers_lean_on_the_same_spheres(plugin: str) -> None:
    model, data = MODELS["crazyflie"](), corridor(2)
    own = CpuEngine(model, threads=1).solve(data, cold_state(data, 1000.0), solver.CONVERGED).state.tau
    peer = CasadiPeer(model, data, cold_state(data, 1.0).tau, plugin, 1e-8, compiled=False)
    found = [peer.solve(b) for b in range(2)]
    assert all(f.success for f in found)
    tau = np.stack([f.tau for f in found])
    assert violation(model, data, tau).max() < 1e-6
    np.testing.assert_allclose(objective(data, own), objective(data, tau), rtol=1e-4)
    np.testing.assert_allclose(own, tau, atol=5e-3)


@pytest.mark.parametrize("plugin", ["ipopt", "fatrop"])
def test_a_model_without_positions_has_no_spheres(plugin: str) -> None:
    model, data = MODELS["pendulum"](), random_problems("pendulum", 1, 6, seed=0)
    found = CasadiPeer(model, data, cold_state(data, 1.0).tau, plugin, 1e-8, compiled=False).solve(0)
    assert found.success
    assert violation(model, data, found.tau[None])[0] < 1e-6


def test_mpc_pytorch_reaches_the_same_optimum() -> None:
    pytest.importorskip("mpc", reason="scripts/install_peers.sh installs it")
    model, data = MODELS["quadrotor"](), quadrotors(2)
    torch.set_num_threads(1)
    tau = MpcPytorchPeer(model, data, steps=30).solve_batch()
    own = CpuEngine(model, threads=1).solve(data, cold_state(data, 1.0), solver.PAPER).state.tau
    np.testing.assert_allclose(objective(data, tau), objective(data, own), rtol=1e-5)
    assert violation(model, data, tau).max() < 1e-8


def test_mpc_pytorch_says_what_it_cannot_do() -> None:
    pytest.importorskip("mpc", reason="scripts/install_peers.sh installs it")
    with pytest.raises(MissingPeerError, match="bounds on states"):
        MpcPytorchPeer(MODELS["crazyflie"](), corridor(1), steps=1)


@pytest.mark.skipif(not (Path(sys.prefix) / "acados").is_dir(), reason="scripts/install_peers.sh installs it")
@pytest.mark.slow
def test_acados_reaches_the_same_optimum() -> None:
    model, data = MODELS["crazyflie"](), corridor(2)
    peer = AcadosPeer(model, data, cold_state(data, 1.0).tau, 1e-4)
    tau = np.stack([peer.solve(b).tau for b in range(2)])
    own = CpuEngine(model, threads=1).solve(data, cold_state(data, 1000.0), solver.CONVERGED).state.tau
    np.testing.assert_allclose(objective(data, tau), objective(data, own), rtol=2e-4)
    assert violation(model, data, tau).max() < 1e-4


def test_acados_that_is_not_installed_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(MissingPeerError, match="not installed"):
        AcadosPeer(MODELS["crazyflie"](), corridor(1), np.zeros((1, 10, 17)), 1e-4)
