"""The solver's engines: they agree, keep samples apart, keep their inputs, and end every solve in a status."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from solver_problems import DT, MODELS, PROBLEMS, cost, crazyflies, pendulum_model, pendulums, take

from deq_mpc_core.bench.problems import random_problems
from deq_mpc_core.models.crazyflie import crazyflie_model
from deq_mpc_core.solver import (
    CpuEngine,
    Data,
    Duals,
    Engine,
    Solution,
    SolverOptions,
    SolverState,
    Status,
    cold_state,
    shift_trajectory,
)
from deq_mpc_core.solver.generate import load_kernels
from deq_mpc_core.solver.torch_engine import TorchEngine

Array = NDArray[np.float64]

CONVERGE = SolverOptions(al_iterations=30, newton_steps=20)
TIGHT = SolverOptions(
    al_iterations=200, newton_steps=8, penalty_growth=4.0, penalty_max=1e5, tolerance=1e-7, newton_tolerance=1e-9
)
FLIGHT = SolverOptions(al_iterations=2, newton_steps=1, penalty_growth=25.0)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """Small batches on torch are slower on more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def arrays(state: SolverState) -> dict[str, Array]:
    return {"tau": state.tau, "penalty": state.penalty, **state.duals._asdict()}


def assert_same_bits(a: Solution, b: Solution) -> None:
    for name, x in arrays(a.state).items():
        np.testing.assert_array_equal(x, arrays(b.state)[name], err_msg=name)
    for name in ("status", "dynamics", "violation", "decrement", "al_iterations", "newton_steps", "penalty"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def assert_agree(a: Solution, b: Solution, which: Any = slice(None)) -> None:
    """To 1e-8, for some samples or all."""
    for name in ("status", "al_iterations", "newton_steps"):
        np.testing.assert_array_equal(getattr(a, name)[which], getattr(b, name)[which], err_msg=name)
    for name, x in arrays(a.state).items():
        np.testing.assert_allclose(x[which], arrays(b.state)[name][which], rtol=1e-8, atol=1e-8, err_msg=name)
    for name in ("dynamics", "violation", "complementarity", "penalty"):
        x, y = getattr(a, name)[which], getattr(b, name)[which]
        np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-8, err_msg=name)


def shift_state(state: SolverState, knots: float) -> SolverState:
    """The whole iterate read later, multipliers included."""
    duals = Duals(*(shift_trajectory(a, knots) for a in state.duals))
    return SolverState(shift_trajectory(state.tau, knots), duals, state.penalty)


# Engines against each other -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("options", [CONVERGE, FLIGHT], ids=["converged", "as in flight"])
def test_engines_agree(name: str, options: SolverOptions) -> None:
    """A search that does not converge amplifies, step by step, what the engines round differently: it is left out."""
    model, data = MODELS[name], PROBLEMS[name](12, seed=5)
    cpu, batched = CpuEngine(model, threads=1), TorchEngine(model)

    def compare(data: Data, start: SolverState) -> Solution:
        found, expected = cpu.solve(data, start, options), batched.solve(data, start, options)
        np.testing.assert_array_equal(found.status, expected.status)
        compared = found.status == Status.CONVERGED if options is CONVERGE else np.full(12, True)
        assert compared.sum() >= 10
        assert_agree(found, expected, compared)
        return found

    first = compare(data, cold_state(data, options.penalty_init))
    later = data._replace(x_init=first.state.tau[:, 1, : model.nx])
    compare(later, shift_state(first.state, 1.3).with_penalty(400.0))


def test_engines_agree_on_failures_and_dead_ends() -> None:
    model, data = crazyflie_model(), awkward_batch()
    state = cold_state(data, 1.0)
    cpu, batched = CpuEngine(model, threads=1), TorchEngine(model)
    few = SolverOptions(al_iterations=3, newton_steps=5)  # multipliers of the infeasible grow and amplify rounding
    assert_agree(cpu.solve(data, state, few), batched.solve(data, state, few))
    statuses = [engine.solve(data, state, CONVERGE).status.tolist() for engine in (cpu, batched)]
    expected = [Status.CONVERGED, Status.NUMERICAL_FAILURE, Status.INFEASIBLE, Status.ITERATING]
    assert statuses == [[*expected, Status.NUMERICAL_FAILURE, Status.CONVERGED]] * 2


# Samples, threads, purity ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_gets_the_same_bits_alone_in_a_batch_and_on_more_threads(name: str) -> None:
    data, model = PROBLEMS[name](7, seed=2), MODELS[name]
    engine = CpuEngine(model, threads=1)
    together = engine.solve(data, cold_state(data, 1.0), CONVERGE)
    assert_same_bits(together, CpuEngine(model, threads=3).solve(data, cold_state(data, 1.0), CONVERGE))
    for b in range(7):
        alone = take(data, [b])
        solution = engine.solve(alone, cold_state(alone, 1.0), CONVERGE)
        np.testing.assert_array_equal(solution.state.tau[0], together.state.tau[b])
        np.testing.assert_array_equal(solution.state.duals.eta[0], together.state.duals.eta[b])
        assert solution.newton_steps[0] == together.newton_steps[b]


@pytest.mark.parametrize("engine", [CpuEngine(crazyflie_model(), threads=2), TorchEngine(crazyflie_model())])
def test_a_solve_writes_nothing_that_it_was_given(engine: Engine) -> None:
    data = crazyflies(3)
    state = engine.solve(data, cold_state(data, 1.0), FLIGHT).state
    inputs = [*data[:-1], *arrays(state).values()]
    before = [np.array(a) for a in inputs]
    first = engine.solve(data, state, FLIGHT)
    outputs = [np.array(a) for a in arrays(first.state).values()]
    engine.adjoint(data, first, np.ones_like(first.state.tau))
    second = engine.solve(data, state, FLIGHT)
    for a, b in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(arrays(first.state).values(), outputs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert_same_bits(first, second)


# Warm starts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_warm_start_reaches_the_cold_optimum_sooner(name: str) -> None:
    data = random_problems(name, 20, 12, seed=3, spheres=0)  # with them there may be several optima
    engine = CpuEngine(MODELS[name], threads=1)
    rng = np.random.default_rng(0)
    neighbour = data._replace(x_init=data.x_init + rng.normal(size=data.x_init.shape) * 1e-3)
    start = engine.solve(neighbour, cold_state(neighbour, 1.0), TIGHT)
    warm = engine.solve(data, start.state, TIGHT)
    cold = engine.solve(data, cold_state(data, 1.0), TIGHT)
    done = (warm.status == Status.CONVERGED) & (cold.status == Status.CONVERGED)
    assert done.sum() >= 18
    np.testing.assert_allclose(cost(data, warm.state.tau)[done], cost(data, cold.state.tau)[done], rtol=5e-5)
    assert warm.newton_steps[done].mean() < 0.5 * cold.newton_steps[done].mean()


def test_going_on_from_a_state_is_the_same_as_not_having_stopped() -> None:
    data, engine = crazyflies(4), CpuEngine(crazyflie_model(), threads=1)
    options = SolverOptions(newton_steps=2, tolerance=0.0)
    straight = engine.solve(data, cold_state(data, 1.0), options.model_copy(update={"al_iterations": 4}))
    half = options.model_copy(update={"al_iterations": 2})
    stopped = engine.solve(data, engine.solve(data, cold_state(data, 1.0), half).state, half)
    for name, a in arrays(straight.state).items():
        np.testing.assert_array_equal(a, arrays(stopped.state)[name], err_msg=name)


def random_state(seed: int, horizon: int, spheres: int = 2) -> SolverState:
    rng = np.random.default_rng(seed)
    shapes = ((2, horizon - 1, 2), (2, horizon, 3), (2, horizon, 3), (2, horizon, spheres))
    return SolverState(
        rng.normal(size=(2, horizon, 3)), Duals(*(np.abs(rng.normal(size=s)) for s in shapes)), np.array([1.0, 10.0])
    )


@given(seed=st.integers(0, 100), horizon=st.integers(1, 9), knots=st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_a_shift_by_whole_knots_moves_them_and_repeats_the_last(seed: int, horizon: int, knots: int) -> None:
    state = random_state(seed, horizon)
    shifted = arrays(shift_state(state, float(knots)))
    for name, a in arrays(state).items():
        which = np.minimum(np.arange(a.shape[1]) + knots, a.shape[1] - 1) if name != "penalty" else slice(None)
        np.testing.assert_array_equal(shifted[name], a[:, which] if name != "penalty" else a, err_msg=name)


@given(seed=st.integers(0, 100), horizon=st.integers(2, 9), knots=st.floats(0.0, 10.0))
@settings(max_examples=40, deadline=None)
def test_a_fractional_shift_lies_between_neighbours(seed: int, horizon: int, knots: float) -> None:
    state = random_state(seed, horizon)
    low, high = (arrays(shift_state(state, float(n))) for n in (np.floor(knots), np.ceil(knots)))
    for name, a in arrays(shift_state(state, knots)).items():
        assert (a >= np.minimum(low[name], high[name]) - 1e-12).all(), name
        assert (a <= np.maximum(low[name], high[name]) + 1e-12).all(), name


def test_a_shift_interpolates_linearly_and_refuses_to_go_back() -> None:
    state = random_state(0, 5)
    np.testing.assert_allclose(shift_state(state, 0.25).tau[:, 1], 0.75 * state.tau[:, 1] + 0.25 * state.tau[:, 2])
    for name, a in arrays(shift_state(state, 0.0)).items():
        np.testing.assert_array_equal(a, arrays(state)[name], err_msg=name)
    for knots in (-0.1, np.nan):
        with pytest.raises(ValueError, match="forward in time"):
            shift_state(state, knots)


# Degenerate problems --------------------------------------------------------------------------------------------------


def edit(data: Data, **entries: tuple[Any, float]) -> Data:
    """The data with single entries of named arrays set."""
    changed = {}
    for name, (index, value) in entries.items():
        changed[name] = np.array(getattr(data, name))
        changed[name][index] = value
    return data._replace(**changed)


def awkward_batch() -> Data:
    """Healthy, NaN in the reference, crossed bounds, a sphere around everything, negative input weight, healthy."""
    data = crazyflies(6, seed=8)
    return edit(
        data,
        x_ref=((1, 4, 2), np.nan),
        lower=((2, 5, 13), 1.0),
        radii=((3, 0), 5.0),
        r=((4, 3, 1), -1e9),
    )


def solve_one(data: Data, options: SolverOptions = CONVERGE, engine: Engine | None = None) -> Solution:
    engine = engine or CpuEngine(crazyflie_model(), threads=1)
    solution = engine.solve(data, cold_state(data, 1.0), options)
    for name, a in arrays(solution.state).items():
        assert np.isfinite(a).all(), f"{name} is not finite"
    return solution


NUMBERS = [name for name in Data._fields if name != "dt"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_none_fails_its_sample_alone(name: str, value: float) -> None:
    healthy = crazyflies(3)
    last = (1, *(-1 for _ in getattr(healthy, name).shape[1:]))
    data = edit(healthy, **{name: (last, value)})
    solution = solve_one(data)
    expected = Status.CONVERGED if name == "upper" and value == np.inf else Status.NUMERICAL_FAILURE
    assert solution.status.tolist() == [Status.CONVERGED, expected, Status.CONVERGED]
    reference = solve_one(healthy)
    np.testing.assert_array_equal(solution.state.tau[[0, 2]], reference.state.tau[[0, 2]])


@pytest.mark.parametrize("engine", [CpuEngine(crazyflie_model(), threads=1), TorchEngine(crazyflie_model())])
def test_a_state_that_is_not_finite_fails_and_comes_back_finite(engine: Engine) -> None:
    data = crazyflies(6)
    cold = cold_state(data, 1.0)
    tau, penalty = cold.tau.copy(), cold.penalty.copy()
    duals = Duals(*(a.copy() for a in cold.duals))
    tau[0, 2, 1], penalty[1], duals.eta[2, 3, 4] = np.nan, np.nan, np.inf
    duals.lower[3, 1, 1], duals.sphere[4, 1, 1] = np.nan, -np.inf
    penalty[5] = 0.0
    solution = engine.solve(data, SolverState(tau, duals, penalty), FLIGHT)
    assert (solution.status == Status.NUMERICAL_FAILURE).all()
    for name in ("tau", "eta", "lower", "upper", "sphere"):
        assert np.isfinite(arrays(solution.state)[name]).all()


def test_numbers_that_overflow_fail_and_leave_a_finite_plan() -> None:
    data = edit(crazyflies(2), x_init=((0, 3), 1e200), q=((0, 5, 0), 1e250))
    assert solve_one(data).status.tolist() == [Status.NUMERICAL_FAILURE, Status.CONVERGED]


@pytest.mark.parametrize("engine", [CpuEngine(crazyflie_model(), threads=1), TorchEngine(crazyflie_model())])
def test_one_knot_is_the_input_reference_within_bounds(engine: Engine) -> None:
    data = edit(crazyflies(2, horizon=1), u_ref=((1, 0, 0), 2.0))
    solution = solve_one(data, TIGHT, engine)
    assert (solution.status == Status.CONVERGED).all()
    np.testing.assert_array_equal(solution.state.tau[:, 0, :13], data.x_init)
    wished = np.clip(data.u_ref[:, 0], data.lower[:, 0, 13:], data.upper[:, 0, 13:])
    np.testing.assert_allclose(solution.state.tau[:, 0, 13:], wished, atol=1e-6)
    assert wished[1, 0] == data.upper[1, 0, 13]


@pytest.mark.parametrize("engine", [CpuEngine(crazyflie_model(), threads=1), TorchEngine(crazyflie_model())])
def test_spheres_switched_off_are_no_spheres(engine: Engine) -> None:
    data = crazyflies(3)
    off = solve_one(data._replace(radii=-np.abs(data.radii)), engine=engine)
    none = solve_one(data._replace(radii=data.radii[:, :0], centres=data.centres[:, :, :0]), engine=engine)
    np.testing.assert_allclose(off.state.tau, none.state.tau, atol=1e-12)
    assert none.state.duals.sphere.shape == (3, 12, 0)
    assert (off.state.duals.sphere == 0.0).all()


def test_infinite_bounds_are_no_bounds() -> None:
    data = crazyflies(3, spheres=0)
    free = data._replace(lower=np.full_like(data.lower, -np.inf), upper=np.full_like(data.upper, np.inf))
    wide = data._replace(lower=np.full_like(data.lower, -1e3), upper=np.full_like(data.upper, 1e3))
    solution = solve_one(free)
    assert (solution.status == Status.CONVERGED).all()
    np.testing.assert_allclose(solution.state.tau, solve_one(wide).state.tau, atol=1e-12)


def test_crossed_bounds_are_infeasible_and_meet_halfway() -> None:
    data = edit(crazyflies(1, spheres=0), lower=((0, 5, 13), 0.3), upper=((0, 5, 13), 0.1))
    solution = solve_one(data)
    assert solution.status.tolist() == [Status.INFEASIBLE]
    assert solution.violation[0] == pytest.approx(0.1, abs=1e-3)
    assert solution.state.tau[0, 5, 13] == pytest.approx(0.2, abs=1e-3)


@pytest.mark.parametrize("engine", [CpuEngine(crazyflie_model(), threads=1), TorchEngine(crazyflie_model())])
def test_crossed_bounds_are_seen_without_iterating_to_the_end(engine: Engine) -> None:
    data = crazyflies(3, spheres=0)
    data = edit(data, lower=((0, 5, 13), 0.3), upper=((0, 5, 13), 0.1))
    data = edit(data, lower=((1, 0, 3), 9.0))  # on x_0: not a bound
    solution = solve_one(data, FLIGHT, engine)
    assert solution.status.tolist() == [Status.INFEASIBLE, Status.ITERATING, Status.ITERATING]


def inside_a_sphere(depth: float, batch: int = 20) -> Data:
    """Starts ``depth`` [m] inside a standing sphere of 0.3 m; from 0.1 m the next knot cannot be out."""
    data = crazyflies(batch, horizon=15, spheres=1)
    centre = data.x_init[:, None, None, :3] - [0.3 - depth, 0.0, 0.0]
    centres = np.ascontiguousarray(np.broadcast_to(centre, (batch, 15, 1, 3)))
    return data._replace(centres=centres, radii=np.full((batch, 1), 0.3))


@pytest.mark.parametrize("engine", [CpuEngine(crazyflie_model(), threads=1), TorchEngine(crazyflie_model())])
def test_a_start_deep_inside_a_sphere_is_infeasible_and_gets_the_way_out(engine: Engine) -> None:
    data = inside_a_sphere(0.1, 4)
    few = solve_one(data, SolverOptions(al_iterations=8, newton_steps=50), engine)
    assert (few.status == Status.INFEASIBLE).any()
    for b in np.flatnonzero(few.status == Status.INFEASIBLE):
        depth = 0.3 - np.linalg.norm(few.state.tau[b, :, :3] - data.centres[b, 0, 0], axis=-1)
        assert depth[1] == pytest.approx(few.violation[b], abs=1e-6)
        assert (depth[10:] < 1e-3).all()


@pytest.mark.parametrize("name", ["cartpole", "crazyflie"])
@pytest.mark.parametrize("penalty", [100.0, 1e4])
def test_what_is_feasible_is_hardly_ever_called_infeasible(name: str, penalty: float) -> None:
    """Where multipliers converge slowly, under a small penalty, there is little progress and still a way.

    The violation of a few has a local minimum there.
    """
    data = PROBLEMS[name](100, 0)
    options = SolverOptions(al_iterations=12, newton_steps=20, penalty_max=penalty)
    solution = CpuEngine(MODELS[name], threads=1).solve(data, cold_state(data, 1.0), options)
    assert (solution.status == Status.ITERATING).any() or penalty > 100.0
    assert (solution.status == Status.INFEASIBLE).sum() <= 3


@pytest.mark.parametrize("engine", [CpuEngine(pendulum_model(), threads=1), TorchEngine(pendulum_model())])
def test_a_stale_multiplier_is_no_solution(engine: Engine) -> None:
    """It pulls the plan away from a bound that is not touched: nothing is violated, and nothing optimal."""
    data = pendulums(1, horizon=1)._replace(u_ref=np.zeros((1, 1, 1)))
    data = data._replace(lower=np.full((1, 1, 3), -5.0), upper=np.full((1, 1, 3), 5.0))
    state = cold_state(data, 100.0)
    state.duals.lower[0, 0, 2] = 150.0
    one = engine.solve(data, state, SolverOptions(al_iterations=1, newton_steps=30))
    assert one.violation[0] == 0.0
    assert one.complementarity[0] > 0.1
    assert one.status[0] == Status.ITERATING
    more = engine.solve(data, state, SolverOptions(al_iterations=20, newton_steps=30))
    assert more.status[0] == Status.CONVERGED
    assert more.complementarity[0] < 1e-4
    assert more.state.tau[0, 0, 2] == pytest.approx(0.0, abs=1e-3)


def test_a_start_inside_a_sphere_flies_out_of_it() -> None:
    data = crazyflies(1, horizon=15, spheres=1)
    centre = data.x_init[:, None, None, :3] - [0.05, 0.0, 0.0]
    data = data._replace(centres=np.broadcast_to(centre, (1, 15, 1, 3)), radii=np.full((1, 1), 0.3))
    solution = solve_one(data)
    assert solution.status[0] in (Status.INFEASIBLE, Status.ITERATING)
    assert np.linalg.norm(solution.state.tau[0, 10:, :3] - centre[0, 0], axis=-1).min() > 0.3 - 1e-3


def test_coinciding_spheres_cost_no_more_than_one() -> None:
    data = crazyflies(3, spheres=1, seed=4)
    double = data._replace(centres=np.repeat(data.centres, 3, axis=2), radii=np.repeat(data.radii, 3, axis=1))
    one, three = solve_one(data, TIGHT), solve_one(double, TIGHT)
    assert (three.status == Status.CONVERGED).all()
    np.testing.assert_allclose(cost(data, three.state.tau), cost(data, one.state.tau), rtol=1e-5)


def test_a_knot_on_a_centre_has_no_normal_and_does_no_harm() -> None:
    data = crazyflies(2, spheres=1)
    start = cold_state(data, 1.0)
    on_centre = data._replace(centres=start.tau[:, :, None, :3])
    solution = solve_one(on_centre)
    assert (solution.status != Status.CONVERGED).all()


def test_shapes_that_do_not_fit_are_named() -> None:
    data = pendulums(2)
    state, engine = cold_state(data, 1.0), CpuEngine(pendulum_model(), threads=1)
    with pytest.raises(ValueError, match=r"q has shape \(2, 15\), expected \(2, 15, 2\)"):
        engine.solve(data._replace(q=data.q[..., 0]), state, FLIGHT)
    with pytest.raises(ValueError, match=r"tau has shape \(2, 9, 3\)"):
        engine.solve(data, cold_state(pendulums(2, horizon=9), 1.0), FLIGHT)
    with pytest.raises(ValueError, match="no position"):
        engine.solve(data._replace(radii=np.ones((2, 1)), centres=np.ones((2, 15, 1, 3))), state, FLIGHT)
    with pytest.raises(ValueError, match="no knots"):
        engine.solve(data._replace(x_ref=data.x_ref[:, :0]), state, FLIGHT)


def test_an_empty_batch_is_solved() -> None:
    data = take(crazyflies(2), [])
    assert solve_one(data).status.shape == (0,)


def test_kernels_are_compiled_once_whatever_kind_of_array_comes() -> None:
    model, data = pendulum_model(), pendulums(1)
    engine = CpuEngine(model, threads=1)
    state = cold_state(data, 1.0)
    solution = engine.solve(data, state, FLIGHT)
    engine.adjoint(data, solution, np.ones_like(solution.state.tau))
    kernels = load_kernels(model)
    before = [len(kernel.signatures) for kernel in (kernels.solve.solve_range, kernels.adjoint.adjoint_range)]

    odd = data._replace(
        x_ref=np.asfortranarray(data.x_ref),
        p=np.broadcast_to(data.p[0], (1, 1)),
        q=data.q.astype(np.float32),
        dt=np.float64(DT),
    )
    for a in (state.tau, state.penalty, *state.duals):
        a.setflags(write=False)
    options = FLIGHT.model_copy(update={"penalty_max": 10_000, "tolerance": np.float32(1e-4)})
    solution = engine.solve(odd, state, options)
    for a in (solution.state.tau, solution.penalty):
        a.setflags(write=False)
    engine.adjoint(odd, solution, np.ones(solution.state.tau.shape, dtype=np.float32))
    assert [len(kernel.signatures) for kernel in (kernels.solve.solve_range, kernels.adjoint.adjoint_range)] == before
