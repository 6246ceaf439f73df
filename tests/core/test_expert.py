"""The expert: grid paths keep their distance, plans are feasible, deterministic and read at any time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from flight_scenes import hover, moving_spheres, observation
from numpy.typing import NDArray

from deq_mpc_core.expert.grid import Grid, path_field
from deq_mpc_core.expert.planner import Plan, Planner, follow_path, load_expert_config
from deq_mpc_core.policy.expert import ExpertPolicy
from deq_mpc_core.policy.mpc import load_mpc_config
from deq_mpc_core.solver.solution import Status

Array = NDArray[np.float64]
FENCE = np.array([load_mpc_config().fence_low, load_mpc_config().fence_high])
GRID = Grid(FENCE[0], FENCE[1], 0.1)
MARGIN, COMFORT, WEIGHT = 0.11, 0.3, 2.0
GOAL = np.array([1.5, 0.0, 1.0])


def corners(start: Array, centres: Array, radii: Array, goal: Array = GOAL) -> Array:
    return path_field(GRID, goal, centres, radii, MARGIN, COMFORT, WEIGHT).path(start)


def along(path: Array, samples: int = 200) -> Array:
    """Points (samples, 3) of each segment."""
    w = np.linspace(0.0, 1.0, samples)[:, None]
    return np.concatenate([(1.0 - w) * a + w * b for a, b in pairwise(path)])


def surface(points: Array, centres: Array, radii: Array) -> Array:
    return (np.linalg.norm(points[:, None] - centres, axis=-1) - radii).min(axis=1)


def pocket() -> Array:
    """(K, 7) a wall of touching spheres that closes in on three sides of the way to the goal, from floor to ceiling."""
    back = [(0.6, y) for y in np.arange(-0.75, 0.76, 0.25)]
    sides = [(x, y) for x in np.arange(-0.15, 0.4, 0.25) for y in (-0.75, 0.75)]
    rows = [(x, y, z, 0.15, 0.0, 0.0, 0.0) for x, y in back + sides for z in np.arange(0.3, 1.9, 0.25)]
    return np.array(rows)


# Grid -----------------------------------------------------------------------------------------------------------------


def test_a_free_way_is_straight() -> None:
    start = np.array([-1.53, 0.12, 0.94])
    np.testing.assert_array_equal(corners(start, np.zeros((0, 3)), np.zeros(0)), [start, GOAL])


@pytest.mark.parametrize("seed", range(3))
def test_a_path_keeps_the_margin(seed: int) -> None:
    spheres = moving_spheres(12, seed)
    start = np.array([-1.6, 0.0, 1.0])
    path = corners(start, spheres[:, :3], spheres[:, 3])
    np.testing.assert_array_equal(path[[0, -1]], [start, GOAL])
    points = along(path)
    assert surface(points, spheres[:, :3], spheres[:, 3]).min() > MARGIN - 0.03  # segments are checked at half cells
    assert ((points >= FENCE[0] - 1e-9) & (points <= FENCE[1] + 1e-9)).all()


def test_a_path_leads_out_of_a_pocket() -> None:
    spheres = pocket()
    path = corners(np.array([0.1, 0.0, 1.0]), spheres[:, :3], spheres[:, 3])
    assert surface(along(path), spheres[:, :3], spheres[:, 3]).min() > MARGIN - 0.03
    assert path[:, 0].min() < -0.15  # back first, although the goal is ahead
    assert np.abs(path[:, 1]).max() > 0.75 + 0.15


def test_a_start_within_a_margin_finds_its_way_out() -> None:
    centres, radii = np.array([[0.0, 0.0, 1.0]]), np.array([0.3])
    start = np.array([-0.35, 0.02, 1.0])
    clear = surface(along(corners(start, centres, radii)), centres, radii)
    assert clear[0] < MARGIN
    out = int(np.argmax(clear > MARGIN))
    assert clear[out:].min() > MARGIN - 0.03
    assert clear.min() > 0.0


# Planner --------------------------------------------------------------------------------------------------------------


def assert_feasible(plan: Plan, obstacles: Array) -> None:
    config, mpc = load_expert_config(), load_mpc_config()
    pos, vel = plan.states[:, :3], plan.states[:, 3:]
    for k in range(len(pos)):
        centres = obstacles[:, :3] + k * plan.dt * obstacles[:, 4:7]
        assert surface(pos[k : k + 1], centres, obstacles[:, 3]).min() > config.margin - 0.02
    assert ((pos >= FENCE[0] - 0.02) & (pos <= FENCE[1] + 0.02)).all()
    assert (np.abs(vel) <= mpc.speed_max + 0.05).all()
    assert (np.abs(np.diff(vel, axis=0)) <= plan.dt * config.acceleration_max + 0.05).all()
    np.testing.assert_allclose(np.diff(pos, axis=0), 0.5 * plan.dt * (vel[1:] + vel[:-1]), atol=0.03)


SCENES = {"pocket": (pocket(), (-0.1, 0.0, 1.0)), "moving": (moving_spheres(8, seed=1), (-1.6, 0.0, 1.0))}


@pytest.mark.parametrize("name", SCENES)
def test_a_plan_is_feasible_and_gets_there(name: str) -> None:
    obstacles, start = SCENES[name]
    state = hover(start)[:6]
    plan = Planner().plan(2.0, state, GOAL, obstacles)
    assert (plan.t, plan.dt) == (2.0, load_expert_config().dt)
    np.testing.assert_allclose(plan.states[0], state, atol=1e-9)
    assert_feasible(plan, obstacles)
    way = along(corners(state[:3], obstacles[:, :3], obstacles[:, 3]), 2)
    length = np.linalg.norm(np.diff(way, axis=0), axis=1).sum()
    flown = np.linalg.norm(np.diff(plan.states[:, :3], axis=0), axis=1).sum()
    assert flown > 0.6 * min(length, load_expert_config().speed * 3.45)


def test_plans_are_deterministic_whatever_was_planned_before() -> None:
    obstacles, start = SCENES["moving"]
    used = Planner()
    for goal in (-GOAL, GOAL + 0.1, GOAL):
        last = used.plan(0.0, hover(start)[:6], goal, obstacles)
    np.testing.assert_array_equal(last.states, Planner().plan(0.0, hover(start)[:6], GOAL, obstacles).states)


def test_a_plan_stays_within_the_fence_given() -> None:
    fence = np.array([[-2.0, -0.4, 0.6], [2.0, 0.4, 1.4]])
    sphere = np.array([[0.0, 0.0, 1.0, 0.15, 0.0, 0.0, 0.0]])
    pos = Planner().plan(0.0, hover((-1.0, 0.0, 1.0))[:6], GOAL, sphere, fence).states[:, :3]
    assert ((pos >= fence[0] - 0.02) & (pos <= fence[1] + 0.02)).all()
    assert surface(pos, sphere[:, :3], sphere[:, 3]).min() > 0.05


def test_a_plan_is_read_at_any_time() -> None:
    states = np.array([[0.0, 0, 0, 1, 0, 0], [0.1, 0, 0, 3, 0, 0], [0.4, 0, 0, 3, 0, 0]])
    plan = Plan(5.0, 0.1, states)
    read = plan.sample(np.array([4.0, 5.05, 5.1, 5.2, 9.0]))
    np.testing.assert_allclose(read[:, 0], [0.0, 0.05, 0.1, 0.4, 0.4], atol=1e-12)
    np.testing.assert_allclose(read[:, 3], [1.0, 2.0, 3.0, 0.0, 0.0], atol=1e-9)  # held where it ends


def test_following_a_path_turns_its_corners_and_ends_at_rest() -> None:
    path = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    states = follow_path(path, 120, 0.05, 1.0, 2.0)
    np.testing.assert_allclose(states[10, :6], [0.5, 0, 1, 1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(states[25, :6], [1, 0.25, 1, 0, 1, 0], atol=1e-9)
    np.testing.assert_allclose(states[-1], [1, 1, 1, 0, 0, 0], atol=1e-3)
    np.testing.assert_array_equal(follow_path(path[1:3], 5, 0.05, 1.0, 2.0), np.tile([1.0, 0, 1, 0, 0, 0], (5, 1)))


# Policy ---------------------------------------------------------------------------------------------------------------


def test_the_policy_replans_when_its_plan_is_old_and_not_before() -> None:
    policy, period = ExpertPolicy(), load_expert_config().replan_period
    _, first, info = policy.step(observation(0.0), None)
    assert info.status != Status.NUMERICAL_FAILURE
    _, soon, _ = policy.step(observation(0.5 * period), first)
    assert soon.plan is first.plan
    _, later, _ = policy.step(observation(1.5 * period), soon)
    assert later.plan.t == 1.5 * period
    assert policy.step(observation(0.0), later)[1].plan.t == 0.0  # time went back
