"""The implicit gradient, three ways: by the engines' adjoints, through unrolled iterations, by finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from solver_problems import MODELS, PROBLEMS, crazyflies, pendulum_model, pendulums, take

from deq_mpc_core.models import Model
from deq_mpc_core.models.crazyflie import crazyflie_model
from deq_mpc_core.solver import (
    AdjointKind,
    CpuEngine,
    Data,
    Duals,
    Engine,
    Gradients,
    Solution,
    SolverOptions,
    SolverState,
    Status,
    cold_state,
)
from deq_mpc_core.solver.differentiable import solve
from deq_mpc_core.solver.torch_engine import TorchEngine

Array = NDArray[np.float64]

HORIZON = 8
TIGHT = SolverOptions(
    al_iterations=25, newton_steps=30, tolerance=1e-10, newton_tolerance=1e-11, penalty_init=100.0, penalty_max=1e6
)
FLIGHT = SolverOptions(al_iterations=2, newton_steps=1)
LIMIT = 1e8
"""Penalty at which the gradient rule has reached its limit, the derivative of the constrained optimum."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small batches on torch are slower on more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def margins(model: Model, data: Data, solution: Solution) -> Array:
    """How strictly complementary each sample is: the smallest max(lambda, -h) of its inequalities, (B,)."""
    tau, duals, scale = solution.state.tau, solution.state.duals, np.array((*model.x_scale, *model.u_scale))
    sides = [
        np.maximum(duals.lower, (tau - data.lower) / scale),
        np.maximum(duals.upper, (data.upper - tau) / scale),
    ]
    for side in sides:
        side[:, 0, : model.nx] = np.inf
    if model.position:
        distance = np.linalg.norm(tau[:, :, None, list(model.position)] - data.centres, axis=-1)
        sides.append(np.maximum(duals.sphere, distance - data.radii[:, None])[:, 1:])
    return np.min([side.min(axis=(1, 2)) for side in sides], axis=0)


def active(solution: Solution) -> Array:
    """Number (B,) of active inequalities."""
    return sum((a > 0.0).sum(axis=(1, 2)) for a in solution.state.duals[1:])


def touching(solution: Solution) -> Array:
    """Number (B,) of active spheres."""
    return (solution.state.duals.sphere > 0.0).sum(axis=(1, 2))


def strictly_complementary(name: str, wanted: Callable[[Solution], Array] = active) -> Data:
    """Two samples whose active sets are not empty, as `wanted` counts, and do not change under small changes."""
    model = MODELS[name]
    data = crazyflies(300, horizon=10, spheres=2, seed=7) if wanted is touching else PROBLEMS[name](40, HORIZON, seed=7)
    solution = CpuEngine(model, threads=1).solve(data, cold_state(data, 1.0), TIGHT)
    good = (margins(model, data, solution) > 1e-2) & (wanted(solution) > 0) & (solution.decrement < 1e-12)
    return take(data, np.flatnonzero(good)[:2])


def finite_differences(engine: Engine, data: Data, solution: Solution, weight: Array, field: str) -> Array:
    """Gradient of weight . plan of the first sample, one entry of the field at a time, by converged solves."""
    value, h = np.asarray(getattr(data, field)[0]), 1e-4
    entries = [i for i in np.ndindex(value.shape) if np.isfinite(value[i])]

    def repeat(a: Any) -> Any:
        return np.repeat(np.asarray(a)[:1], 2 * len(entries), axis=0)

    many = data._replace(**{name: repeat(a) for name, a in data._asdict().items() if name != "dt"})
    for k, i in enumerate(entries):
        getattr(many, field)[2 * k][i] += h
        getattr(many, field)[2 * k + 1][i] -= h
    state = solution.state
    start = SolverState(repeat(state.tau), Duals._make(repeat(a) for a in state.duals), repeat(state.penalty))
    loss = (engine.solve(many, start.with_penalty(100.0), TIGHT).state.tau * weight).sum(axis=(1, 2))
    gradient = np.zeros(value.shape)
    for k, i in enumerate(entries):
        gradient[i] = (loss[2 * k] - loss[2 * k + 1]) / (2.0 * h)
    return gradient


def assert_same_gradient(found: Array, expected: Array, field: str, tolerance: float = 1e-3) -> None:
    norm = np.linalg.norm(expected)
    if norm < 1e-9:
        assert np.linalg.norm(found) < 1e-9, field
        return
    assert np.linalg.norm(found - expected) <= tolerance * norm, field
    assert (found * expected).sum() >= 0.9999 * norm * np.linalg.norm(found), field


PATHS = ["pendulum", "crazyflie", "crazyflie at a sphere"]


@pytest.fixture(scope="module", params=PATHS)
def converged(request: pytest.FixtureRequest) -> tuple[str, Data, Solution, Array]:
    """Model, data of two samples, their converged solution and a loss's weights."""
    name = request.param.split()[0]
    data = strictly_complementary(name, touching if "sphere" in request.param else active)
    assert len(data.x_init) == 2
    solution = CpuEngine(MODELS[name], threads=1).solve(data, cold_state(data, 1.0), TIGHT)
    return name, data, solution, np.random.default_rng(0).normal(size=solution.state.tau.shape)


Converged = tuple[str, Data, Solution, Array]


def test_implicit_gradients_are_those_of_finite_differences(converged: Converged) -> None:
    name, data, solution, weight = converged
    engine = CpuEngine(MODELS[name], threads=1)
    grads, kinds = engine.adjoint(data, replace(solution, penalty=np.full(2, LIMIT)), weight)
    assert (kinds == AdjointKind.EXACT).all()
    for field in Gradients._fields:
        if getattr(data, field).size > 0:
            expected = finite_differences(engine, take(data, [0]), solution, weight[0], field)
            assert_same_gradient(getattr(grads, field)[0], expected, field)


def test_implicit_gradients_are_those_of_unrolled_iterations(converged: Converged) -> None:
    name, data, solution, weight = converged
    engine = TorchEngine(MODELS[name])
    fields = {field: torch.tensor(getattr(data, field)).requires_grad_() for field in Gradients._fields}
    tau = engine.unrolled(data._replace(**fields), cold_state(data, TIGHT.penalty_init), TIGHT)
    (tau * torch.tensor(weight)).sum().backward()
    grads, _ = engine.adjoint(data, replace(solution, penalty=np.full(2, LIMIT)), weight)
    for field, tensor in fields.items():
        for b in range(2):
            if tensor.numel() > 0:
                assert_same_gradient(getattr(grads, field)[b], tensor.grad[b].numpy(), field)


def test_the_engines_adjoints_agree(converged: Converged) -> None:
    name, data, solution, weight = converged
    cold = cold_state(data, 1.0)
    engines = CpuEngine(MODELS[name], threads=2), TorchEngine(MODELS[name])
    for at in (solution, engines[0].solve(data, cold, FLIGHT)):
        for exact in (True, False):
            (grads, kinds), (expected, expected_kinds) = (e.adjoint(data, at, weight, exact=exact) for e in engines)
            np.testing.assert_array_equal(kinds, expected_kinds)
            assert exact or (kinds == AdjointKind.GAUSS_NEWTON).all()
            for field in Gradients._fields:
                a, b = getattr(grads, field), getattr(expected, field)
                np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8, err_msg=field)


def test_gauss_newton_leaves_the_curvature_out(converged: Converged) -> None:
    name, data, solution, weight = converged
    engine = CpuEngine(MODELS[name], threads=1)
    exact, rough = (engine.adjoint(data, solution, weight, exact=e)[0].x_ref for e in (True, False))
    assert 1e-6 < np.linalg.norm(exact - rough) / np.linalg.norm(exact) < 0.5


# The solver as an autograd function -----------------------------------------------------------------------------------


def tensors(data: Data, dtype: torch.dtype = torch.float64) -> Data:
    """The problem with leaves for everything that the solver has gradients for."""
    leaves = {f: torch.tensor(np.array(getattr(data, f)), dtype=dtype).requires_grad_() for f in Gradients._fields}
    return data._replace(**leaves, p=torch.tensor(np.array(data.p), dtype=dtype))


def test_the_autograd_function_is_the_engines_adjoint() -> None:
    data, engine = crazyflies(3, horizon=HORIZON), CpuEngine(crazyflie_model(), threads=1)
    leaves = tensors(data)
    tau, solution = solve(engine, leaves, cold_state(data, 1.0), FLIGHT)
    np.testing.assert_array_equal(tau.detach(), solution.state.tau)
    (tau**2).sum().backward()
    expected, _ = engine.adjoint(data, solution, 2.0 * solution.state.tau)
    for field in Gradients._fields:
        np.testing.assert_array_equal(getattr(leaves, field).grad, getattr(expected, field), err_msg=field)


def test_float32_goes_in_and_its_gradient_comes_out_in_float32() -> None:
    data, engine = crazyflies(2, horizon=HORIZON), CpuEngine(crazyflie_model(), threads=1)
    leaves = tensors(data, torch.float32)
    tau, _ = solve(engine, leaves, cold_state(data, 1.0), FLIGHT)
    assert tau.dtype == torch.float64
    tau.sum().backward()
    assert {getattr(leaves, field).grad.dtype for field in Gradients._fields} == {torch.float32}
    double = tensors(data)
    solve(engine, double, cold_state(data, 1.0), FLIGHT)[0].sum().backward()
    torch.testing.assert_close(leaves.x_ref.grad.double(), double.x_ref.grad, rtol=1e-3, atol=1e-4)


def test_only_what_needs_a_gradient_gets_one_and_constants_may_be_arrays() -> None:
    data, engine = pendulums(2), CpuEngine(pendulum_model(), threads=1)
    x_ref = torch.tensor(data.x_ref).requires_grad_()
    tau, _ = solve(engine, data._replace(x_ref=x_ref), cold_state(data, 1.0), FLIGHT)
    tau.sum().backward()
    assert x_ref.grad is not None
    assert not solve(engine, data, cold_state(data, 1.0), FLIGHT)[0].requires_grad


def test_gradients_that_would_be_dropped_are_refused() -> None:
    data, engine = pendulums(2), CpuEngine(pendulum_model(), threads=1)
    state = cold_state(data, 1.0)
    with pytest.raises(ValueError, match="gradient with respect to p "):
        solve(engine, data._replace(p=torch.tensor(data.p).requires_grad_()), state, FLIGHT)
    with pytest.raises(ValueError, match=r"gradient with respect to state\.tau"):
        solve(engine, data, replace(state, tau=torch.tensor(state.tau).requires_grad_()), FLIGHT)
    eta = torch.tensor(state.duals.eta).requires_grad_()
    with pytest.raises(ValueError, match=r"gradient with respect to state\.duals\.eta"):
        solve(engine, data, replace(state, duals=state.duals._replace(eta=eta)), FLIGHT)
    leaves = tensors(data)
    tau, _ = solve(engine, leaves, state, FLIGHT)
    (first,) = torch.autograd.grad((tau**2).sum(), leaves.x_ref, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first.sum().backward()


def test_changing_the_data_after_the_solve_does_not_change_its_gradient() -> None:
    data, engine = pendulums(2), CpuEngine(pendulum_model(), threads=1)
    grads = []
    for change in (False, True):
        leaves = tensors(data)
        tau, _ = solve(engine, leaves, cold_state(data, 1.0), FLIGHT)
        if change:
            with torch.no_grad():
                leaves.q.fill_(1e3)
                leaves.p.fill_(0.0)
        (tau**2).sum().backward()
        grads.append(leaves.x_ref.grad)
    torch.testing.assert_close(*grads, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("engine", [CpuEngine(crazyflie_model(), threads=1), TorchEngine(crazyflie_model())])
def test_a_failed_sample_has_zero_gradient_and_is_reported(engine: Engine) -> None:
    data = crazyflies(3, horizon=HORIZON)
    q = np.array(data.q)
    q[1, 2, 3] = np.nan
    leaves, reports = tensors(data._replace(q=q)), []
    tau, solution = solve(engine, leaves, cold_state(data, 1.0), FLIGHT, report=reports.append)
    assert (solution.status == Status.NUMERICAL_FAILURE).tolist() == [False, True, False]
    (tau**2).sum().backward()
    assert reports[0].tolist()[1] == AdjointKind.FAILED
    assert AdjointKind.FAILED not in reports[0][[0, 2]]
    for field in Gradients._fields:
        grad = getattr(leaves, field).grad
        assert torch.isfinite(grad).all(), field
        assert (grad[1] == 0.0).all(), field
    assert (leaves.x_ref.grad[[0, 2]] != 0.0).any()


def test_an_indefinite_hessian_falls_back_to_gauss_newton() -> None:
    """At the centre of a sphere the curvature -force / distance has no bound."""
    data, engine = crazyflies(1, horizon=HORIZON, spheres=1), CpuEngine(crazyflie_model(), threads=1)
    data = data._replace(centres=cold_state(data, 1.0).tau[:, :, None, :3] + 1e-4, radii=np.full((1, 1), 0.2))
    solution = engine.solve(data, cold_state(data, 1.0), SolverOptions(al_iterations=1, newton_steps=0))
    for each in (engine, TorchEngine(crazyflie_model())):
        grads, kinds = each.adjoint(data, solution, np.ones_like(solution.state.tau))
        assert kinds.tolist() == [AdjointKind.GAUSS_NEWTON]
        assert np.linalg.norm(grads.x_ref) > 0.0


def test_a_large_penalty_makes_the_gradient_that_of_the_constrained_optimum() -> None:
    data = strictly_complementary("pendulum")
    engine, options = CpuEngine(pendulum_model(), threads=1), TIGHT.model_copy(update={"penalty_max": 1e4})
    grads = []
    for penalty in (None, LIMIT):
        leaves = tensors(data)
        tau, _ = solve(engine, leaves, cold_state(data, 100.0), options, penalty=penalty)
        (tau**2).sum().backward()
        grads.append(leaves.x_ref.grad.numpy())
    sharp = engine.solve(data, cold_state(data, 100.0), TIGHT)
    expected, _ = engine.adjoint(data, replace(sharp, penalty=np.full(2, LIMIT)), 2.0 * sharp.state.tau)
    errors = [np.linalg.norm(g - expected.x_ref) / np.linalg.norm(expected.x_ref) for g in grads]
    assert errors[1] < 1e-5 < 1e-3 < errors[0] < 0.1
