"""The network's inputs, batched and differentiable: the twin of ``flight.py``, which states the formulas.

Training needs `describe_knots`, whose gradient it takes; `observe` is the reference that the compiled features and the
networks are tested against.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from deq_mpc_core.features.config import FeatureConfig
from deq_mpc_core.features.dimensions import NEAREST
from deq_mpc_core.features.flight import scan_directions
from deq_mpc_core.obstacles import centres_at

_TINY = 1e-12


class ObservationFeatures(NamedTuple):
    """What is seen once per control step, yaw frame, normalised.

    Attributes:
        ego: (B, EGO_SIZE).
        scan: (B, rays).
        tokens: (B, K, TOKEN_SIZE) one per obstacle; K may be 0.
        mask: (B, K) True where there is an obstacle, False for padding.
        goal: (B, 3) relative position [m], not normalised.
    """

    ego: Tensor
    scan: Tensor
    tokens: Tensor
    mask: Tensor
    goal: Tensor


def rotate_to_yaw_frame(vector: Tensor, yaw: Tensor) -> Tensor:
    """World to yaw frame: Rz(-yaw) v, for vector (..., 3) and yaw (...)."""
    c, s = torch.cos(yaw), torch.sin(yaw)
    x, y, z = vector.unbind(-1)
    ahead, left, up = torch.broadcast_tensors(c * x + s * y, c * y - s * x, z)
    return torch.stack([ahead, left, up], dim=-1)


def _norm(vector: Tensor) -> Tensor:
    """|v| along the last axis, kept, with a finite gradient at 0."""
    return (vector.square().sum(-1, keepdim=True) + _TINY).sqrt()


def _nearness(distance: Tensor, config: FeatureConfig) -> Tensor:
    return 1.0 / (1.0 + distance.clamp(config.surface_min, config.surface_max))


def _ego(x: Tensor, goal: Tensor, fence: Tensor, weight: float, config: FeatureConfig) -> Tensor:
    """(B, EGO_SIZE); ``goal`` is relative and in the yaw frame."""
    pos, vel, rpy, rpy_rate, thrust = x.split([3, 3, 3, 3, 1], dim=-1)
    yaw = rpy[:, 2]
    distance = _norm(goal)
    lower, upper = fence.expand(len(x), 2, 3).unbind(1)
    centre = rotate_to_yaw_frame(0.5 * (lower + upper) - pos, yaw)
    parts = [
        rotate_to_yaw_frame(vel, yaw) / config.speed_scale,
        rpy[:, :2] / config.tilt_scale,
        rpy_rate / config.rate_scale,
        thrust / weight - 1.0,
        goal / distance.clamp_min(config.goal_near),
        distance.clamp_max(config.surface_max) / config.surface_max,
        centre[:, :2] / config.length_scale,
        (pos[:, 2:] - lower[:, 2:]) / config.length_scale,
        (upper[:, 2:] - pos[:, 2:]) / config.length_scale,
        torch.sin(yaw)[:, None],
        torch.cos(yaw)[:, None],
    ]
    return torch.cat(parts, dim=-1)


def _tokens(relative: Tensor, vel: Tensor, own_vel: Tensor, radius: Tensor, goal: Tensor, c: FeatureConfig) -> Tensor:
    """(B, K, TOKEN_SIZE) from relative positions and velocities (B, K, 3), yaw frame; radius (B, K, 1)."""
    distance = _norm(relative)
    goal_direction = (goal / _norm(goal))[:, None]
    along = (relative * goal_direction).sum(-1, keepdim=True)
    lateral = _norm(relative - along * goal_direction)
    parts = [
        relative / c.length_scale,
        relative / distance,
        vel / c.obstacle_speed_scale,
        (vel - own_vel[:, None]) / c.speed_scale,
        radius / c.radius_scale,
        _nearness(distance - radius, c),
        along / c.length_scale,
        lateral / c.length_scale,
    ]
    return torch.cat(parts, dim=-1)


def _scan(x: Tensor, relative: Tensor, radius: Tensor, mask: Tensor, fence: Tensor, config: FeatureConfig) -> Tensor:
    """(B, rays) from sphere centres (B, K, 3) in the yaw frame and radii (B, K)."""
    pos, yaw = x[:, 0:3], x[:, 8]
    directions = torch.as_tensor(scan_directions(config), dtype=relative.dtype, device=relative.device)
    along = relative @ directions.T
    gap = relative.square().sum(-1) - (radius + config.scan_margin).square()
    discriminant = along.square() - gap[..., None]
    hit = (along > 0) & (discriminant > 0) & mask[..., None]
    entry = (along - discriminant.clamp_min(0).sqrt()).clamp_min(0)
    free = torch.where(hit, entry, config.scan_range)
    nearest = torch.cat([free, free.new_full((len(pos), 1, len(directions)), config.scan_range)], dim=1).amin(dim=1)

    world = rotate_to_yaw_frame(directions, -yaw[:, None])
    lower, upper = fence.expand(len(pos), 2, 3).unbind(1)
    room = torch.where(world > 0, (upper - pos)[:, None], (pos - lower)[:, None]).clamp_min(0)
    walls = (room / world.abs().clamp_min(_TINY)).amin(dim=-1)
    return 1.0 / (1.0 + torch.minimum(nearest, walls))


def observe(
    x: Tensor, goal: Tensor, obstacles: Tensor, mask: Tensor, fence: Tensor, weight: float, config: FeatureConfig
) -> ObservationFeatures:
    """Features of a batch of observations, world frame, SI.

    Args:
        x: (B, 13) vehicle states.
        goal: (B, 3).
        obstacles: (B, K, 7) x y z radius vx vy vz; K may be 0; rows where mask is False may hold anything finite.
        mask: (B, K) bool.
        fence: (2, 3) or (B, 2, 3) lower and upper corner of the arena.
        weight: thrust that carries the vehicle [N].
        config: scales.
    """
    pos, yaw = x[:, 0:3], x[:, 8]
    goal_yaw = rotate_to_yaw_frame(goal - pos, yaw)
    relative = rotate_to_yaw_frame(obstacles[..., 0:3] - pos[:, None], yaw[:, None])
    vel = rotate_to_yaw_frame(obstacles[..., 4:7], yaw[:, None])
    own_vel = rotate_to_yaw_frame(x[:, 3:6], yaw)
    radius = obstacles[..., 3]
    tokens = _tokens(relative, vel, own_vel, radius[..., None], goal_yaw, config)
    scan = _scan(x, relative, radius, mask, fence, config)
    return ObservationFeatures(_ego(x, goal_yaw, fence, weight, config), scan, tokens, mask, goal_yaw)


def describe_knots(
    x: Tensor, states: Tensor, obstacles: Tensor, mask: Tensor, dt: float, config: FeatureConfig
) -> Tensor:
    """(B, T, KNOT_SIZE) features of an iterate; gradients flow to ``states``.

    Args:
        x: (B, 13) current states.
        states: (B, T, 13) the iterate's states, knot 0 is now.
        obstacles: (B, K, 7), predicted with constant velocity.
        mask: (B, K) bool.
        dt: time between knots [s].
        config: scales.
    """
    batch, horizon = states.shape[:2]
    yaw = x[:, 8, None]
    own_vel = rotate_to_yaw_frame(states[..., 3:6], yaw)
    time = dt * torch.arange(horizon, dtype=states.dtype, device=states.device)
    centres = centres_at(obstacles, time)
    offset = centres - states[:, :, None, 0:3]
    surface = _norm(offset)[..., 0] - obstacles[:, None, :, 3]
    surface = torch.where(mask[:, None], surface, torch.inf)

    missing = surface.new_full((batch, horizon, NEAREST), torch.inf)
    nearest = torch.cat([surface, missing], dim=-1).topk(NEAREST, dim=-1, largest=False)
    padded = torch.cat([offset, offset.new_zeros(batch, horizon, NEAREST, 3)], dim=2)
    chosen = padded.gather(2, nearest.indices[..., None].expand(-1, -1, -1, 3))
    present = torch.isfinite(nearest.values)[..., None]
    direction = rotate_to_yaw_frame(chosen / _norm(chosen), yaw[..., None]) * present
    near = _nearness(nearest.values, config)[..., None]
    parts = [
        rotate_to_yaw_frame(states[..., 0:3] - x[:, None, 0:3], yaw) / config.length_scale,
        own_vel / config.speed_scale,
        (own_vel - rotate_to_yaw_frame(x[:, None, 3:6], yaw)) / config.speed_scale,
        states[..., 6:8] / config.tilt_scale,
        torch.cat([direction, near], dim=-1).flatten(-2),
    ]
    return torch.cat(parts, dim=-1)
