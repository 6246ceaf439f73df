"""Campaigns: independent of workers and order, training apart from evaluation, failures passed on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_core.errors import UserError
from deq_mpc_sim.campaign import EPISODE_LIMIT, SEED_LIMIT, TRAINING_DOMAIN, Flight, SceneArguments, fly_all

SHORT = SceneArguments("pocket", "moving", 0.1)


def flights(count, policy="straight-line", seed=4):
    return [Flight(policy, SHORT, seed, index) for index in range(count)]


def test_results_do_not_depend_on_workers_or_order():
    alone = fly_all(flights(3), workers=1)
    together = fly_all(flights(3)[::-1], workers=2)[::-1]
    for a, b in zip(alone, together, strict=True):
        assert a.ending is b.ending
        assert a.min_clearance == b.min_clearance
        assert np.array_equal(a.path, b.path)
        assert np.array_equal(a.estimates, b.estimates)
    assert not np.array_equal(alone[0].path[:100], alone[1].path[:100])


def test_everyone_is_told_of_every_flight():
    told = {}
    results = fly_all(flights(2), workers=1, on_done=lambda flight, episode: told.update({flight.index: episode}))
    assert told == dict(enumerate(results))


def test_no_flights_no_results():
    assert fly_all([]) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_users_error_in_a_worker_is_the_users(workers):
    with pytest.raises(UserError, match="unknown scene 'maze'"):
        fly_all(
            [Flight("straight-line", SceneArguments("maze", "static", 0.1), 0, index) for index in range(2)], workers
        )


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_must_be_positive(workers):
    with pytest.raises(UserError, match="at least 1"):
        fly_all(flights(2), workers)


SEEDS, INDICES = st.integers(0, SEED_LIMIT - 1), st.integers(0, EPISODE_LIMIT - 1)


@settings(max_examples=200, deadline=None)
@given(SEEDS, INDICES, SEEDS, INDICES, st.integers(0, 2))
def test_training_scenes_are_never_evaluation_scenes(seed, index, other_seed, other_index, kind):
    training = np.random.SeedSequence([TRAINING_DOMAIN + other_seed, other_index, kind]).generate_state(4)
    for evaluation_kind in range(3):
        evaluation = np.random.SeedSequence([seed, index, evaluation_kind]).generate_state(4)
        assert not np.array_equal(training, evaluation)


def test_the_training_domain_stands_in_the_word_that_is_the_index_in_evaluations():
    training = np.random.SeedSequence([TRAINING_DOMAIN + 5, 7, 2]).generate_state(4)
    words = np.random.SeedSequence([5, TRAINING_DOMAIN // SEED_LIMIT, 7, 2]).generate_state(4)
    assert np.array_equal(training, words)
    assert TRAINING_DOMAIN // SEED_LIMIT >= EPISODE_LIMIT


def test_scene_names_differ():
    names = {
        SceneArguments(kind, motion, 0.1).name(seed, index)
        for kind in ("clutter", "gate")
        for motion in ("static", "moving")
        for seed in (0, 1)
        for index in (0, 1)
    }
    assert len(names) == 16
