"""From stored samples to tensors, with the symmetries of the task as augmentation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deq_mpc_core.learning.dataset import Dataset
from deq_mpc_core.obstacles import move
from deq_mpc_core.policy.flight_task import Scenario

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Batch:
    """Training samples: ``scenarios[0]`` at the sample's time, the others one control period after each other.

    labels: one (B, T, 6) of positions and velocities for each scenario, world frame.
    """

    scenarios: tuple[Scenario, ...]
    labels: tuple[Tensor, ...]


@dataclass(frozen=True)
class Symmetry:
    """Quarter turns about the vertical through a centre, after an optional mirroring of y: the task stays the same.

    turns (B,) in 0..3, mirrored (B,) bool, centre (2,) [m].
    """

    turns: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    centre: Array

    def vector(self, v: Array, about: Array | None = None) -> Array:
        """Map vectors (B, ..., 3), or points if ``about`` (2,) is the fixed point."""
        out = v.copy()
        if about is not None:
            out[..., :2] -= about
        lead = (slice(None), *(None,) * (v.ndim - 2))
        flip = np.where(self.mirrored, -1.0, 1.0)[lead]
        cos, sin = np.array([1.0, 0.0, -1.0, 0.0])[self.turns][lead], np.array([0.0, 1.0, 0.0, -1.0])[self.turns][lead]
        x, y = out[..., 0].copy(), flip * out[..., 1]
        out[..., 0], out[..., 1] = cos * x - sin * y, sin * x + cos * y
        if about is not None:
            out[..., :2] += about
        return out

    def states(self, x: Array) -> Array:
        """Map states (B, ..., 13). The heading stays and the tilt turns, exact to second order in the tilt."""
        out = x.copy()
        out[..., 0:3] = self.vector(x[..., 0:3], self.centre)
        out[..., 3:6] = self.vector(x[..., 3:6])
        for roll in (6, 9):  # the thrust leans along (pitch, -roll): a vector in the plane
            lean = np.stack([x[..., roll + 1], -x[..., roll], np.zeros_like(x[..., roll])], axis=-1)
            lean = self.vector(lean)
            out[..., roll], out[..., roll + 1] = -lean[..., 1], lean[..., 0]
            flip = np.where(self.mirrored, -1.0, 1.0).reshape(-1, *(1,) * (x.ndim - 2))
            out[..., roll + 2] = flip * x[..., roll + 2]
        return out


def draw_symmetry(rng: np.random.Generator, batch: int, centre: Array) -> Symmetry:
    """One of the eight symmetries of a square for each sample."""
    return Symmetry(rng.integers(4, size=batch), rng.random(batch) < 0.5, centre)


class Batches:
    """Reads batches of a dataset. dt_control [s]: time between the states of a sample."""

    def __init__(self, dataset: Dataset, centre: Array) -> None:
        self._dataset, self._centre = dataset, centre

    def read(self, index: NDArray[np.intp], rng: np.random.Generator | None, steps: int) -> Batch:
        """Samples ``index`` (B,) with ``steps`` streaming steps; augmented if there is an rng."""
        d = self._dataset
        period = d.spec.dt_control
        x = np.concatenate([d.x[index, None], d.x_next[index, :steps]], axis=1).astype(np.float64)
        goal = d.goal[index].astype(np.float64)
        stored, count = d.obstacles(index)
        obstacles = stored.astype(np.float64)
        labels = [d.label_from(index, step * period).astype(np.float64) for step in range(steps + 1)]
        if rng is not None:
            symmetry = draw_symmetry(rng, len(index), self._centre)
            x, goal = symmetry.states(x), symmetry.vector(goal, self._centre)
            obstacles[..., 0:3] = symmetry.vector(obstacles[..., 0:3], self._centre)
            obstacles[..., 4:7] = symmetry.vector(obstacles[..., 4:7])
            labels = [
                np.concatenate([symmetry.vector(a[..., :3], self._centre), symmetry.vector(a[..., 3:])], axis=-1)
                for a in labels
            ]
        mask = torch.from_numpy(np.arange(obstacles.shape[1]) < count[:, None])
        scenarios = []
        for step in range(steps + 1):
            now = move(obstacles, step * period)
            scenarios.append(
                Scenario(torch.from_numpy(x[:, step]), torch.from_numpy(goal), torch.from_numpy(now), mask)
            )
        return Batch(tuple(scenarios), tuple(torch.from_numpy(a) for a in labels))
