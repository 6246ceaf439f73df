"""Structures of equal spheres that close a surface: the gate's wall and the pocket's bowl.

Both work by coverage: a surface is closed when every point of it lies inside a sphere, so that a vehicle's centre
cannot cross it.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np

from deq_mpc_core.errors import UserError
from deq_mpc_sim.obstacles import Array

GAP_RADIUS = 0.40  # m: free ball in the middle of a gate's gap
GAP_OFFSET = 0.80  # m: smallest sideways distance of the gap from the straight line
BOWL_RADIUS = 0.65  # m: of the surface on which a pocket's spheres are centred
BOWL_HALF_ANGLE = np.deg2rad(100.0)  # of the bowl, measured from its bottom: a little more than half a sphere

_RIM = np.deg2rad(12.0)  # the bowl's ragged edge, which need not be closed
_COVERAGE = 0.97  # share of the radius that coverage may use: neighbours overlap instead of touching
_GAP_SIDEWAYS, _GAP_HEIGHTS = 1.5, (0.80, 1.30)  # m: where the gap's centre may be
_WALL_SHIFT = 0.25  # m: largest distance of a gate's wall from the middle of the arena


class Row(NamedTuple):
    """A horizontal row of a wall: height [m], half of the height it covers [m], whether the gap interrupts it."""

    z: float
    half_height: float
    open: bool


def build_gate(
    rng: np.random.Generator, start: Array, goal: Array, count: int, low: Array, high: Array, fence: float
) -> tuple[Array, Array]:
    """A wall across the arena, up to ``fence`` [m] beyond its borders and down to the floor, with one gap.

    Returns:
        (count, 7) spheres at rest and the gap's centre (3,); a ball of GAP_RADIUS there is free.
    """
    axis = int(np.argmax(np.abs(goal - start)[:2]))
    side = 1 - axis
    place = rng.uniform(-_WALL_SHIFT, _WALL_SHIFT)
    crossing = start + (goal - start) * (place - start[axis]) / (goal[axis] - start[axis])
    while True:
        gap = rng.uniform(-_GAP_SIDEWAYS, _GAP_SIDEWAYS)
        if abs(gap - crossing[side]) >= GAP_OFFSET:
            break
    height = rng.uniform(*_GAP_HEIGHTS)
    layout, radius = _cover_wall(gap, height, float(high[side]) + fence, float(high[2]) + fence, count)
    spheres = np.zeros((count, 7))
    spheres[:, axis], spheres[:, side], spheres[:, 2], spheres[:, 3] = place, layout[:, 0], layout[:, 1], radius
    passage = np.empty(3)
    passage[axis], passage[side], passage[2] = place, gap, height
    return spheres, passage


def _cover_wall(gap: float, height: float, half_width: float, top: float, count: int) -> tuple[Array, float]:
    """Centres (count, 2) in the wall's plane and the smallest radius [m] (to 5 mm) that closes it around the gap."""
    for radius in np.linspace(0.30, 0.60, 61):
        layouts = [
            _fill_rows(rows, radius, gap, half_width)
            for rows in _stack_rows(radius, height, top)
            if all(row.half_height < _COVERAGE * radius for row in rows)
        ]
        fitting = [layout for layout in layouts if len(layout) <= count]
        if fitting:
            best = max(fitting, key=len)
            between = 0.5 * (best[1:] + best[:-1])[::-1][: count - len(best)]  # spare ones thicken the topmost row
            return np.vstack([best, between]), float(radius)
    raise UserError(f"{count} spheres cannot close a gate's wall; use more spheres")


def _stack_rows(radius: float, height: float, top: float) -> list[list[Row]]:
    """Candidate stacks of rows from the floor to ``top`` with the gap's centre at ``height`` [m].

    The rows next to the gap are centred GAP_RADIUS + radius below and above it; those between are interrupted by it.
    """
    reach = GAP_RADIUS + radius
    below, above = height - reach, height + reach
    stacks = []
    for inner, extra_below, extra_above in product((1, 2, 3, 4), (0, 1), (0, 1)):
        half = reach / (inner + 1)
        rows = [Row(below + 2.0 * half * (i + 1), half, True) for i in range(inner)]
        lower, upper = max(below, 0.0) / (1 + 2 * extra_below), max(top - above, 0.0) / (1 + 2 * extra_above)
        rows += [
            Row(below - 2.0 * lower * i, max(lower, half if i == 0 else 0.0), False) for i in range(1 + extra_below)
        ]
        rows += [
            Row(above + 2.0 * upper * i, max(upper, half if i == 0 else 0.0), False) for i in range(1 + extra_above)
        ]
        stacks.append(rows)
    return stacks


def _fill_rows(rows: list[Row], radius: float, gap: float, half_width: float) -> Array:
    """Centres (n, 2) of spheres that cover every row from -half_width to half_width except for the gap."""
    reach = GAP_RADIUS + radius
    centres: list[tuple[float, float]] = []
    for row in rows:
        half_spacing = float(np.sqrt((_COVERAGE * radius) ** 2 - row.half_height**2))
        if row.open:
            right = _cover_from(gap + reach, half_width, half_spacing)
            left = -_cover_from(-gap + reach, half_width, half_spacing)
            places = np.concatenate([left, right])
        else:
            number = int(np.ceil(half_width / half_spacing))
            places = half_width * (2.0 * np.arange(number) + 1.0 - number) / number
        centres.extend((float(place), row.z) for place in places)
    return np.array(centres)


def _cover_from(first: float, end: float, half_spacing: float) -> Array:
    """Places along a line: one at ``first``, the others so that everything up to ``end`` is covered."""
    last = end - half_spacing
    if last <= first:
        return np.array([first])
    return np.linspace(first, last, 1 + int(np.ceil((last - first) / (2.0 * half_spacing))))


def build_pocket(rng: np.random.Generator, start: Array, goal: Array, count: int) -> Array:
    """A bowl (count, 7) around the middle of the way, opened towards the start."""
    way = goal - start
    bottom = way / np.linalg.norm(way)
    centre = start + way * rng.uniform(0.42, 0.55) + rng.uniform(-0.1, 0.1, 3)
    template, radius = _bowl(count)
    roll = rng.uniform(0.0, 2.0 * np.pi)
    across = np.cross(bottom, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across)
    upward = np.cross(across, bottom)
    e1, e2 = np.cos(roll) * across + np.sin(roll) * upward, -np.sin(roll) * across + np.cos(roll) * upward
    spheres = np.zeros((count, 7))
    spheres[:, :3] = centre + template @ np.stack([e1, e2, bottom])
    spheres[:, 3] = radius
    return spheres


@lru_cache(maxsize=4)
def _bowl(count: int) -> tuple[Array, float]:
    """Centres (count, 3) of a bowl around the origin, its bottom at +z, and the radius that closes it [m]."""
    centres, probes = _spiral(count), _spiral(100 * count)
    inside_rim = probes[probes[:, 2] > BOWL_RADIUS * np.cos(BOWL_HALF_ANGLE - _RIM)]
    distance = np.linalg.norm(inside_rim[:, None, :] - centres[None, :, :], axis=2).min(axis=1)
    return centres, float(distance.max() / _COVERAGE)


def _spiral(count: int) -> Array:
    """``count`` points (count, 3), evenly spread over the bowl's surface on a golden-angle spiral."""
    i = np.arange(count) + 0.5
    z = 1.0 - (1.0 - np.cos(BOWL_HALF_ANGLE)) * i / count
    angle = np.pi * (3.0 - np.sqrt(5.0)) * i
    ring = np.sqrt(1.0 - z**2)
    return BOWL_RADIUS * np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)
