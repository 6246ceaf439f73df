"""The paper's tasks as problems of the solver."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from deq_mpc_core.errors import UserError
from deq_mpc_core.models.quadrotor import MRP, rotation_from_mrp
from deq_mpc_core.solver import CpuEngine, SolverOptions, Status, cold_state
from deq_mpc_core.tasks import TASKS, Task, load_task


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return load_task(request.param)


def test_the_papers_bounds_and_grid() -> None:
    bounds = {name: (load_task(name).lower[-1], load_task(name).upper[-1]) for name in TASKS}
    assert bounds == {"pendulum": (-5.0, 5.0), "cartpole": (-100.0, 100.0), "quadrotor": (11.5, 18.3)}
    assert {(load_task(name).dt, load_task(name).horizon) for name in TASKS} == {(0.05, 5)}


def test_the_goal_is_an_equilibrium_that_its_input_holds(task: Task) -> None:
    values = dict(zip((*task.model.x, *task.model.u, *task.model.p), [*task.goal, *task.u_goal, *task.p], strict=True))
    rates = [float(sp.sympify(e).subs(values)) for e in task.model.xdot]
    np.testing.assert_allclose(rates, 0.0, atol=1e-5)
    assert (task.lower[task.model.nx :] < task.u_goal).all()
    assert (task.u_goal < task.upper[task.model.nx :]).all()


def test_a_problem_is_solved_and_rests_at_the_goal(task: Task) -> None:
    rng = np.random.default_rng(1)
    start = np.concatenate([task.goal[None], task.random_starts(rng, 3)])
    data = task.problem(start)
    solution = CpuEngine(task.model, threads=1).solve(
        data, cold_state(data, 1.0), SolverOptions(al_iterations=30, newton_steps=20)
    )
    assert (solution.status == Status.CONVERGED).all()
    np.testing.assert_allclose(solution.state.tau[0, :, : task.model.nx], data.x_ref[0], atol=1e-5)
    inputs = solution.state.tau[:, :, task.model.nx :]
    assert (inputs > task.lower[task.model.nx :] - 1e-2).all()
    assert (inputs < task.upper[task.model.nx :] + 1e-2).all()


def test_a_reference_of_its_own_replaces_the_goal(task: Task) -> None:
    start = task.random_starts(np.random.default_rng(0), 2)
    reference = np.random.default_rng(1).normal(size=(2, task.horizon, task.model.nx))
    data = task.problem(start, reference)
    np.testing.assert_array_equal(data.x_ref, reference)
    np.testing.assert_array_equal(data.x_init, start)


def test_starts_fill_their_box_and_repeat_with_the_seed(task: Task) -> None:
    starts = task.random_starts(np.random.default_rng(0), 2000)
    np.testing.assert_array_equal(starts, task.random_starts(np.random.default_rng(0), 2000))
    columns = [i for i in range(task.model.nx) if task.model.name != "quadrotor" or i not in range(3, 6)]
    low, high = task.start_low[columns], task.start_high[columns]
    span = high - low
    assert (starts[:, columns] >= low).all()
    assert (starts[:, columns] <= high).all()
    assert (starts[:, columns].min(0) <= low + 0.02 * span).all()
    assert (starts[:, columns].max(0) >= high - 0.02 * span).all()


def test_quadrotors_start_tilted_by_at_most_seventy_degrees_an_axis() -> None:
    starts = load_task("quadrotor").random_starts(np.random.default_rng(0), 300)
    turns = np.array([rotation_from_mrp(sp.Matrix(s[MRP])) for s in starts], dtype=np.float64)
    pitch, roll = -np.arcsin(turns[:, 2, 0]), np.arctan2(turns[:, 2, 1], turns[:, 2, 2])
    for angle in (pitch, roll):
        assert np.degrees(np.abs(angle)).max() == pytest.approx(70.0, abs=2.0)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UserError, match="no task 'unicycle'; choose one of pendulum, cartpole, quadrotor"):
        load_task("unicycle")
