"""The network's inputs for one observation, compiled; ``flight_torch.py`` is the batched twin.

Everything is relative to the vehicle and turned into its yaw frame (x ahead, y left, z up), so that one network flies
any scene. Below, p, v: position and velocity; g: goal; near(d) = 1 / (1 + clip(d, surface_min, surface_max)); capital
letters are the scales of ``FeatureConfig``.

    ego    (19,)     v / V, roll / A, pitch / A, rpy rates / W, thrust / weight - 1, g / max(|g|, G), min(|g|, S) / S,
                     arena centre (2) / L, height over the floor / L, room to the ceiling / L, sin yaw, cos yaw
    token  (K, 16)   of sphere o: o / L, o / |o|, v_o / V_o, (v_o - v) / V, radius / R, near(|o| - radius),
                     o along g / L, |o across g| / L
    scan   (rays,)   1 / (1 + d), d <= scan_range: free distance along the ray to the inflated spheres and the fence
    knot   (T, 19)   (p_t - p) / L, v_t / V, (v_t - v) / V, roll_t / A, pitch_t / A, then for the two spheres nearest to
                     the knot at its time (constant velocity) their direction and near(surface distance);
                     0 and near(inf) if there is none
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deq_mpc_core.features.config import FeatureConfig
from deq_mpc_core.features.dimensions import EGO_SIZE, KNOT_SIZE, NEAREST, TOKEN_SIZE

Array = NDArray[np.float64]

_jit = njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})
_TINY = 1e-12
_ROUNDING = 1e-9
"""Larger than any rounding error of a distance [m]."""


class Scales(NamedTuple):
    """The scalars of ``FeatureConfig``."""

    length: float
    speed: float
    tilt: float
    rate: float
    obstacle_speed: float
    radius: float
    goal_near: float
    surface_min: float
    surface_max: float
    scan_margin: float
    scan_range: float
    scan_azimuths: int


class ObservedFeatures(NamedTuple):
    """Features of one observation, yaw frame: ego (19,), scan (rays,), tokens (K, 16), relative goal (3,) [m]."""

    ego: Array
    scan: Array
    tokens: Array
    goal: Array


def scan_directions(config: FeatureConfig) -> Array:
    """(rays, 3) unit vectors of the range scan, yaw frame: for each elevation around from straight ahead."""
    azimuth = 2.0 * np.pi * np.arange(config.scan_azimuths) / config.scan_azimuths
    elevation = np.repeat(np.asarray(config.scan_elevations), config.scan_azimuths)
    azimuth = np.tile(azimuth, len(config.scan_elevations))
    horizontal = np.cos(elevation)
    return np.stack([horizontal * np.cos(azimuth), horizontal * np.sin(azimuth), np.sin(elevation)], axis=1)


def scan_rays(config: FeatureConfig) -> Array:
    """(3, rays): `scan_directions` as the kernels take them, so that their inner loop runs over rays."""
    return np.ascontiguousarray(scan_directions(config).T)


def scales(config: FeatureConfig) -> Scales:
    """The scalars of a configuration."""
    return Scales(
        length=config.length_scale,
        speed=config.speed_scale,
        tilt=config.tilt_scale,
        rate=config.rate_scale,
        obstacle_speed=config.obstacle_speed_scale,
        radius=config.radius_scale,
        goal_near=config.goal_near,
        surface_min=config.surface_min,
        surface_max=config.surface_max,
        scan_margin=config.scan_margin,
        scan_range=config.scan_range,
        scan_azimuths=config.scan_azimuths,
    )


@_jit
def _rotate(vector: Array, c: float, s: float, out: Array) -> None:
    """World to yaw frame; c, s: cosine and sine of the yaw."""
    out[0] = c * vector[0] + s * vector[1]
    out[1] = c * vector[1] - s * vector[0]
    out[2] = vector[2]


@_jit
def _norm(vector: Array) -> float:
    return math.sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2] + _TINY)


@_jit
def _nearness(distance: float, scales: Scales) -> float:
    return 1.0 / (1.0 + min(max(distance, scales.surface_min), scales.surface_max))


@_jit
def _describe_ego(x: Array, goal: Array, fence: Array, weight: float, scales: Scales) -> Array:
    """(EGO_SIZE,); ``goal`` is relative and in the yaw frame."""
    c, s = math.cos(x[8]), math.sin(x[8])
    distance = _norm(goal)
    ego = np.empty(EGO_SIZE)
    _rotate(x[3:6], c, s, ego[0:3])
    for i in range(3):
        ego[i] /= scales.speed
        ego[5 + i] = x[9 + i] / scales.rate
        ego[9 + i] = goal[i] / max(distance, scales.goal_near)
    ego[3], ego[4] = x[6] / scales.tilt, x[7] / scales.tilt
    ego[8] = x[12] / weight - 1.0
    ego[12] = min(distance, scales.surface_max) / scales.surface_max
    dx, dy = 0.5 * (fence[0, 0] + fence[1, 0]) - x[0], 0.5 * (fence[0, 1] + fence[1, 1]) - x[1]
    ego[13], ego[14] = (c * dx + s * dy) / scales.length, (c * dy - s * dx) / scales.length
    ego[15], ego[16] = (x[2] - fence[0, 2]) / scales.length, (fence[1, 2] - x[2]) / scales.length
    ego[17], ego[18] = s, c
    return ego


@_jit
def _describe_obstacles(x: Array, relative: Array, obstacles: Array, goal: Array, scales: Scales) -> Array:
    """(K, TOKEN_SIZE) from relative positions (K, 3) and goal (3,) in the yaw frame."""
    c, s = math.cos(x[8]), math.sin(x[8])
    own, other, toward, across = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    _rotate(x[3:6], c, s, own)
    toward[:] = goal / _norm(goal)
    tokens = np.empty((len(obstacles), TOKEN_SIZE))
    for k in range(len(obstacles)):
        token, offset = tokens[k], relative[k]
        distance, radius = _norm(offset), obstacles[k, 3]
        _rotate(obstacles[k, 4:7], c, s, other)
        along = offset[0] * toward[0] + offset[1] * toward[1] + offset[2] * toward[2]
        for i in range(3):
            across[i] = offset[i] - along * toward[i]
            token[i] = offset[i] / scales.length
            token[3 + i] = offset[i] / distance
            token[6 + i] = other[i] / scales.obstacle_speed
            token[9 + i] = (other[i] - own[i]) / scales.speed
        token[12] = radius / scales.radius
        token[13] = _nearness(distance - radius, scales)
        token[14] = along / scales.length
        token[15] = _norm(across) / scales.length
    return tokens


@_jit
def _scan_fence(x: Array, rays: Array, fence: Array, free: Array) -> None:
    """Shorten the free distances (rays,) to the fence; rays: (3, rays), yaw frame."""
    c, s = math.cos(x[8]), math.sin(x[8])
    for axis in range(3):
        ahead = c if axis == 0 else s if axis == 1 else 0.0
        left = -s if axis == 0 else c if axis == 1 else 0.0
        up = 1.0 if axis == 2 else 0.0
        above, below = max(fence[1, axis] - x[axis], 0.0), max(x[axis] - fence[0, axis], 0.0)
        for i in range(len(free)):
            slope = ahead * rays[0, i] + left * rays[1, i] + up * rays[2, i]
            room = above if slope > 0.0 else below
            free[i] = min(free[i], room / max(abs(slope), _TINY))


@_jit
def _scan_sphere(centre: Array, gap: float, rays: Array, free: Array) -> None:
    """Shorten the free distances (rays,) to a sphere; gap: |centre|^2 - radius^2."""
    for i in range(len(free)):
        along = centre[0] * rays[0, i] + centre[1] * rays[1, i] + centre[2] * rays[2, i]
        discriminant = along * along - gap
        entry = max(along - math.sqrt(max(discriminant, 0.0)), 0.0)
        free[i] = min(free[i], entry) if (along > 0.0) & (discriminant > 0.0) else free[i]


@_jit
def _scan(x: Array, relative: Array, obstacles: Array, fence: Array, rays: Array, scales: Scales) -> Array:
    """(rays,) nearness along each ray; rays: (3, rays) so that the inner loop runs over rays.

    The rays of one elevation, which begin straight ahead, are passed over where none of them can meet the sphere.
    """
    free = np.full(rays.shape[1], scales.scan_range)
    _scan_fence(x, rays, fence, free)
    for k in range(len(obstacles)):
        centre, inflated = relative[k], obstacles[k, 3] + scales.scan_margin
        level = math.hypot(centre[0], centre[1])
        gap = level * level + centre[2] * centre[2] - inflated * inflated
        if gap > scales.scan_range * (scales.scan_range + 2.0 * inflated):
            continue
        for first in range(0, len(free), scales.scan_azimuths):
            furthest = rays[0, first] * level + rays[2, first] * centre[2] + _ROUNDING
            if not (furthest < 0.0 or furthest * furthest < gap):
                ring = slice(first, first + scales.scan_azimuths)
                _scan_sphere(centre, gap, rays[:, ring], free[ring])
    return 1.0 / (1.0 + free)


@_jit
def observe(
    x: Array, goal: Array, obstacles: Array, fence: Array, weight: float, rays: Array, scales: Scales
) -> tuple[Array, Array, Array, Array]:
    """See `FlightFeatures.observe`."""
    c, s = math.cos(x[8]), math.sin(x[8])
    relative, goal_yaw = np.empty((len(obstacles), 3)), np.empty(3)
    _rotate(goal - x[0:3], c, s, goal_yaw)
    for k in range(len(obstacles)):
        _rotate(obstacles[k, 0:3] - x[0:3], c, s, relative[k])
    ego = _describe_ego(x, goal_yaw, fence, weight, scales)
    scan = _scan(x, relative, obstacles, fence, rays, scales)
    return ego, scan, _describe_obstacles(x, relative, obstacles, goal_yaw, scales), goal_yaw


@_jit
def _nearest_two(gaps: Array) -> tuple[int, int]:
    """Indices of the two smallest of gaps (K,); -1 where there is none."""
    first, second = -1, -1
    for k in range(len(gaps)):
        if first < 0 or gaps[k] < gaps[first]:
            first, second = k, first
        elif second < 0 or gaps[k] < gaps[second]:
            second = k
    return first, second


@_jit
def describe_knots(x: Array, states: Array, obstacles: Array, dt: float, scales: Scales) -> Array:
    """See `FlightFeatures.describe_knots`."""
    c, s = math.cos(x[8]), math.sin(x[8])
    knots = np.zeros((len(states), KNOT_SIZE))
    own, gaps = np.empty(3), np.empty(len(obstacles))
    columns = np.ascontiguousarray(obstacles.T)
    _rotate(x[3:6], c, s, own)
    for t in range(len(states)):
        knot, state = knots[t], states[t]
        _rotate(state[0:3] - x[0:3], c, s, knot[0:3])
        _rotate(state[3:6], c, s, knot[3:6])
        for i in range(3):
            knot[6 + i] = (knot[3 + i] - own[i]) / scales.speed
            knot[3 + i] /= scales.speed
            knot[i] /= scales.length
        knot[9], knot[10] = state[6] / scales.tilt, state[7] / scales.tilt
        for k in range(len(gaps)):
            dx = columns[0, k] + t * dt * columns[4, k] - state[0]
            dy = columns[1, k] + t * dt * columns[5, k] - state[1]
            dz = columns[2, k] + t * dt * columns[6, k] - state[2]
            gaps[k] = math.sqrt(dx * dx + dy * dy + dz * dz + _TINY) - columns[3, k]
        first, second = _nearest_two(gaps)
        for n in range(NEAREST):
            k = first if n == 0 else second
            place = knot[11 + 4 * n : 15 + 4 * n]
            place[3] = _nearness(gaps[k] if k >= 0 else np.inf, scales)
            if k >= 0:
                offset = obstacles[k, 0:3] + t * dt * obstacles[k, 4:7] - state[0:3]
                _rotate(offset / _norm(offset), c, s, place[0:3])
    return knots


def _own(array: Array) -> Array:
    """A writable, C-contiguous float64 copy: any other kind of array would be compiled for anew, in flight."""
    return np.array(array, dtype=np.float64, order="C")


class FlightFeatures:
    """The features of one configuration: a thin shell around the compiled functions."""

    def __init__(self, config: FeatureConfig) -> None:
        self._rays, self._scales = scan_rays(config), scales(config)

    def observe(self, x: Array, goal: Array, obstacles: Array, fence: Array, weight: float) -> ObservedFeatures:
        """Features of an observation, world frame, SI.

        Args:
            x: (13,) vehicle state.
            goal: (3,).
            obstacles: (K, 7) x y z radius vx vy vz; K may be 0.
            fence: (2, 3) lower and upper corner of the arena.
            weight: thrust that carries the vehicle [N].
        """
        arrays = (_own(x), _own(goal), _own(obstacles), _own(fence))
        return ObservedFeatures(*observe(*arrays, float(weight), self._rays, self._scales))

    def describe_knots(self, x: Array, states: Array, obstacles: Array, dt: float) -> Array:
        """(T, KNOT_SIZE) features of the iterate's ``states`` (T, 13), ``dt`` [s] apart, knot 0 now; x: (13,)."""
        return describe_knots(_own(x), _own(states), _own(obstacles), float(dt), self._scales)
