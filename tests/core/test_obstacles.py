"""Obstacles go straight on at their velocity, for as long as their message is fresh."""

from __future__ import annotations

import numpy as np
import torch
from flight_scenes import moving_spheres
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_core.obstacles import MAX_AGE, centres_at, extrapolate, move


def test_a_sphere_moves_at_its_velocity_and_keeps_the_rest() -> None:
    before = np.array([[1.0, 2.0, 3.0, 0.15, 0.5, -1.0, 0.0]])
    after = move(before, 0.1)
    np.testing.assert_allclose(after, [[1.05, 1.9, 3.0, 0.15, 0.5, -1.0, 0.0]], atol=1e-15)
    assert before[0, 0] == 1.0


@settings(max_examples=20, deadline=None)
@given(st.floats(-1.0, 1.0), st.integers(0, 5))
def test_old_messages_are_moved_on_no_further_and_none_backwards(age: float, count: int) -> None:
    spheres = moving_spheres(count)
    np.testing.assert_array_equal(extrapolate(spheres, age), move(spheres, float(np.clip(age, 0.0, MAX_AGE))))


def test_centres_of_a_batch_in_numpy_and_torch_are_those_of_moved_spheres() -> None:
    spheres = np.stack([moving_spheres(4, seed) for seed in range(3)])
    times = 0.1 * np.arange(5)
    centres = centres_at(spheres, times)
    assert centres.shape == (3, 5, 4, 3)
    for i, t in enumerate(times):
        np.testing.assert_array_equal(centres[:, i], move(spheres, t)[..., :3])
    np.testing.assert_array_equal(centres_at(torch.from_numpy(spheres), torch.from_numpy(times)).numpy(), centres)
