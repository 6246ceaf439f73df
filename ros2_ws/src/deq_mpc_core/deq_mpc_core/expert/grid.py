"""Shortest paths around spheres on a grid: which way round, before the solver says how."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Cell = tuple[int, int, int]

_BLOCKED_WEIGHT = 100.0
"""Cost factor of a cell inside a sphere: a start that is too close still finds its way out."""


@dataclass(frozen=True)
class Grid:
    """Box [low, high] (3,) [m] with cells of the given spacing [m]."""

    low: Array
    high: Array
    spacing: float

    @property
    def shape(self) -> Cell:
        """Number of cells along each axis."""
        cells = np.floor((self.high - self.low) / self.spacing + 1e-9).astype(int) + 1
        return int(cells[0]), int(cells[1]), int(cells[2])


@njit(cache=True)
def _cell_costs(
    low: Array,
    spacing: float,
    shape: Cell,
    centres: Array,
    radii: Array,
    margin: float,
    comfort: float,
    comfort_weight: float,
) -> Array:
    """Cost factor of each cell: 1 in the open, 1 + comfort_weight at a surface, _BLOCKED_WEIGHT inside the margin."""
    cost = np.ones(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            for k in range(shape[2]):
                x, y, z = low[0] + i * spacing, low[1] + j * spacing, low[2] + k * spacing
                surface = np.inf
                for s in range(radii.shape[0]):
                    d = (
                        math.sqrt((x - centres[s, 0]) ** 2 + (y - centres[s, 1]) ** 2 + (z - centres[s, 2]) ** 2)
                        - radii[s]
                    )
                    surface = min(surface, d)
                if surface < margin:
                    cost[i, j, k] = _BLOCKED_WEIGHT
                elif surface < comfort:
                    cost[i, j, k] = 1.0 + comfort_weight * (1.0 - surface / comfort)
    return cost


@njit(cache=True)
def _dijkstra(cost: Array, goal: Cell, spacing: float) -> Array:
    """Cost to go (m, weighted) from every cell to the goal cell, 26 neighbours."""
    nx, ny, nz = cost.shape
    distance = np.full((nx, ny, nz), np.inf)
    distance[goal] = 0.0
    heap = [(0.0, goal[0], goal[1], goal[2])]
    while heap:
        d, i, j, k = heapq.heappop(heap)
        if d > distance[i, j, k]:
            continue
        for di in range(-1, 2):
            for dj in range(-1, 2):
                for dk in range(-1, 2):
                    a, b, c = i + di, j + dj, k + dk
                    if a < 0 or b < 0 or c < 0 or a >= nx or b >= ny or c >= nz or (di == 0 and dj == 0 and dk == 0):
                        continue
                    step = spacing * math.sqrt(di * di + dj * dj + dk * dk)
                    new = d + 0.5 * step * (cost[i, j, k] + cost[a, b, c])
                    if new < distance[a, b, c]:
                        distance[a, b, c] = new
                        heapq.heappush(heap, (new, a, b, c))
    return distance


@njit(cache=True)
def _descend(distance: Array, start: Cell) -> Array:
    """Cells (n, 3) of the steepest descent from a cell to the goal."""
    nx, ny, nz = distance.shape
    path = [start]
    i, j, k = start
    while distance[i, j, k] > 0.0:
        best = (i, j, k)
        for di in range(-1, 2):
            for dj in range(-1, 2):
                for dk in range(-1, 2):
                    a, b, c = i + di, j + dj, k + dk
                    if 0 <= a < nx and 0 <= b < ny and 0 <= c < nz and distance[a, b, c] < distance[best]:
                        best = (a, b, c)
        if best == (i, j, k):
            break
        i, j, k = best
        path.append(best)
    cells = np.empty((len(path), 3))
    for n in range(len(path)):
        for axis in range(3):
            cells[n, axis] = path[n][axis]
    return cells


@njit(cache=True)
def _segment_cost(
    a: Array,
    b: Array,
    centres: Array,
    radii: Array,
    margin: float,
    comfort: float,
    comfort_weight: float,
    spacing: float,
) -> float:
    """Weighted length of a straight segment, sampled at half the spacing; infinite if it enters the margin."""
    length = math.sqrt((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2 + (b[2] - a[2]) ** 2)
    samples = max(1, math.ceil(2.0 * length / spacing))
    total = 0.0
    for n in range(samples):
        w = (n + 0.5) / samples
        surface = np.inf
        for s in range(radii.shape[0]):
            square = 0.0
            for axis in range(3):
                square += ((1.0 - w) * a[axis] + w * b[axis] - centres[s, axis]) ** 2
            surface = min(surface, math.sqrt(square) - radii[s])
        if surface < margin:
            return np.inf
        total += 1.0 + comfort_weight * max(0.0, 1.0 - surface / comfort)
    return total / samples * length


@njit(cache=True)
def _shortcut(
    path: Array,
    centres: Array,
    radii: Array,
    margin: float,
    comfort: float,
    comfort_weight: float,
    spacing: float,
) -> NDArray[np.int64]:
    """Corner indices of the cheapest chain of straight segments along a path (n, 3)."""
    n = path.shape[0]
    best = np.full(n, np.inf)
    before = np.zeros(n, dtype=np.int64)
    best[0] = 0.0
    for i in range(1, n):
        best[i], before[i] = best[i - 1] + 10.0 * spacing, i - 1  # a grid step is always allowed
        for j in range(i):
            cost = _segment_cost(path[j], path[i], centres, radii, margin, comfort, comfort_weight, spacing)
            if best[j] + cost < best[i]:
                best[i], before[i] = best[j] + cost, j
    corners = [n - 1]
    while corners[-1] != 0:
        corners.append(before[corners[-1]])
    return np.array(corners[::-1])


@dataclass(frozen=True)
class PathField:
    """Cost to go to a goal around given spheres, for paths from anywhere."""

    grid: Grid
    goal: Array
    centres: Array
    radii: Array
    margin: float
    comfort: float
    comfort_weight: float
    distance: Array

    def path(self, pos: Array) -> Array:
        """Corners (n, 3) of a short way from pos to the goal, both included."""
        cells = _descend(self.distance, _cell_of(self.grid, pos))
        points = np.vstack([pos, self.grid.low + self.grid.spacing * cells[1:-1], self.goal])
        around = (self.centres, self.radii, self.margin, self.comfort, self.comfort_weight, self.grid.spacing)
        corners: Array = points[_shortcut(points, *around)]
        return corners


def _cell_of(grid: Grid, pos: Array) -> Cell:
    index = np.clip(np.rint(np.nan_to_num((pos - grid.low) / grid.spacing)), 0, np.array(grid.shape) - 1).astype(int)
    return int(index[0]), int(index[1]), int(index[2])


def path_field(
    grid: Grid, goal: Array, centres: Array, radii: Array, margin: float, comfort: float, weight: float
) -> PathField:
    """Solve for the cost to go. centres (K, 3), radii (K,) [m]; the rest as in ``config/expert.yaml``."""
    cost = _cell_costs(grid.low, grid.spacing, grid.shape, centres, radii, margin, comfort, weight)
    distance = _dijkstra(cost, _cell_of(grid, goal), grid.spacing)
    return PathField(grid, goal, centres, radii, margin, comfort, weight, distance)
