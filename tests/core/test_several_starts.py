"""Several starts: never worse than any one of them, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest

from deq_mpc_core.bench.check import SOFT, STIFF
from deq_mpc_core.bench.problems import random_problems, take
from deq_mpc_core.models import MODELS
from deq_mpc_core.solver import CpuEngine, Data, Status, cold_state, objective, several_starts, solve_from_several

MODEL = MODELS["crazyflie"]()
ENGINE = CpuEngine(MODEL, threads=1)


def problems(batch: int = 12, spheres: int = 4) -> Data:
    return random_problems("crazyflie", batch, 15, seed=3, spheres=spheres)


def test_one_start_and_one_schedule_are_a_solve() -> None:
    data = problems(4)
    one = solve_from_several(ENGINE, data, [cold_state(data, 7.0)], [SOFT])
    solved = ENGINE.solve(data, cold_state(data, SOFT.penalty_init), SOFT)
    for name in ("status", "dynamics", "violation", "newton_steps", "penalty"):
        np.testing.assert_array_equal(getattr(one, name), getattr(solved, name))
    np.testing.assert_array_equal(one.state.tau, solved.state.tau)


def test_the_best_of_all_is_kept_whole() -> None:
    """Every sample's plan, multipliers and residuals come from one solve, the cheapest of those that converged."""
    data = problems()
    starts, schedules = several_starts(MODEL, data), (SOFT, STIFF)
    best = solve_from_several(ENGINE, data, starts, schedules)
    all_of_them = [ENGINE.solve(data, start.with_penalty(s.penalty_init), s) for start in starts for s in schedules]
    costs = np.array(
        [np.where(s.status == Status.CONVERGED, objective(data, s.state.tau), np.inf) for s in all_of_them]
    )
    assert np.isfinite(costs).any(0).all()
    assert (costs.argmin(0) > 0).any()  # else the cold start was the best throughout, and this says nothing
    for b, k in enumerate(costs.argmin(0)):
        np.testing.assert_array_equal(best.state.tau[b], all_of_them[k].state.tau[b])
        np.testing.assert_array_equal(best.state.duals.sphere[b], all_of_them[k].state.duals.sphere[b])
        assert best.newton_steps[b] == all_of_them[k].newton_steps[b]
        assert best.status[b] == Status.CONVERGED


def test_what_does_not_converge_gives_the_least_violation() -> None:
    data, short = problems(), SOFT.model_copy(update={"al_iterations": 2})
    starts = several_starts(MODEL, data)
    best = solve_from_several(ENGINE, data, starts, [short])
    solved = [ENGINE.solve(data, start.with_penalty(short.penalty_init), short) for start in starts]
    assert (best.status != Status.CONVERGED).all()
    least = np.min([np.maximum(s.dynamics, s.violation) for s in solved], axis=0)
    np.testing.assert_array_equal(np.maximum(best.dynamics, best.violation), least)


def test_a_broken_sample_fails_alone() -> None:
    data = problems(3)
    broken = np.array(data.x_ref)
    broken[1, 4, 2] = np.nan
    best = solve_from_several(ENGINE, data._replace(x_ref=broken), several_starts(MODEL, data), [SOFT])
    alone = solve_from_several(ENGINE, take(data, [2]), several_starts(MODEL, take(data, [2])), [SOFT])
    assert best.status.tolist() == [Status.CONVERGED, Status.NUMERICAL_FAILURE, Status.CONVERGED]
    np.testing.assert_array_equal(best.state.tau[2], alone.state.tau[0])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_numbers_that_are_none_end_in_a_status_without_warnings(value: float) -> None:
    data = problems(2)
    for field in ("x_init", "x_ref", "radii"):
        broken = np.array(getattr(data, field))
        broken[1] = value
        bad = data._replace(**{field: broken})
        best = solve_from_several(ENGINE, bad, several_starts(MODEL, bad), [SOFT])
        assert best.status[1] == Status.NUMERICAL_FAILURE
        assert best.status[0] == Status.CONVERGED


@pytest.mark.parametrize("name", sorted(MODELS))
def test_starts_keep_the_first_state_and_go_around_where_there_is_something_to_go_around(name: str) -> None:
    model = MODELS[name]()
    for spheres, expected in ((0, 2), (3, 8 if model.position else 2)):
        data = random_problems(name, 5, 9, seed=0, spheres=spheres)
        starts = several_starts(model, data)
        assert len(starts) == expected
        for start in starts:
            assert np.isfinite(start.tau).all()
            np.testing.assert_array_equal(start.tau[:, 0, : model.nx], data.x_init)
    if model.position:  # detours end a radius away from the reference, across the way
        where, last = list(model.position), data.x_ref[:, -1, list(model.position)]
        away = starts[4].tau[:, -1, where] - last
        np.testing.assert_allclose(np.linalg.norm(away, axis=1), data.radii.max(1), rtol=1e-12)
        np.testing.assert_allclose((away * (last - data.x_init[:, where])).sum(1), 0.0, atol=1e-12)


def test_a_detour_from_a_goal_that_is_the_start_or_straight_above_is_finite() -> None:
    data = problems(2)
    reference = np.array(data.x_ref)
    reference[0, -1, :3] = data.x_init[0, :3]
    reference[1, -1, :3] = data.x_init[1, :3] + [0.0, 0.0, 1.0]
    for start in several_starts(MODEL, data._replace(x_ref=reference)):
        assert np.isfinite(start.tau).all()


def test_no_start_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one start"):
        solve_from_several(ENGINE, problems(1), [], [SOFT])
