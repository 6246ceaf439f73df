"""Whatever goes in: a ValueError by name or a status, finite arrays, and bits that depend on a sample's data alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from gradients import take_state
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from deq_mpc_core.bench.problems import random_problems, take
from deq_mpc_core.bench.quality import violation
from deq_mpc_core.models import MODELS
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
from deq_mpc_core.solver.torch_engine import TorchEngine

Array = NDArray[np.float64]

SHORT = SolverOptions(al_iterations=4, newton_steps=3, penalty_growth=5.0)
LONG = SolverOptions(al_iterations=12, newton_steps=10)
NAMES = sorted(MODELS)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small batches on torch are slower on more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def cpu(name: str, threads: int = 1) -> CpuEngine:
    return CpuEngine(MODELS[name](), threads=threads)


@cache
def batched(name: str) -> TorchEngine:
    return TorchEngine(MODELS[name]())


@dataclass(frozen=True)
class Answer:
    """All that comes out of a solve and of its adjoint."""

    solution: Solution
    grads: Gradients
    kinds: NDArray[np.int64]

    def rows(self) -> dict[str, Array]:
        """Every array by name, a row a sample."""
        solved = {name: getattr(self.solution, name) for name in vars(self.solution) if name != "state"}
        state = self.solution.state
        multipliers = {f"dual {name}": a for name, a in state.duals._asdict().items()}
        grads = {f"gradient of {name}": a for name, a in self.grads._asdict().items()}
        return {**solved, **multipliers, **grads, "tau": state.tau, "next": state.penalty, "kinds": self.kinds}


def answer(engine: Engine, data: Data, state: SolverState | None = None, options: SolverOptions = SHORT) -> Answer:
    solution = engine.solve(data, cold_state(data, options.penalty_init) if state is None else state, options)
    shape = (1, *solution.state.tau.shape[1:])
    weight = np.cos(np.arange(np.prod(shape))).reshape(shape)
    grads, kinds = engine.adjoint(data, solution, np.repeat(weight, len(data.x_init), axis=0))
    return Answer(solution, grads, kinds)


def assert_same_rows(a: Answer, at: list[int], b: Answer, there: list[int]) -> None:
    for name, rows in a.rows().items():
        np.testing.assert_array_equal(rows[at], b.rows()[name][there], err_msg=name)


# A sample's answer is its own -----------------------------------------------------------------------------------------


def poison_number(data: Data, b: int) -> Data:
    return change(data, "q", (b, -1, 0), np.nan)


def poison_overflow(data: Data, b: int) -> Data:
    return change(change(data, "x_ref", (b, 0, 0), 1e200), "q", (b, 0, 0), 1e200)


def poison_bounds(data: Data, b: int) -> Data:
    return change(change(data, "lower", (b, -1, -1), 1.0), "upper", (b, -1, -1), -1.0)


def poison_curvature(data: Data, b: int) -> Data:
    return change(data, "r", (b, 0, 0), -1e12)


def change(data: Data, field: str, index: tuple[int, ...], value: float) -> Data:
    """The data with one entry of an array set."""
    array = np.array(getattr(data, field), dtype=np.float64)
    array[index] = value
    return data._replace(**{field: array})


POISONS = [poison_number, poison_overflow, poison_bounds, poison_curvature]


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    horizon=st.integers(1, 40),
    batch=st.integers(1, 9),
    spheres=st.integers(0, 6),
    seed=st.integers(0, 1000),
    poison=st.none() | st.sampled_from(POISONS),
    bad=st.integers(0, 8),
    random=st.randoms(use_true_random=False),
)
def test_an_answer_depends_on_its_sample_alone(
    name: str,
    horizon: int,
    batch: int,
    spheres: int,
    seed: int,
    poison: Callable[[Data, int], Data] | None,
    bad: int,
    random: Any,
) -> None:
    """Not on batch mates, healthy or not, their order, the threads, or what was solved before: to the last bit."""
    data = random_problems(name, batch, horizon, seed, spheres=spheres)
    if poison is not None:
        data = poison(data, bad % batch)
    together = answer(cpu(name), data)
    alone = [answer(cpu(name), take(data, [b])) for b in range(batch)]
    for b in range(batch):
        assert_same_rows(together, [b], alone[b], [0])
    order = random.sample(range(batch), batch)
    assert_same_rows(answer(cpu(name), take(data, order)), list(range(batch)), together, order)
    for threads in (2, 3):
        assert_same_rows(answer(cpu(name, threads), data), list(range(batch)), together, list(range(batch)))
    other = "pendulum" if name != "pendulum" else "cartpole"
    answer(cpu(other), random_problems(other, 3, horizon, seed), options=LONG)
    answer(cpu(name), poison_number(random_problems(name, 2, 2 * horizon, seed + 1, spheres=spheres), 1))
    assert_same_rows(answer(cpu(name), data), list(range(batch)), together, list(range(batch)))


@settings(max_examples=10, deadline=None)
@given(name=st.sampled_from(NAMES), horizon=st.integers(1, 20), cut=st.integers(1, 4), seed=st.integers(0, 1000))
def test_warm_starts_are_samples_too(name: str, horizon: int, cut: int, seed: int) -> None:
    data = random_problems(name, 5, horizon, seed)
    first = answer(cpu(name), data).solution.state
    together = answer(cpu(name, 2), data, first)
    which = list(range(cut))
    assert_same_rows(answer(cpu(name), take(data, which), take_state(first, which)), which, together, which)


# Degenerate numbers ---------------------------------------------------------------------------------------------------

NUMBERS = [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-300, 1e12, -1e12, 1e200, 1e308, -1e308]
FIELDS = [field for field in Data._fields if field != "dt"]


@st.composite
def edits(draw: st.DrawFn) -> Callable[[Data], Data]:
    """A change of sample 0: one number of an array, a whole array of it, crossed or infinite bounds, equal spheres."""
    kind = draw(st.sampled_from(["entry", "entry", "array", "crossed", "unbounded", "coinciding", "on the way"]))
    field, value, at = draw(st.sampled_from(FIELDS)), draw(st.sampled_from(NUMBERS)), draw(st.integers(0, 10**6))

    def apply(data: Data) -> Data:
        arrays = {name: np.array(getattr(data, name), dtype=np.float64) for name in FIELDS}
        first = {name: a[0].reshape(-1) for name, a in arrays.items()}
        if kind == "entry" and first[field].size:
            first[field][at % first[field].size] = value
        elif kind == "array":
            arrays[field][0] = value
        elif kind == "crossed":
            arrays["lower"][0], arrays["upper"][0] = arrays["upper"][0] + 1.0, arrays["lower"][0] - 1.0
        elif kind == "unbounded":
            arrays["lower"][0], arrays["upper"][0] = -np.inf, np.inf
        elif kind == "coinciding":
            arrays["centres"][0], arrays["radii"][0] = arrays["centres"][0, :, :1], arrays["radii"][0, :1]
        elif kind == "on the way" and arrays["centres"].size:
            arrays["centres"][0] = arrays["x_init"][0, :3]
        return data._replace(**arrays)

    return apply


STEPS = [0.05, 0.0, -0.05, 1.0, 1e3, 1e160, 1e308, -1e308, np.nan, np.inf]
PENALTIES = [1.0, 0.0, -1.0, np.nan, np.inf, -np.inf, 1e-300, 1e-6, 1e12, 1e300]


def broken_state(state: SolverState, penalty: float, value: float | None) -> SolverState:
    """Sample 0 with another penalty and, if a value is given, with it in the middle of the plan."""
    mu, tau = np.array(state.penalty), np.array(state.tau)
    mu[0] = penalty
    if value is not None:
        tau[0, tau.shape[1] // 2, -1] = value
    return SolverState(tau, state.duals, mu)


def assert_sound(data: Data, found: Answer) -> None:
    """A status a sample, finite arrays, and residuals that are true."""
    solution, failed = found.solution, found.solution.status == Status.NUMERICAL_FAILURE
    assert set(solution.status) <= set(Status)
    assert set(found.kinds) <= set(AdjointKind)
    for name, rows in {"tau": solution.state.tau, **solution.state.duals._asdict(), **found.grads._asdict()}.items():
        assert np.isfinite(rows).all(), name
    for name in ("dynamics", "violation", "penalty"):
        assert np.isfinite(getattr(solution, name)[~failed]).all(), name
    assert (solution.state.penalty[~failed] > 0.0).all()
    assert not (failed & (found.kinds != AdjointKind.FAILED)).any()
    for grad in found.grads:
        assert (grad[found.kinds == AdjointKind.FAILED] == 0.0).all()


def unusable(data: Data, state: SolverState) -> bool:
    """Whether sample 0 holds a number that cannot be computed with."""
    bounds = np.isnan(data.lower[0]).any() or np.isnan(data.upper[0]).any()
    bounds = bounds or (data.lower[0] == np.inf).any() or (data.upper[0] == -np.inf).any()
    numbers = [getattr(data, name)[0] for name in FIELDS if name not in ("lower", "upper")]
    numbers += [state.tau[0], *(a[0] for a in state.duals), np.array(data.dt)]
    return bool(bounds or not all(np.isfinite(a).all() for a in numbers) or not state.penalty[0] > 0.0)


def check_degenerate(engine: Engine, healthy: Data, data: Data, state: SolverState, options: SolverOptions) -> None:
    found = answer(engine, data, state, options)
    assert_sound(data, found)
    if unusable(data, state):
        assert found.solution.status[0] == Status.NUMERICAL_FAILURE
    if data.dt == healthy.dt:
        rest = list(range(1, len(data.x_init)))
        reference = answer(engine, take(healthy, rest), cold_state(take(healthy, rest), 1.0), options)
        if isinstance(engine, CpuEngine):
            assert_same_rows(found, rest, reference, [b - 1 for b in rest])
        np.testing.assert_allclose(found.solution.state.tau[1:], reference.solution.state.tau, rtol=1e-7, atol=1e-7)


degenerate = given(
    name=st.sampled_from(NAMES),
    horizon=st.integers(1, 6),
    spheres=st.integers(0, 3),
    seed=st.integers(0, 1000),
    edits=st.lists(edits(), max_size=3),
    dt=st.sampled_from([0.05] * 10 + STEPS),
    penalty=st.sampled_from([1.0] * 10 + PENALTIES),
    value=st.none() | st.sampled_from(NUMBERS),
)


def degenerate_problem(
    name: str, horizon: int, spheres: int, seed: int, edits: list[Callable[[Data], Data]], dt: float
) -> tuple[Data, Data]:
    healthy = random_problems(name, 3, horizon, seed, spheres=spheres)
    data = healthy._replace(dt=dt)
    for edit in edits:
        data = edit(data)
    return healthy, data


@settings(max_examples=300, deadline=None)
@degenerate
def test_degenerate_numbers_end_in_a_status(
    name: str,
    horizon: int,
    spheres: int,
    seed: int,
    edits: list[Callable[[Data], Data]],
    dt: float,
    penalty: float,
    value: float | None,
) -> None:
    healthy, data = degenerate_problem(name, horizon, spheres, seed, edits, dt)
    state = broken_state(cold_state(healthy, 1.0), penalty, value)
    check_degenerate(cpu(name), healthy, data, state, LONG)


@pytest.mark.parametrize("engine", [cpu("cartpole"), batched("cartpole")], ids=["cpu", "torch"])
def test_a_model_that_divides_by_zero_fails_its_sample_alone(engine: Engine) -> None:
    """A cart and a pole without mass: the accelerations and their derivatives have a denominator of zero."""
    healthy = random_problems("cartpole", 3, 5, seed=0)
    data = healthy._replace(p=healthy.p * np.array([[1.0], [0.0], [1.0]]))
    found = answer(engine, data)
    assert_sound(data, found)
    assert found.solution.status[1] == Status.NUMERICAL_FAILURE
    assert found.kinds.tolist() == [AdjointKind.EXACT, AdjointKind.FAILED, AdjointKind.EXACT]


@settings(max_examples=30, deadline=None)
@degenerate
def test_degenerate_numbers_end_in_a_status_on_torch(
    name: str,
    horizon: int,
    spheres: int,
    seed: int,
    edits: list[Callable[[Data], Data]],
    dt: float,
    penalty: float,
    value: float | None,
) -> None:
    healthy, data = degenerate_problem(name, horizon, spheres, seed, edits, dt)
    state = broken_state(cold_state(healthy, 1.0), penalty, value)
    check_degenerate(batched(name), healthy, data, state, SHORT)


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(NAMES), horizon=st.integers(1, 12), spheres=st.integers(0, 4), seed=st.integers(0, 10**6))
def test_what_is_called_converged_keeps_the_constraints(name: str, horizon: int, spheres: int, seed: int) -> None:
    """Measured apart from the engines, in SI units."""
    data, model = random_problems(name, 4, horizon, seed, spheres=spheres), MODELS[name]()
    solution = cpu(name).solve(data, cold_state(data, 1.0), LONG)
    converged = solution.status == Status.CONVERGED
    largest = LONG.tolerance * max(*model.x_scale, *model.u_scale)
    assert (violation(model, data, solution.state.tau)[converged] <= largest + 1e-9).all()


@pytest.mark.parametrize("name", NAMES)
def test_most_problems_are_called_converged(name: str) -> None:
    """Else the test above would say nothing."""
    data = random_problems(name, 40, 12, seed=0, spheres=4)
    assert (cpu(name).solve(data, cold_state(data, 1.0), LONG).status == Status.CONVERGED).mean() > 0.5


# Refusals -------------------------------------------------------------------------------------------------------------


@cache
def problem(name: str) -> tuple[Data, SolverState, Solution]:
    data = random_problems(name, 2, 4, seed=0, spheres=2)
    state = cold_state(data, 1.0)
    return data, state, cpu(name).solve(data, state, SHORT)


def wrong_shapes(a: Array) -> list[Array]:
    """One axis longer, one shorter, one axis more, one less, none."""
    a = np.asarray(a)
    return [np.concatenate([a, a[..., -1:]], axis=-1), a[..., 1:], a[None], a[0], np.zeros(())]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("engine", [cpu("quadrotor"), batched("quadrotor")], ids=["cpu", "torch"])
def test_a_wrong_shape_is_refused_by_name(engine: Engine, field: str) -> None:
    data, state, solution = problem("quadrotor")
    for wrong in wrong_shapes(getattr(data, field)):
        broken = data._replace(**{field: wrong})
        with pytest.raises(ValueError, match=r"has shape .*expected"):
            engine.solve(broken, state, SHORT)
        with pytest.raises(ValueError, match=r"has shape .*expected"):
            engine.adjoint(broken, solution, solution.state.tau)


@pytest.mark.parametrize("engine", [cpu("quadrotor"), batched("quadrotor")], ids=["cpu", "torch"])
def test_states_and_gradients_of_a_wrong_shape_are_refused_by_name(engine: Engine) -> None:
    """The kernels check no index: what passes here is read and written."""
    data, state, solution = problem("quadrotor")
    for name, value in state.duals._asdict().items():
        for wrong in wrong_shapes(value):
            duals = Duals(**{**state.duals._asdict(), name: wrong})
            with pytest.raises(ValueError, match=f"dual {name} has shape"):
                engine.solve(data, replace(state, duals=duals), SHORT)
    for wrong in wrong_shapes(state.tau):
        with pytest.raises(ValueError, match=r"^tau has shape"):
            engine.solve(data, state.with_tau(wrong), SHORT)
        with pytest.raises(ValueError, match=r"^tau_bar has shape"):
            engine.adjoint(data, solution, wrong)
    for wrong in (state.penalty[:1], state.penalty[None], np.ones(())):
        with pytest.raises(ValueError, match="penalty has shape"):
            engine.solve(data, replace(state, penalty=wrong), SHORT)
        with pytest.raises(ValueError, match="penalty of the solution has shape"):
            engine.adjoint(data, replace(solution, penalty=wrong), solution.state.tau)
    with pytest.raises(ValueError, match="status of the solution has shape"):
        engine.adjoint(data, replace(solution, status=solution.status[:1]), solution.state.tau)
    with pytest.raises(ValueError, match="dt has shape"):
        engine.solve(data._replace(dt=np.full(2, 0.05)), state, SHORT)


def test_a_horizon_of_no_knots_and_no_thread_are_refused() -> None:
    data, state, _ = problem("quadrotor")
    for engine in (cpu("quadrotor"), batched("quadrotor")):
        with pytest.raises(ValueError, match="the horizon has no knots"):
            engine.solve(data._replace(x_ref=data.x_ref[:, :0]), state, SHORT)
    for threads in (0, -1):
        with pytest.raises(ValueError, match="at least one thread"):
            CpuEngine(MODELS["quadrotor"](), threads=threads)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("al_iterations", 0),
        ("newton_steps", -1),
        ("penalty_init", 0.0),
        ("penalty_growth", 0.99),
        ("penalty_max", 0.0),
        ("penalty_max", np.inf),
        ("al_iterations", 10**20),
        ("newton_steps", 10**20),
        ("tolerance", -1e-9),
        ("newton_tolerance", -1e-9),
        ("tolerance", np.nan),
    ],
)
def test_options_that_steer_nowhere_are_refused(option: str, value: float) -> None:
    with pytest.raises(ValidationError, match=option):
        SolverOptions.model_validate({option: value})


@pytest.mark.parametrize("engine", [cpu("cartpole"), batched("cartpole")], ids=["cpu", "torch"])
def test_tolerances_whose_squares_overflow_are_any_tolerance(engine: Engine) -> None:
    data, state, _ = problem("cartpole")
    solution = engine.solve(data, state, SolverOptions(tolerance=1e300, newton_tolerance=1e300))
    assert (solution.status == Status.CONVERGED).all()


@pytest.mark.parametrize("engine", [cpu("quadrotor"), batched("quadrotor")], ids=["cpu", "torch"])
@pytest.mark.parametrize("penalty", [0.0, -1.0, np.nan])
def test_an_adjoint_without_a_penalty_fails(engine: Engine, penalty: float) -> None:
    data, _, solution = problem("quadrotor")
    broken = replace(solution, penalty=np.array([penalty, 1.0]))
    grads, kinds = engine.adjoint(data, broken, solution.state.tau)
    assert (kinds == AdjointKind.FAILED).tolist() == [True, False]
    assert all((grad[0] == 0.0).all() and np.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("engine", [cpu("quadrotor"), batched("quadrotor")], ids=["cpu", "torch"])
def test_no_samples_and_any_kind_of_array(engine: Engine) -> None:
    data, state, solution = problem("quadrotor")
    none = answer(engine, take(data, []))
    assert {len(rows) for rows in none.rows().values()} == {0}
    backwards = data.x_ref[:, ::-1].copy()[:, ::-1]
    odd = data._replace(x_ref=backwards, q=data.q.tolist(), r=data.r.astype(">f8"), lower=data.lower.astype(object))
    expected, found = engine.solve(data, state, SHORT), engine.solve(odd, state, SHORT)
    np.testing.assert_array_equal(found.state.tau, expected.state.tau)
    bar = solution.state.tau
    for one, other in zip(
        engine.adjoint(odd, found, bar.tolist())[0], engine.adjoint(data, expected, bar)[0], strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", [CpuEngine, TorchEngine])
@pytest.mark.parametrize("model", ["pendulum", MODELS["pendulum"], None])
def test_what_is_no_model_is_refused(kind: Any, model: Any) -> None:
    with pytest.raises(TypeError, match=r"needs a Model, not .*MODELS\[name\]\(\) makes one"):
        kind(model)


def test_a_cold_start_names_the_shapes_that_do_not_fit() -> None:
    data, _, _ = problem("quadrotor")
    for broken in (data._replace(x_ref=data.x_ref[0]), data._replace(x_ref=data.x_ref[:, :0])):
        with pytest.raises(ValueError, match=r"need shapes \(B, nx\)"):
            cold_state(broken, 1.0)
    for broken in (data._replace(x_init=data.x_init[:1]), data._replace(u_ref=data.u_ref[:, 1:])):
        with pytest.raises(ValueError, match="differ in batch, horizon or states"):
            cold_state(broken, 1.0)


def test_no_newton_step_is_an_update_of_the_multipliers() -> None:
    data, state, _ = problem("cartpole")
    solution = cpu("cartpole").solve(data, state, SolverOptions(al_iterations=1, newton_steps=0))
    np.testing.assert_array_equal(solution.state.tau, state.tau)
    assert (solution.dynamics > 0.0).all()
    assert (solution.state.duals.eta != 0.0).any()
