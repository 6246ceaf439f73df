"""The compiled block that trains and serves: torch's answer, a sample's own bits, weights that are up to date."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from deq_mpc_core.config import parse_config
from deq_mpc_core.learning.regulation import load_imitation
from deq_mpc_core.networks import compiled_block, flight_kernels
from deq_mpc_core.networks.config import CoreConfig
from deq_mpc_core.networks.cores import Equilibrium, build_core
from deq_mpc_core.networks.fixed_point import FixedPoint
from deq_mpc_core.solver import generate


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Problem:
    injection: Tensor
    start: Tensor

    def of(self, index: object) -> Problem:
        return Problem(self.injection[index], self.start[index])

    def solved_by(self, core: Equilibrium) -> FixedPoint:
        with torch.no_grad():
            return core(self.injection, self.start)[1]


def core(engine: str, **fixed_point: object) -> Equilibrium:
    """The same weights whatever the engine; 32 channels."""
    raw = load_imitation().network.model_dump(mode="json") | {"hidden": 32}
    raw["fixed_point"] |= {"engine": engine} | fixed_point
    torch.manual_seed(5)
    built = build_core(parse_config(raw, CoreConfig, "test"))
    with torch.no_grad():
        for parameter in built.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return built


def problem(batch: int = 9, horizon: int = 5) -> Problem:
    """Starts between far and near: samples that take different numbers of steps."""
    generator = torch.Generator().manual_seed(1)
    injection = torch.randn(batch, horizon, 32, generator=generator)
    z_star = Problem(injection, torch.zeros_like(injection)).solved_by(core("torch", max_steps=50, tolerance=1e-6)).z
    distance = torch.linspace(0.0, 1.0, batch)[:, None, None]
    return Problem(injection, z_star + distance * torch.randn(z_star.shape, generator=generator))


@pytest.mark.parametrize("horizon", [1, 4, 5, 16])
def test_compiled_equals_torch(horizon: int) -> None:
    case = problem(horizon=horizon)
    ours, reference = (case.solved_by(core(engine)) for engine in ("compiled", "torch"))
    assert torch.equal(ours.steps, reference.steps)
    assert horizon == 1 or len(ours.steps.unique()) > 1
    torch.testing.assert_close(ours.z, reference.z, atol=1e-4, rtol=0.0)
    torch.testing.assert_close(ours.residual, reference.residual, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_sample_has_the_same_bits_alone_in_any_company_and_on_any_threads(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled_block, "available_threads", lambda: threads)
    case, solver = problem(), core("compiled")
    together = case.solved_by(solver)
    for b in range(len(case.start)):
        alone = case.of(slice(b, b + 1)).solved_by(solver)
        for mine, other in zip(alone, together, strict=True):
            assert torch.equal(mine[0], other[b])
    order = torch.randperm(len(case.start))
    shuffled = case.of(order).solved_by(solver)
    for mine, other in zip(shuffled, together, strict=True):
        assert torch.equal(mine, other[order])


def test_a_sample_that_is_nan_says_so_and_harms_no_other() -> None:
    case, solver = problem(), core("compiled")
    expected = case.solved_by(solver)
    case.injection[1, 2, 3] = torch.nan
    found = case.solved_by(solver)
    assert found.z[1].isnan().any()
    assert found.residual[1].isnan()
    others = [0, *range(2, len(case.start))]
    assert torch.equal(found.z[others], expected.z[others])


def test_an_optimiser_step_or_loaded_weights_reach_the_kernels() -> None:
    case, solver = problem(), core("compiled")
    before = case.solved_by(solver).z
    saved = {name: value.clone() for name, value in solver.state_dict().items()}
    solver(case.injection, case.start)[0].square().sum().backward()
    torch.optim.Adam(solver.parameters(), lr=0.1).step()
    moved = case.solved_by(solver).z
    assert (moved - before).abs().max() > 1e-2
    solver.load_state_dict(saved)
    assert torch.equal(case.solved_by(solver).z, before)


@pytest.mark.parametrize("factor", [2.0, -1.0, 1.0 + 2**-22])
def test_writes_that_torch_does_not_count_reach_the_kernels(factor: float) -> None:
    """An average over steps, say, is kept through ``.data``; forward, backward and a fresh engine agree to the bit."""
    case, solver, fresh = problem(), core("compiled"), core("compiled")
    before = case.solved_by(solver).z
    for changed in (solver, fresh):
        versions = [p._version for p in changed.parameters()]
        for parameter in changed.parameters():
            parameter.data.mul_(factor)
        assert [p._version for p in changed.parameters()] == versions
    moved = case.solved_by(solver).z
    assert not torch.equal(moved, before)
    assert torch.equal(moved, case.solved_by(fresh).z)
    gradients = []
    for one in (solver, fresh):
        start = case.start.clone().requires_grad_()
        one.engine.apply(one.block, start, case.injection).square().sum().backward()
        gradients.append(start.grad)
    assert torch.equal(*gradients)


def test_one_number_that_changes_by_one_place_is_noticed() -> None:
    solver = core("compiled")
    parameter = solver.block.get_parameter("conv1.linear.weight")
    kept = solver.engine.weights(compiled_block._parameters(solver.block))[0]
    parameter.detach().numpy()[3, 5] = np.nextafter(np.float32(parameter[3, 5].item()), np.float32(2.0))
    renewed = solver.engine.weights(compiled_block._parameters(solver.block))[0]
    assert (renewed.weight1 != kept.weight1).sum() == 1
    assert solver.engine.weights(compiled_block._parameters(solver.block))[0] is renewed


def test_weights_that_are_held_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    case, solver = problem(), core("compiled")
    before = case.solved_by(solver).z
    with solver.weights_held():
        monkeypatch.setattr(compiled_block.torch, "equal", lambda *_: pytest.fail("compared"))
        assert (case.solved_by(solver).z - before).abs().max() == 0.0
        monkeypatch.undo()
        with solver.weights_held():
            pass
        for parameter in solver.parameters():
            parameter.data.mul_(2.0)
        assert torch.equal(case.solved_by(solver).z, before)
    assert not torch.equal(case.solved_by(solver).z, before)


def test_another_type_is_refused_with_advice() -> None:
    case = problem()
    with pytest.raises(ValueError, match="engine: torch"):
        core("compiled").double()(case.injection.double(), case.start.double())


def test_network_and_solver_are_compiled_with_the_same_freedom() -> None:
    """The set is written twice: numba's disk cache would not notice that one which the network imports has changed."""
    assert set(generate.FASTMATH) == flight_kernels.FASTMATH
    assert not {"nnan", "ninf"} & flight_kernels.FASTMATH


@pytest.mark.parametrize("horizon", [1, 5])
def test_compiled_gradients_equal_torchs(horizon: int) -> None:
    """With respect to z, the injection and every parameter, through two applications."""
    case, gradients = problem(horizon=horizon), []
    weight = torch.randn(case.start.shape, generator=torch.Generator().manual_seed(2))
    for engine in ("torch", "compiled"):
        solver = core(engine)
        inputs = {"z": case.start.clone().requires_grad_(), "injection": case.injection.clone().requires_grad_()}
        out = solver.engine.apply(solver.block, inputs["z"], inputs["injection"])
        (solver.engine.apply(solver.block, out, inputs["injection"]) * weight).sum().backward()
        gradients.append({name: p.grad for name, p in [*inputs.items(), *solver.named_parameters()]})
    for name, reference in gradients[0].items():
        error = (gradients[1][name] - reference).norm() / reference.norm()
        assert error < 1e-5, (name, float(error))


def test_the_last_application_is_kept_for_its_gradient() -> None:
    """As the reference repeats it; and bit for bit as an application of the compiled block at the same argument."""
    case, gradients, values = problem(), [], []
    weight = torch.randn(case.start.shape, generator=torch.Generator().manual_seed(2))
    for engine in ("torch", "compiled", "compiled"):
        solver, injection = core(engine, gradient="last"), case.injection.clone().requires_grad_()
        out, solution = solver(injection, case.start)
        assert torch.equal(out, solution.z) or engine == "torch"
        if len(gradients) == 2:
            out = solver.engine.apply(solver.block, solution.argument, injection)
        (out * weight).sum().backward()
        values.append(out.detach())
        gradients.append({name: p.grad for name, p in [("injection", injection), *solver.named_parameters()]})
    torch.testing.assert_close(values[1], values[0], atol=1e-4, rtol=0.0)
    assert torch.equal(values[1], values[2])
    for name, reference in gradients[0].items():
        assert (gradients[1][name] - reference).norm() / reference.norm() < 1e-3, name
        assert torch.equal(gradients[1][name], gradients[2][name])


def test_a_gradient_with_respect_to_z_that_nobody_wants_is_not_computed() -> None:
    case, solver = problem(), core("compiled")
    injection = case.injection.clone().requires_grad_()
    solver.engine.apply(solver.block, case.start, injection).square().sum().backward()
    alone = injection.grad.clone()
    injection.grad = None
    start = case.start.clone().requires_grad_()
    solver.engine.apply(solver.block, start, injection).square().sum().backward()
    assert torch.equal(injection.grad, alone)
    assert start.grad.abs().sum() > 0.0
