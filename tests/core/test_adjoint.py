"""The implicit gradient, three ways: by the engines' adjoints, through unrolled iterations, by finite differences.

Two statements, each of every model and of every array with a gradient:

- At the penalty of the last minimisation the gradient is that minimisation's, its multipliers constant, however far
  from feasible it ends: `minimised`.
- In the limit of large penalties the gradient of a converged solve is the constrained optimum's: `converged`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from gradients import (
    ERROR,
    FOURTH_ORDER,
    Solve,
    assert_same_gradients,
    cosines,
    errors,
    finite_differences,
    flat,
    margins,
    natural_steps,
    nearest,
    take_state,
)
from numpy.typing import NDArray

from deq_mpc_core.bench.problems import random_problems, take
from deq_mpc_core.models import MODELS, Model
from deq_mpc_core.solver import (
    AdjointKind,
    CpuEngine,
    Data,
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
from deq_mpc_core.tasks import load_task

Array = NDArray[np.float64]

HORIZON = 5
TIGHT = SolverOptions(
    al_iterations=12, newton_steps=30, tolerance=1e-8, newton_tolerance=1e-10, penalty_init=100.0, penalty_max=1e6
)
FLIGHT = SolverOptions(al_iterations=2, newton_steps=1)
ONE_MINIMISATION = SolverOptions(al_iterations=1, newton_steps=100, tolerance=0.0, newton_tolerance=1e-10)
LIMIT = 1e8
"""Penalty at which the gradient rule has reached its limit, the derivative of the constrained optimum."""
NAMES = ["pendulum", "cartpole", "quadrotor", "crazyflie", "quadrotor at a sphere", "crazyflie at a sphere"]
SAMPLES = 2
STEADINESS = 0.005
"""How strictly complementary the problems are, in natural units and for a loss of unit sensitivity."""
SIZES = {"centres": (1.0, 3.0), "radii": (1.0, 3.0)}
"""Of the steps of finite differences, where one size is not good for all samples."""
VARIED = 10
"""Entries of a field of each of two kinds that finite differences vary."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small batches on torch are slower on more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _gradient(leaf: torch.Tensor) -> Array:
    return np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()


@dataclass(frozen=True)
class Case:
    """Problems, the start of a solve, the solution, and the weights of a loss that is linear in the plan."""

    model: Model
    data: Data
    start: SolverState
    options: SolverOptions
    solution: Solution
    weight: Array

    def adjoint(self, engine: Engine, penalty: float | None) -> Gradients:
        """By the engine, at the solve's own penalty or another."""
        mu = self.solution.penalty if penalty is None else np.full(SAMPLES, penalty)
        grads, kinds = engine.adjoint(self.data, replace(self.solution, penalty=mu), self.weight)
        assert (kinds == AdjointKind.EXACT).all()
        return grads

    def unrolled(self) -> Gradients:
        """Through every iteration of the torch engine, from the start."""
        leaves = {name: torch.tensor(getattr(self.data, name)).requires_grad_() for name in Gradients._fields}
        tau = TorchEngine(self.model).unrolled(self.data._replace(**leaves), self.start, self.options)
        (tau * torch.tensor(self.weight)).sum().backward()
        return Gradients(**{name: _gradient(leaf) for name, leaf in leaves.items()})

    def finite_differences(self, field: str, entries: NDArray[np.int64], size: float) -> Array:
        """By solves from the solution's plan with the start's multipliers and penalty."""
        start, solve = self.start.with_tau(self.solution.state.tau), plans(self.model, self.options)
        return finite_differences(self.model, solve, self.data, start, self.weight, field, entries, size)


def plans(model: Model, options: SolverOptions) -> Solve:
    engine = CpuEngine(model, threads=1)
    return lambda data, state: engine.solve(data, state, options).state.tau


def promise(engine: Engine, data: Data, start: SolverState, plan: Array) -> Array:
    """The decrease (B,) of L that a Newton step from each plan promises, given the start's multipliers and penalty."""
    step = ONE_MINIMISATION.model_copy(update={"newton_steps": 1})
    return engine.solve(data, start.with_tau(plan), step).decrement


def strictest(case: Case, at_a_sphere: bool, usable: NDArray[np.bool_]) -> Case:
    """The samples whose active sets are not empty and farthest from changing."""
    engine, duals = CpuEngine(case.model, threads=1), case.solution.state.duals
    active = sum((a > 0.0).sum(axis=(1, 2)) for a in ((duals.sphere,) if at_a_sphere else duals[1:]))
    limit, _ = engine.adjoint(case.data, replace(case.solution, penalty=np.full(len(active), LIMIT)), case.weight)
    sensitivity = np.linalg.norm(flat(limit.x_ref), axis=1)  # zero where the constraints leave nothing to choose
    steady = margins(case.model, case.data, case.solution) / sensitivity.clip(min=1e-9)
    steady = np.where(usable & (active > 0) & (sensitivity > 0.3), steady, -1.0)
    chosen = np.argsort(-steady)[:SAMPLES]
    assert steady[chosen].min() > STEADINESS
    data, start = take(case.data, chosen), take_state(case.start, chosen)
    return solved(case.model, data, start, case.options)


def solved(model: Model, data: Data, start: SolverState, options: SolverOptions) -> Case:
    solution = CpuEngine(model, threads=1).solve(data, start, options)
    weight = np.random.default_rng(0).normal(size=start.tau.shape) / (*model.x_scale, *model.u_scale)
    return Case(model, data, start, options, solution, weight)


@dataclass(frozen=True)
class Cases:
    """What the tests are run on: the two kinds of solution of the problems of a model."""

    converged: Case
    minimised: Case


@pytest.fixture(scope="module", params=NAMES)
def cases(request: pytest.FixtureRequest) -> Cases:
    name, at_a_sphere = request.param.split()[0], "sphere" in request.param
    model, (horizon, spheres) = MODELS[name](), (8, 4) if at_a_sphere else (HORIZON, 0)
    data = random_problems(name, 300, horizon, seed=2, spheres=spheres)
    if at_a_sphere:
        data = data._replace(lower=np.full_like(data.lower, -np.inf), upper=np.full_like(data.upper, np.inf))
    optimal = solved(model, data, cold_state(data, 100.0), TIGHT)
    converged = strictest(optimal, at_a_sphere, optimal.solution.status == Status.CONVERGED)
    return Cases(converged, one_minimisation(optimal, at_a_sphere))


def one_minimisation(optimal: Case, at_a_sphere: bool) -> Case:
    """At a small penalty, from multipliers that are on their way: stationary, not feasible."""
    state, data = optimal.solution.state, optimal.data
    duals = state.duals._make(0.7 * a for a in state.duals)
    start = SolverState(state.tau, duals, np.full(len(data.x_init), 30.0))
    case = solved(optimal.model, data, start, ONE_MINIMISATION)
    found, engine = case.solution, CpuEngine(case.model, threads=1)
    still = promise(engine, data, start, found.state.tau) < 1e-15
    usable = still & (np.maximum(found.dynamics, found.violation) > 1e-3)
    return strictest(case, at_a_sphere, usable)


def entries_to_vary(gradient: Array) -> NDArray[np.int64]:
    """Those of the flattened field where the gradients are largest, and as many others, where they may be zero."""
    size = flat(gradient).shape[1]
    by_size = np.argsort(-np.abs(flat(gradient)).max(axis=0))
    return np.concatenate([by_size[:VARIED], np.random.default_rng(0).permutation(by_size[VARIED:])[:VARIED]])[:size]


def check_three_ways(case: Case, penalty: float | None) -> None:
    implicit = case.adjoint(CpuEngine(case.model, threads=1), penalty)
    unrolled = case.unrolled()
    for field in Gradients._fields:
        gradient = getattr(implicit, field)
        if gradient.size > 0:
            assert_same_gradients(gradient, getattr(unrolled, field), f"{field}, unrolled")
            entries = entries_to_vary(gradient)
            found, by_size = (
                flat(gradient)[:, entries],
                [case.finite_differences(field, entries, s) for s in SIZES.get(field, (1.0,))],
            )
            assert_same_gradients(found, nearest(found, by_size), f"{field}, finite differences")


def test_the_gradient_of_a_minimisation_is_that_of_its_penalised_problem(cases: Cases) -> None:
    check_three_ways(cases.minimised, None)


def test_the_gradient_in_the_limit_is_that_of_the_constrained_optimum(cases: Cases) -> None:
    check_three_ways(cases.converged, LIMIT)


def test_the_two_gradients_differ(cases: Cases) -> None:
    """Else one statement would be enough, and tests of it unable to fail."""
    case, engine = cases.minimised, CpuEngine(cases.minimised.model, threads=1)
    assert (errors(case.adjoint(engine, None).x_ref, case.adjoint(engine, LIMIT).x_ref) > 0.01).all()


def test_the_engines_adjoints_agree(cases: Cases) -> None:
    for case in (cases.converged, cases.minimised):
        engines = CpuEngine(case.model, threads=2), TorchEngine(case.model)
        for at in (case.solution, engines[0].solve(case.data, cold_state(case.data, 1.0), FLIGHT)):
            for exact in (True, False):
                (grads, kinds), (expected, expected_kinds) = (
                    engine.adjoint(case.data, at, case.weight, exact=exact) for engine in engines
                )
                np.testing.assert_array_equal(kinds, expected_kinds)
                assert exact or (kinds == AdjointKind.GAUSS_NEWTON).all()
                for field in Gradients._fields:
                    a, b = getattr(grads, field), getattr(expected, field)
                    size = max(1.0, np.abs(b).max(initial=0.0))
                    np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8 * size, err_msg=field)


def test_gauss_newton_leaves_the_curvature_out(cases: Cases) -> None:
    case = cases.converged
    engine = CpuEngine(case.model, threads=1)
    exact, rough = (engine.adjoint(case.data, case.solution, case.weight, exact=e)[0].x_ref for e in (True, False))
    assert 1e-6 < np.linalg.norm(rough - exact) / np.linalg.norm(exact) < 1.0


def test_a_large_penalty_makes_the_gradient_that_of_the_constrained_optimum(cases: Cases) -> None:
    case = cases.converged
    engine, options = (
        CpuEngine(case.model, threads=1),
        TIGHT.model_copy(update={"penalty_max": 1e4, "al_iterations": 40}),
    )
    found = []
    for penalty in (None, LIMIT):
        x_ref = torch.tensor(case.data.x_ref).requires_grad_()
        start = cold_state(case.data, 100.0)
        tau, _ = solve(engine, case.data._replace(x_ref=x_ref), start, options, penalty=penalty)
        (tau * torch.tensor(case.weight)).sum().backward()
        found.append(x_ref.grad.numpy())
    at_its_own, in_the_limit = (errors(a, case.adjoint(engine, LIMIT).x_ref).max() for a in found)
    assert in_the_limit < 1e-4 < at_its_own


# Problems as they come, bounds and spheres together -------------------------------------------------------------------

DRAWN = 60
MOVES = 0.1
"""How far all the data move at once for finite differences, in the steps of one entry at a time."""


def active_sets(solution: Solution) -> NDArray[np.bool_]:
    """Which inequalities have a multiplier, (B, everything)."""
    return np.concatenate([flat(a > 0.0) for a in solution.state.duals[1:]], axis=1)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_problems_as_they_come(name: str) -> None:
    """Along one random direction in all the data at once, wherever moving along it leaves the active set as it is.

    The difference is relative to what the derivative would typically be in such a direction, since a single one may
    happen to vanish.
    """
    model = MODELS[name]()
    data = random_problems(name, DRAWN, 8 if model.position else HORIZON, seed=5, spheres=4 if model.position else 0)
    case, engine, rng = solved(model, data, cold_state(data, 100.0), TIGHT), CpuEngine(model), np.random.default_rng(1)
    at = replace(case.solution, penalty=np.full(DRAWN, LIMIT))
    grads, kinds = engine.adjoint(data, at, case.weight)
    moves = {f: MOVES * natural_steps(model, data, f) * rng.normal(size=getattr(data, f).shape) for f in grads._fields}
    terms = np.concatenate([flat(getattr(grads, f) * moves[f]) for f in grads._fields], axis=1)
    comparable = (case.solution.status == Status.CONVERGED) & (kinds == AdjointKind.EXACT)
    expected = np.zeros(DRAWN)
    for distance, share in FOURTH_ORDER.items():
        moved = data._replace(**{f: getattr(data, f) + distance * moves[f] for f in moves})
        solution = engine.solve(moved, case.start.with_tau(case.solution.state.tau), TIGHT)
        expected += share * (solution.state.tau * case.weight).sum(axis=(1, 2))
        comparable &= solution.status == Status.CONVERGED
        comparable &= (active_sets(solution) == active_sets(case.solution)).all(axis=1)
    difference = np.abs(terms.sum(axis=1) - expected) / np.linalg.norm(terms, axis=1)
    duals = case.solution.state.duals
    bounded, touching = ((flat(a) > 0.0).any(axis=1) for a in (np.maximum(duals.lower, duals.upper), duals.sphere))
    assert comparable.mean() > 0.5
    assert (bounded & comparable).sum() >= 12
    if model.position:
        assert (bounded & touching & comparable).sum() >= 12
    assert difference[comparable].max() <= ERROR


# The quadrotor of the paper: the iterate that a gradient belongs to ---------------------------------------------------

PAPER = SolverOptions(
    newton_steps=100, penalty_init=1.0, penalty_growth=10.0, penalty_max=1e6, tolerance=0.0, newton_tolerance=1e-10
)
"""The paper's schedule of mu, with the cap and minimisations that end at their minimum."""


def waypoints(batch: int, seed: int = 0) -> tuple[Model, Data, Array]:
    """The quadrotor's task with waypoints about its start, as a network predicts them, rounded to float32."""
    task, rng = load_task("quadrotor"), np.random.default_rng(seed)
    start = task.random_starts(rng, batch)
    spread = np.array([0.5] * 3 + [0.1] * 3 + [1.0] * 3 + [0.5] * 3)
    x_ref = start[:, None] + rng.normal(size=(batch, task.horizon, 12)) * spread
    data = task.problem(start.astype(np.float32), x_ref.astype(np.float32))
    return task.model, data, rng.normal(size=(batch, task.horizon, 16))


def differences_of_the_solve(
    model: Model, data: Data, state: SolverState, options: SolverOptions, weight: Array
) -> Array:
    entries = np.arange(data.x_ref[0].size)
    found = finite_differences(model, plans(model, options), data, state, weight, "x_ref", entries)
    return found.reshape(data.x_ref.shape)


@pytest.mark.parametrize("al_iterations", [2, 10])
def test_the_gradient_belongs_to_the_returned_iterate(al_iterations: int) -> None:
    """In float32 through autograd, of the last minimisation of a solve of 2 and of 10 multiplier iterations.

    A solver that differentiates at the START of its last Newton step misses, where that step is a long one: with the
    second minimisation done in one, it has a cosine of about 0.5 with finite differences for some of these problems.
    """
    model, data, weight = waypoints(8)
    engine, last = CpuEngine(model, threads=1), PAPER.model_copy(update={"al_iterations": 1})
    before = PAPER.model_copy(update={"al_iterations": al_iterations - 1})
    state = engine.solve(data, cold_state(data, PAPER.penalty_init), before).state

    x_ref = torch.tensor(data.x_ref, dtype=torch.float32).requires_grad_()
    tau, solution = solve(engine, data._replace(x_ref=x_ref), state, last)
    (tau * torch.tensor(weight)).sum().backward()

    assert promise(engine, data, state, solution.state.tau).max() < 1e-9
    expected = differences_of_the_solve(model, data, state, last, weight)
    assert_same_gradients(x_ref.grad.double().numpy(), expected, "x_ref")
    if al_iterations == 2:
        untouched = engine.solve(data, state, last.model_copy(update={"newton_steps": 0}))
        at_the_start, _ = engine.adjoint(data, untouched, weight)
        assert cosines(at_the_start.x_ref, expected).min() < 0.7


def test_after_ten_multiplier_iterations_of_one_newton_step_too() -> None:
    """Here the solve as a whole has converged: finite differences of all of it. The start of the last step misses."""
    model, data, weight = waypoints(8)
    engine, options = CpuEngine(model, threads=1), PAPER.model_copy(update={"al_iterations": 10, "newton_steps": 1})
    cold = cold_state(data, PAPER.penalty_init)
    expected = differences_of_the_solve(model, data, cold, options, weight)
    before = engine.solve(data, cold, options.model_copy(update={"al_iterations": 9}))
    start = engine.solve(data, before.state, options.model_copy(update={"al_iterations": 1, "newton_steps": 0}))
    returned = engine.solve(data, cold, options)
    found, missed = (engine.adjoint(data, at, weight)[0].x_ref for at in (returned, start))
    assert cosines(found, expected).min() >= 0.9999 > cosines(missed, expected).min()
    assert errors(found, expected).max() < 0.2 * errors(missed, expected).max()


def test_two_multiplier_iterations_hold_the_first_ones_multipliers_constant() -> None:
    """What the gradient of a short solve leaves out: that the multipliers depend on the data, as in the paper.

    Unrolled iterations have it, and are the derivative of the solve whatever its Newton steps.
    """
    model, data, weight = waypoints(6)
    engine, cold = CpuEngine(model, threads=1), cold_state(data, PAPER.penalty_init)
    for newton_steps, least in ((4, 0.98), (1, 0.9)):
        options = PAPER.model_copy(update={"al_iterations": 2, "newton_steps": newton_steps})
        expected = differences_of_the_solve(model, data, cold, options, weight)
        x_ref = torch.tensor(data.x_ref).requires_grad_()
        tau = TorchEngine(model).unrolled(data._replace(x_ref=x_ref), cold, options)
        (tau * torch.tensor(weight)).sum().backward()
        assert_same_gradients(x_ref.grad.numpy(), expected, "x_ref, unrolled")
        found = engine.adjoint(data, engine.solve(data, cold, options), weight)[0].x_ref
        assert least < cosines(found, expected).min() < 0.9999
