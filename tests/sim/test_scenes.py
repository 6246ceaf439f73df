"""Scenes and obstacle motion: what the issue of a scene promises holds for every seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from deq_mpc_core.errors import UserError
from deq_mpc_sim.obstacles import Array, clearance, fly
from deq_mpc_sim.scenes import (
    ARENA_HIGH,
    ARENA_LOW,
    COUNT,
    FENCE_MARGIN,
    KEEP_OUT,
    advance_adversarial,
    make_scene,
    positions,
)
from deq_mpc_sim.walls import GAP_OFFSET, GAP_RADIUS

VEHICLE_MARGIN = 0.05  # m
kinds = st.sampled_from(["clutter", "gate", "pocket"])
indices = st.integers(0, 10_000)


def free_space(
    obstacles: Array, margin: float, beyond: float, step: float = 0.06
) -> tuple[NDArray[np.bool_], Array, float]:
    """Grid to ``beyond`` outside the arena: (free, low corner, step); free where no sphere plus ``margin`` reaches."""
    low = ARENA_LOW - beyond
    axes = [np.arange(a, b, step) for a, b in zip(low, ARENA_HIGH + beyond, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    free = np.ones(points.shape[:3], dtype=bool)
    for x, y, z, radius in obstacles[:, :4]:
        free &= np.linalg.norm(points - [x, y, z], axis=-1) > radius + margin
    return free, low, step


def connected(obstacles: Array, start: Array, goal: Array, margin: float, beyond: float) -> bool:
    free, low, step = free_space(obstacles, margin, beyond)
    labels, _ = ndimage.label(free)
    a, b = (tuple(np.round((p - low) / step).astype(int)) for p in (start, goal))
    return bool(labels[a] == labels[b] != 0)


@settings(max_examples=40, deadline=None)
@given(kind=kinds, motion=st.sampled_from(["static", "moving"]), radius=st.floats(0.05, 0.4), index=indices)
def test_ends_are_opposite_inside_and_clear(kind: str, motion: str, radius: float, index: int) -> None:
    scene = make_scene(kind, motion, radius, 1, index)
    axis = int(np.argmax(np.abs(scene.goal - scene.start)[:2]))
    assert scene.start[axis] * scene.goal[axis] < -2.0
    for end in (scene.start, scene.goal):
        assert np.all(end - ARENA_LOW >= 0.39)
        assert np.all(ARENA_HIGH - end >= 0.39)
    assert scene.obstacles.shape == (COUNT, 7)
    assert np.linalg.norm(scene.obstacles[:, :3] - scene.start, axis=1).min() >= KEEP_OUT
    assert np.linalg.norm(scene.obstacles[:, :3] - scene.goal, axis=1).min() >= KEEP_OUT
    assert min(clearance(scene.start, scene.obstacles), clearance(scene.goal, scene.obstacles)) >= 0.14
    assert len(np.unique(scene.obstacles[:, :3], axis=0)) == COUNT


def test_all_four_sides_are_drawn() -> None:
    starts = [make_scene("clutter", "static", 0.1, 0, i).start for i in range(60)]
    sides = {(axis, np.sign(start[axis])) for start in starts for axis in [int(np.argmax(np.abs(start[:2]) == 1.6))]}
    assert len(sides) == 4


@settings(max_examples=10, deadline=None)
@given(kind=kinds, seed=st.integers(0, 1000), index=indices)
def test_a_scene_is_a_pure_function_of_its_arguments(kind: str, seed: int, index: int) -> None:
    first = make_scene(kind, "moving", 0.15, seed, index)
    np.random.default_rng(0).random(3)
    again = make_scene(kind, "moving", 0.15, seed, index)
    np.testing.assert_array_equal(first.obstacles, again.obstacles)
    np.testing.assert_array_equal(first.start, again.start)
    other = make_scene(kind, "moving", 0.15, seed, index + 1)
    assert not np.array_equal(first.goal, other.goal)
    with pytest.raises(ValueError, match="read-only"):
        first.obstacles[0, 0] = 0.0


@settings(max_examples=6, deadline=None)
@given(index=indices)
def test_a_gate_has_one_way_through_and_it_is_off_the_line(index: int) -> None:
    scene = make_scene("gate", "static", 0.2, 0, index)
    passage = scene.passage
    assert passage is not None
    axis = int(np.argmax(np.abs(scene.goal - scene.start)[:2]))
    crossing = scene.start + (scene.goal - scene.start) * (passage[axis] - scene.start[axis]) / (
        scene.goal[axis] - scene.start[axis]
    )
    assert np.linalg.norm(crossing - passage) >= GAP_OFFSET
    assert clearance(crossing, scene.obstacles) < 0.0
    assert clearance(passage, scene.obstacles) >= GAP_RADIUS - 1e-9
    assert connected(scene.obstacles, scene.start, scene.goal, VEHICLE_MARGIN, -VEHICLE_MARGIN)
    plug = np.array([[*passage, 0.75, 0.0, 0.0, 0.0]])
    assert not connected(np.vstack([scene.obstacles, plug]), scene.start, scene.goal, 0.0, FENCE_MARGIN)


@settings(max_examples=6, deadline=None)
@given(index=indices)
def test_a_pocket_is_closed_in_front_of_the_goal_and_open_around(index: int) -> None:
    scene = make_scene("pocket", "static", 0.2, 0, index)
    assert connected(scene.obstacles, scene.start, scene.goal, VEHICLE_MARGIN, -VEHICLE_MARGIN)
    bowl = scene.obstacles[:, :3]
    line = scene.start + np.linspace(0.0, 1.0, 400)[:, None] * (scene.goal - scene.start)
    depth = np.array([clearance(point, scene.obstacles) for point in line])
    stuck = line[np.argmax(depth < 0.0) - 1]
    forward = (scene.goal - scene.start) / np.linalg.norm(scene.goal - scene.start)
    assert np.sum((bowl - stuck) @ forward < -0.1) >= 8  # much of the rim lies behind the place where it gets stuck
    assert np.linalg.norm(stuck - bowl.mean(axis=0)) < 0.6


@settings(max_examples=25, deadline=None)
@given(kind=kinds, index=indices, t=st.floats(0.0, 60.0))
def test_moving_spheres_keep_their_speed_and_room(kind: str, index: int, t: float) -> None:
    scene = make_scene(kind, "moving", 0.15, 2, index)
    later = positions(scene, t)
    assert np.all(later[:, :3] >= ARENA_LOW - 1e-9)
    assert np.all(later[:, :3] <= ARENA_HIGH + 1e-9)
    assert np.linalg.norm(later[:, :3] - scene.goal, axis=1).min() >= scene.keep_out - 1e-9
    speed = np.linalg.norm(scene.obstacles[:, 4:7], axis=1)
    assert speed.max() <= 0.5
    np.testing.assert_allclose(np.linalg.norm(later[:, 4:7], axis=1), speed, atol=1e-12)
    np.testing.assert_array_equal(later[:, 3], scene.obstacles[:, 3])


@settings(max_examples=15, deadline=None)
@given(index=indices, t=st.floats(0.1, 15.0), split=st.floats(0.0, 1.0))
def test_motion_composes_and_reports_its_own_velocity(index: int, t: float, split: float) -> None:
    scene = make_scene("clutter", "moving", 0.15, 3, index)
    whole = positions(scene, t)
    parts = fly(positions(scene, split * t), (1.0 - split) * t, scene.room)
    np.testing.assert_allclose(parts, whole, atol=1e-7)
    h = 1e-7
    moved = (positions(scene, t + h)[:, :3] - whole[:, :3]) / h
    smooth = np.linalg.norm(moved - whole[:, 4:7], axis=1) < 1e-6
    assert smooth.sum() >= COUNT - 2  # all but those that bounce within h


def test_static_and_adversarial_scenes_stand_still() -> None:
    for motion in ("static", "adversarial"):
        scene = make_scene("clutter", motion, 0.15, 0, 0)
        np.testing.assert_array_equal(positions(scene, 7.0), scene.obstacles)


def test_adversarial_spheres_close_in_at_limited_speed_but_spare_the_goal() -> None:
    scene = make_scene("clutter", "adversarial", 0.15, 0, 5, speed=0.4)
    vehicle, velocity = np.array([0.1, 0.2, 1.0]), np.array([0.4, 0.0, 0.0])
    ahead = vehicle + 0.25 * velocity
    obstacles = scene.obstacles
    for _ in range(20):
        after = advance_adversarial(scene, obstacles, vehicle, velocity, 0.05)
        nearer = np.linalg.norm(after[:, :3] - ahead, axis=1) - np.linalg.norm(obstacles[:, :3] - ahead, axis=1)
        at_goal = np.linalg.norm(after[:, :3] - scene.goal, axis=1) < scene.keep_out + 0.02
        assert np.all((nearer < 0.0) | at_goal)
        np.testing.assert_allclose(after[:, 4:7], (after[:, :3] - obstacles[:, :3]) / 0.05)
        assert np.linalg.norm(after[:, 4:7], axis=1)[~at_goal].max() <= 0.4 + 1e-9
        obstacles = after
    assert np.linalg.norm(obstacles[:, :3] - scene.goal, axis=1).min() >= scene.keep_out - 1e-9


def test_clearance_is_negative_inside_a_sphere() -> None:
    spheres = np.array([[0.0, 0.0, 1.0, 0.2, 0, 0, 0], [1.0, 0.0, 1.0, 0.3, 0, 0, 0]])
    assert clearance(np.array([0.0, 0.0, 1.5]), spheres) == pytest.approx(0.3)
    assert clearance(np.array([0.9, 0.0, 1.0]), spheres) == pytest.approx(-0.2)
    assert clearance(np.zeros(3), np.zeros((0, 7))) == np.inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("maze", "static", 0.2, 0, 0), "unknown scene 'maze'"),
        (("clutter", "jumping", 0.2, 0, 0), "unknown obstacles 'jumping'"),
        (("clutter", "static", 0.0, 0, 0), "radius"),
        (("clutter", "static", float("nan"), 0, 0), "radius"),
        (("clutter", "static", 0.2, -1, 0), "seed"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_scene(*arguments)
