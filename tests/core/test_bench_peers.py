"""The peers solve the very problems that this solver does: their optima are its optima."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deq_mpc_core.bench import scenes, solver
from deq_mpc_core.bench.optima import independent_optima, reached
from deq_mpc_core.bench.peers import MissingPeerError, acados
from deq_mpc_core.bench.peers.acados import AcadosPeer
from deq_mpc_core.bench.peers.casadi_ocp import CasadiPeer, casadi_programme, shape_of
from deq_mpc_core.bench.peers.mpc_pytorch import MpcPytorchPeer
from deq_mpc_core.bench.problems import random_problems
from deq_mpc_core.bench.quality import violation
from deq_mpc_core.bench.scenes import corridor, quadrotors
from deq_mpc_core.models import MODELS
from deq_mpc_core.solver import CpuEngine, Data, cold_state, objective

Array = NDArray[np.float64]


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


def pressures(data: Data) -> Array:
    """(B, spheres) the largest multiplier of each sphere at IPOPT's optimum."""
    programme, starts = (
        casadi_programme(MODELS["crazyflie"](), shape_of(data), "ipopt", 1e-9),
        cold_state(data, 1.0).tau,
    )
    pressed = []
    for b, start in enumerate(starts):
        found = programme.solver(**programme.arguments(data, b, start))
        assert programme.solver.stats()["success"]
        multipliers = -np.array(found["lam_g"]).ravel()[~programme.equation]
        pressed.append(multipliers.reshape(-1, data.radii.shape[1]).max(axis=0))
    return np.stack(pressed)


def test_which_scenes_are_timed_is_what_ipopt_would_choose_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all that are drawn, those whose optimum presses on every sphere; next to nothing may count or not."""
    drawn: list[Data] = []
    draw = scenes._corridors

    def remember(batch: int, rng: np.random.Generator) -> Data:
        drawn.append(draw(batch, rng))
        return drawn[0]

    monkeypatch.setattr(scenes, "_corridors", remember)
    monkeypatch.setattr(scenes, "_POOL", 1)
    monkeypatch.setattr(scenes, "_POOL_LEAST", 0)
    chosen = corridor(80, seed=7).radii
    least = pressures(drawn[0]).min(axis=1)
    mask = np.isin(drawn[0].radii, chosen).all(axis=1)
    assert mask.sum() == len(chosen) > 25
    assert mask[least > 1e-2].all()
    assert not mask[least < 1e-5].any()


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
@pytest.mark.parametrize("seed", [0, solver.TIMED_SEED])
def test_acados_reaches_every_optimum(seed: int) -> None:
    """With spheres that its penalties keep it out of: they are above every multiplier at every knot."""
    model, data = MODELS["crazyflie"](), corridor(16, seed)
    assert pressures(data).max() < acados._L1
    peer = AcadosPeer(model, data, cold_state(data, 1.0).tau, solver.PEER_TOLERANCE)
    found = [peer.solve(b) for b in range(16)]
    right = reached(model, data, np.stack([f.tau for f in found]), independent_optima(model, data))
    assert right is not None
    assert right.all()
    assert all(f.success for f in found)
    assert max(f.iterations for f in found) < 30


def test_acados_that_is_not_installed_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(MissingPeerError, match="not installed"):
        AcadosPeer(MODELS["crazyflie"](), corridor(1), np.zeros((1, 10, 17)), 1e-4)
