"""Spherical obstacles: how they move, and how near they are.

An obstacle array is (K, 7): x y z radius vx vy vz, world frame, SI. Moving spheres fly straight and bounce without
loss off the arena's borders (by their centres) and off a ball around the goal, so that none ever sits on the goal; they
pass through each other. Adversarial spheres pursue the vehicle.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

PURSUIT_LEAD = 0.25  # s: 5 steps of 0.05 s, the look-ahead of the paper's QPoleDynObs
_MAX_BOUNCES = 10_000  # never reached at sane speeds; bounds the loop


class Room(NamedTuple):
    """Where obstacle centres may be: a box without a ball.

    Attributes:
        low, high: (3,) corners of the box [m].
        centre: (3,) centre of the forbidden ball [m].
        keep_out: its radius [m].
    """

    low: Array
    high: Array
    centre: Array
    keep_out: float


@njit(cache=True)
def _next_wall(p: Array, v: Array, low: Array, high: Array) -> tuple[float, int]:
    """Time to the next wall of the box [s] and its axis; infinity for a sphere at rest."""
    soonest, axis = np.inf, -1
    for i in range(3):
        if v[i] > 0.0:
            time = (high[i] - p[i]) / v[i]
        elif v[i] < 0.0:
            time = (low[i] - p[i]) / v[i]
        else:
            continue
        if time < soonest:
            soonest, axis = time, i
    return max(soonest, 0.0), axis


@njit(cache=True)
def _time_to_ball(p: Array, v: Array, centre: Array, radius: float) -> float:
    """Smallest s >= 0 with |p + v s - centre| = radius on the way in [s]; infinity if the ray misses the ball."""
    d = p - centre
    approach = d[0] * v[0] + d[1] * v[1] + d[2] * v[2]
    speed2 = v[0] * v[0] + v[1] * v[1] + v[2] * v[2]
    if approach >= 0.0 or speed2 == 0.0:
        return np.inf
    outside2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2] - radius * radius
    discriminant = approach * approach - speed2 * outside2
    if discriminant <= 0.0:
        return np.inf
    return max((-approach - np.sqrt(discriminant)) / speed2, 0.0)


@njit(cache=True)
def _fly(obstacles: Array, t: float, low: Array, high: Array, centre: Array, keep_out: float) -> Array:
    result = obstacles.copy()
    for k in range(result.shape[0]):
        p, v = result[k, 0:3], result[k, 4:7]
        left = t
        for _ in range(_MAX_BOUNCES):
            wall, axis = _next_wall(p, v, low, high)
            ball = _time_to_ball(p, v, centre, keep_out)
            flight = min(wall, ball, left)
            p += v * flight
            left -= flight
            if left <= 0.0:
                break
            if ball < wall:
                normal = (p - centre) / keep_out
                v -= 2.0 * (v[0] * normal[0] + v[1] * normal[1] + v[2] * normal[2]) * normal
            else:
                v[axis] = -v[axis]
    return result


def fly(obstacles: Array, t: float, room: Room) -> Array:
    """Bouncing straight flight: the (K, 7) obstacles ``t`` >= 0 seconds later, in closed form between bounces."""
    return np.asarray(_fly(np.ascontiguousarray(obstacles), float(t), room.low, room.high, room.centre, room.keep_out))


def pursue(obstacles: Array, position: Array, velocity: Array, dt: float, speed: float, room: Room) -> Array:
    """One step of adversarial motion: every sphere heads for where the vehicle will be ``PURSUIT_LEAD`` from now.

    Args:
        obstacles: (K, 7) now.
        position, velocity: (3,) of the vehicle [m, m/s].
        dt: step [s].
        speed: limit [m/s].
        room: centres are kept inside it.

    Returns:
        (K, 7) obstacles ``dt`` later, with the velocities they moved at.
    """
    before = obstacles[:, :3]
    away = position + PURSUIT_LEAD * velocity - before
    distance = np.linalg.norm(away, axis=1, keepdims=True)
    after = before + away * np.minimum(speed * dt / np.maximum(distance, 1e-9), 1.0)
    after = np.clip(push_out(after, room.centre, room.keep_out), room.low, room.high)
    return np.hstack([after, obstacles[:, 3:4], (after - before) / dt])


def push_out(points: Array, centre: Array, radius: float) -> Array:
    """Points (K, 3) with those inside the ball moved to its surface along their own radius."""
    offset = points - centre
    distance = np.linalg.norm(offset, axis=1, keepdims=True)
    return np.where(distance < radius, centre + offset * (radius / np.maximum(distance, 1e-9)), points)


def clearance(position: Array, obstacles: Array) -> float:
    """Distance from the vehicle's centre to the nearest sphere's surface [m]; infinity without obstacles.

    Negative inside a sphere: that is a collision.

    Args:
        position: (3,) of the vehicle.
        obstacles: (K, >= 4), the first columns x y z radius.
    """
    if len(obstacles) == 0:
        return float("inf")
    return float(np.min(np.linalg.norm(obstacles[:, :3] - position, axis=1) - obstacles[:, 3]))
