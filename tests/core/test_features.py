"""The network's inputs: hand-made cases, invariances, and compiled = torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deq_mpc_core.config import config_path, parse_config
from deq_mpc_core.features import flight_torch as features_torch
from deq_mpc_core.features.config import FeatureConfig
from deq_mpc_core.features.flight import FlightFeatures, scan_directions

Array = NDArray[np.float64]
SHIPPED = yaml.safe_load(config_path("policy").read_text())["network"]["features"]
RAYS = {"scan_azimuths": 24, "scan_elevations": [-0.9, -0.4, 0.0, 0.4, 0.9], "scan_range": 4.0}
CONFIG = parse_config({**SHIPPED, **RAYS}, FeatureConfig, "test")
FEATURES = FlightFeatures(CONFIG)
FENCE = np.array([[-2.0, -2.0, 0.3], [2.0, 2.0, 1.8]])
WEIGHT = 0.312
NOTHING = np.zeros((0, 7))


def at(pos: tuple[float, float, float], yaw: float = 0.0, vel: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Array:
    x = np.zeros(13)
    x[0:3], x[3:6], x[8], x[12] = pos, vel, yaw, WEIGHT
    return x


def sphere(x: float, y: float, z: float, radius: float = 0.2, vel: tuple[float, float, float] = (0, 0, 0)) -> Array:
    return np.array([x, y, z, radius, *vel], dtype=np.float64)


def distances(scan: Array) -> Array:
    return 1.0 / scan - 1.0


def test_scan_sees_sphere_fence_and_range() -> None:
    obstacles = sphere(1.0, 0.0, 1.0)[None]
    level = 2 * CONFIG.scan_azimuths
    d = distances(FEATURES.observe(at((0, 0, 1)), np.zeros(3), obstacles, FENCE, WEIGHT).scan)
    assert d[level] == pytest.approx(1.0 - 0.2 - CONFIG.scan_margin)
    assert d[level + CONFIG.scan_azimuths // 2] == pytest.approx(2.0)
    up = distances(FEATURES.observe(at((0, 0, 1)), np.zeros(3), NOTHING, FENCE, WEIGHT).scan)[-1]
    assert up == pytest.approx(0.8 / np.sin(CONFIG.scan_elevations[-1]))
    wide = np.array([[-50.0] * 3, [50.0] * 3])
    np.testing.assert_allclose(
        distances(FEATURES.observe(at((0, 0, 1)), np.zeros(3), NOTHING, wide, WEIGHT).scan), CONFIG.scan_range
    )


def test_scan_makes_a_gap_in_a_wall_visible() -> None:
    wall = np.array([sphere(1.0, y, 1.0) for y in np.arange(-1.6, 1.61, 0.2) if abs(y - 0.6) > 0.5])
    d = distances(FEATURES.observe(at((0, 0, 1)), np.zeros(3), wall, FENCE, WEIGHT).scan)
    rays = scan_directions(CONFIG)
    level = np.flatnonzero((rays[:, 2] == 0.0) & (rays[:, 0] > 0.7))
    assert rays[level[np.argmax(d[level])], 1] == pytest.approx(0.5, abs=0.1)


def test_scan_inside_a_margin_is_free_only_outwards() -> None:
    d = distances(FEATURES.observe(at((0.75, 0, 1)), np.zeros(3), sphere(1, 0, 1)[None], FENCE, WEIGHT).scan)
    level = 2 * CONFIG.scan_azimuths
    assert d[level] == 0.0
    assert d[level + CONFIG.scan_azimuths // 2] == pytest.approx(2.75)


def test_ego_of_a_hovering_vehicle_that_faces_left() -> None:
    x = at((1.0, 0.0, 0.8), yaw=np.pi / 2, vel=(0.0, 0.6, 0.0))
    ego = FEATURES.observe(x, np.array([1.0, 1.0, 0.8]), NOTHING, FENCE, WEIGHT).ego
    expected = np.zeros(19)
    expected[0] = 0.6 / CONFIG.speed_scale
    expected[9] = 1.0
    expected[12] = 1.0 / CONFIG.surface_max
    expected[14] = 1.0 / CONFIG.length_scale
    expected[15], expected[16] = 0.5 / CONFIG.length_scale, 1.0 / CONFIG.length_scale
    expected[17] = 1.0
    np.testing.assert_allclose(ego, expected, atol=1e-9)


def test_token_of_a_sphere_ahead() -> None:
    goal, x = np.array([2.0, 0.0, 1.0]), at((0, 0, 1), vel=(0.5, 0, 0))
    token = FEATURES.observe(x, goal, sphere(1.0, 0.4, 1.0, 0.1, (0, 0.2, 0))[None], FENCE, WEIGHT).tokens[0]
    distance = np.hypot(1.0, 0.4)
    np.testing.assert_allclose(token[0:3], np.array([1.0, 0.4, 0.0]) / CONFIG.length_scale)
    np.testing.assert_allclose(token[3:6], np.array([1.0, 0.4, 0.0]) / distance)
    np.testing.assert_allclose(token[6:9], [0, 0.2 / CONFIG.obstacle_speed_scale, 0])
    np.testing.assert_allclose(token[9:12], np.array([-0.5, 0.2, 0]) / CONFIG.speed_scale)
    expected = [0.1 / CONFIG.radius_scale, 1 / (1 + distance - 0.1), 1 / CONFIG.length_scale, 0.4 / CONFIG.length_scale]
    np.testing.assert_allclose(token[12:16], expected)


def test_knots_see_where_moving_spheres_will_be() -> None:
    x = at((0, 0, 1))
    states = np.tile(x, (11, 1))
    obstacles = np.array([sphere(0.0, 1.0, 1.0, 0.1, (0.0, -1.0, 0.0)), sphere(0.7, 0.0, 1.0, 0.1), sphere(-1.5, 0, 1)])
    knots = FEATURES.describe_knots(x, states, obstacles, 0.05)
    np.testing.assert_allclose(knots[0, 11:15], [1, 0, 0, 1 / 1.6], atol=1e-9)
    np.testing.assert_allclose(knots[0, 15:19], [0, 1, 0, 1 / 1.9], atol=1e-9)
    np.testing.assert_allclose(knots[10, 11:15], [0, 1, 0, 1 / 1.4], atol=1e-9)
    alone = FEATURES.describe_knots(x, states, obstacles[:1], 0.05)
    np.testing.assert_allclose(alone[0, 15:19], [0, 0, 0, 1 / (1 + CONFIG.surface_max)])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(0, 45), horizon=st.integers(1, 20))
def test_compiled_equals_torch_and_does_not_see_the_world_frame(seed: int, count: int, horizon: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=13)
    x[0:3] = rng.uniform(FENCE[0], FENCE[1])
    goal = rng.uniform(FENCE[0], FENCE[1])
    obstacles = rng.uniform(-2.0, 2.0, size=(count, 7))
    obstacles[:, 3] = rng.uniform(0.05, 0.5, size=count)
    states = x + 0.3 * rng.normal(size=(horizon, 13))
    ours = FEATURES.observe(x, goal, obstacles, FENCE, WEIGHT)
    knots = FEATURES.describe_knots(x, states, obstacles, 0.05)

    padding = rng.normal(size=(3, 7))
    rows = torch.from_numpy(np.vstack([obstacles, padding]))[None]
    mask = torch.tensor([[True] * count + [False] * 3])
    batch = [torch.from_numpy(a)[None] for a in (x, goal, states)]
    theirs = features_torch.observe(batch[0], batch[1], rows, mask, torch.from_numpy(FENCE), WEIGHT, CONFIG)
    for name in ("ego", "scan", "goal"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name)[0].numpy(), atol=1e-9, err_msg=name)
    np.testing.assert_allclose(ours.tokens, theirs.tokens[0, :count].numpy(), atol=1e-9)
    reference = features_torch.describe_knots(batch[0], batch[2], rows, mask, 0.05, CONFIG)
    np.testing.assert_allclose(knots, reference[0].numpy(), atol=1e-9)

    turned = features_torch.describe_knots(*(_turn(b, 0.7) for b in (batch[0], batch[2], rows)), mask, 0.05, CONFIG)
    np.testing.assert_allclose(turned[0].numpy(), knots, atol=1e-9)


def _turn(rows: torch.Tensor, angle: float) -> torch.Tensor:
    """States (..., 13) or obstacles (..., 7) after the world has been turned about z."""
    result = rows.clone()
    back = torch.tensor(-angle, dtype=torch.float64)
    vel = slice(3, 6) if rows.shape[-1] == 13 else slice(4, 7)
    for part in (slice(0, 3), vel):
        result[..., part] = features_torch.rotate_to_yaw_frame(rows[..., part], back)
    if rows.shape[-1] == 13:
        result[..., 8] += angle
    return result


def test_gradients_flow_to_the_iterate() -> None:
    torch.manual_seed(0)
    x = torch.from_numpy(at((0, 0, 1), yaw=0.4))[None]
    states = (x[:, None] + 0.1 * torch.randn(1, 4, 13, dtype=torch.float64)).requires_grad_()
    obstacles = torch.from_numpy(np.array([sphere(1, 0.3, 1), sphere(-1, 0, 1.2), sphere(0, 1.2, 0.9)]))[None]
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert torch.autograd.gradcheck(
        lambda s: features_torch.describe_knots(x, s, obstacles, mask, 0.05, CONFIG), (states,)
    )


def test_batch_of_fences_is_per_sample() -> None:
    x = torch.from_numpy(np.array([at((0, 0, 1)), at((0.5, 0, 1))]))
    goal, rows, mask = torch.ones(2, 3).double(), torch.zeros(2, 0, 7).double(), torch.zeros(2, 0, dtype=torch.bool)
    fences = torch.from_numpy(np.array([FENCE, 2.0 * FENCE]))
    both = features_torch.observe(x, goal, rows, mask, fences, WEIGHT, CONFIG)
    for i in range(2):
        alone = FEATURES.observe(x[i].numpy(), goal[i].numpy(), NOTHING, fences[i].numpy(), WEIGHT)
        np.testing.assert_allclose(both.scan[i].numpy(), alone.scan, atol=1e-9)
        np.testing.assert_allclose(both.ego[i].numpy(), alone.ego, atol=1e-9)
