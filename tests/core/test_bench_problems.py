"""The random problems: feasible, repeatable, one by one, and pressed against their constraints."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_core.bench.problems import random_problems, random_problems_and_witnesses, take
from deq_mpc_core.bench.quality import violation
from deq_mpc_core.models import MODELS
from deq_mpc_core.solver import objective


@pytest.mark.parametrize("name", MODELS)
def test_a_known_motion_satisfies_every_constraint(name: str) -> None:
    data, witness = random_problems_and_witnesses(name, 20, 12, seed=4)
    assert violation(MODELS[name](), data, witness).max() < 1e-12


@pytest.mark.parametrize("name", MODELS)
def test_references_and_spheres_lie_across_the_way(name: str) -> None:
    model, data = MODELS[name](), random_problems(name, 60, 12, seed=4)
    wished = np.concatenate([data.x_ref, data.u_ref], axis=-1)
    beyond = ((wished > data.upper) | (wished < data.lower))[:, 1:].any((1, 2))
    assert beyond.mean() > 0.3
    if model.position:
        assert (data.radii > 0.0).mean() > 0.8
        distance = np.linalg.norm(data.x_ref[:, :, None, :3] - data.centres, axis=-1)
        assert (distance[:, 1:] < data.radii[:, None]).any((1, 2)).mean() > 0.5


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.integers(1, 8), st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_a_sample_is_the_same_in_a_batch_of_any_size(name: str, horizon: int, seed: int, spheres: int) -> None:
    few = random_problems(name, 2, horizon, seed, spheres=spheres)
    many = random_problems(name, 5, horizon, seed, spheres=spheres)
    for a, b in zip(few[:-1], take(many, [0, 1])[:-1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(many.x_init[0], many.x_init[1])


def test_violation_sees_each_kind_of_constraint() -> None:
    model = MODELS["quadrotor"]()
    data, witness = random_problems_and_witnesses("quadrotor", 1, 6, seed=0)
    motor = model.nx
    off = {
        "x_init": (0, 0, 1e-3),
        "dynamics": (3, 0, 2e-3),
        "bound": (5, motor, data.upper[0, 5, motor] + 0.5 - witness[0, 5, motor]),
    }
    for kind, (knot, i, by) in off.items():
        tau = witness.copy()
        tau[0, knot, i] += by
        assert violation(model, data, tau)[0] == pytest.approx(0.5 if kind == "bound" else by, rel=1e-6), kind
    inside = data._replace(centres=witness[:, :, None, :3] + [0.1, 0.0, 0.0], radii=np.full((1, 1), 0.3))
    assert violation(model, inside, witness)[0] == pytest.approx(0.2)
    assert violation(model, inside._replace(radii=np.zeros((1, 1))), witness)[0] < 1e-12
    assert violation(model, data, np.full_like(witness, np.nan))[0] == np.inf


def test_objective_is_the_weighted_half_square() -> None:
    data, witness = random_problems_and_witnesses("pendulum", 2, 3, seed=0)
    expected = [
        sum(
            0.5 * data.q[b, t] @ (witness[b, t, :2] - data.x_ref[b, t]) ** 2
            + 0.5 * data.r[b, t] @ (witness[b, t, 2:] - data.u_ref[b, t]) ** 2
            for t in range(3)
        )
        for b in range(2)
    ]
    np.testing.assert_allclose(objective(data, witness), expected)
