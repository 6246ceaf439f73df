"""The solver as one autograd function: whose gradient it is, in which types, what it refuses, what it reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from solver_problems import crazyflies

from deq_mpc_core.bench.problems import random_problems
from deq_mpc_core.models import MODELS
from deq_mpc_core.models.crazyflie import crazyflie_model
from deq_mpc_core.solver import AdjointKind, CpuEngine, Data, Engine, Gradients, SolverOptions, Status, cold_state
from deq_mpc_core.solver.differentiable import solve
from deq_mpc_core.solver.torch_engine import TorchEngine

HORIZON = 8
FLIGHT = SolverOptions(al_iterations=2, newton_steps=1)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small batches on torch are slower on more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pendulums() -> tuple[Data, CpuEngine]:
    return random_problems("pendulum", 2, 15, seed=0), CpuEngine(MODELS["pendulum"](), threads=1)


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
    data, engine = pendulums()
    x_ref = torch.tensor(data.x_ref).requires_grad_()
    tau, _ = solve(engine, data._replace(x_ref=x_ref), cold_state(data, 1.0), FLIGHT)
    tau.sum().backward()
    assert x_ref.grad is not None
    assert not solve(engine, data, cold_state(data, 1.0), FLIGHT)[0].requires_grad


def test_gradients_that_would_be_dropped_are_refused() -> None:
    data, engine = pendulums()
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


@pytest.mark.parametrize("penalty", [0.0, -1.0, np.nan, np.inf])
def test_a_gradient_rule_needs_a_penalty(penalty: float) -> None:
    data, engine = pendulums()
    with pytest.raises(ValueError, match="positive, finite penalty"):
        solve(engine, tensors(data), cold_state(data, 1.0), FLIGHT, penalty=penalty)


def test_going_on_from_the_solution_in_place_does_not_change_its_gradient() -> None:
    data, engine = pendulums()
    gradients = []
    for overwrite in (False, True):
        leaves = tensors(data)
        tau, solution = solve(engine, leaves, cold_state(data, 1.0), FLIGHT)
        if overwrite:
            solution.state.tau[:], solution.penalty[:] = np.nan, np.nan
        tau.sum().backward()
        gradients.append(leaves.x_ref.grad.numpy())
    np.testing.assert_array_equal(*gradients)
    assert gradients[0].any()


def test_changing_the_data_after_the_solve_does_not_change_its_gradient() -> None:
    data, engine = pendulums()
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
