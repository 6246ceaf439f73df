"""The better of several local optima: one problem solved from several plans, by several penalty schedules.

A problem with spheres has an optimum for every side to pass them on. Which one a solve finds depends on its first plan
and, more still, on its first penalty: a soft one lets the plan cut through the spheres before they harden, a stiff one
keeps the dynamics and pushes the plan around them from where it begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from deq_mpc_core.models.model import Model
from deq_mpc_core.solver.arrays import Data
from deq_mpc_core.solver.engine import Engine
from deq_mpc_core.solver.solution import Array, Solution, SolverOptions, SolverState, Status, cold_state, objective

_DETOURS = 6
"""Directions around the straight way, as many as a hexagon has corners."""


@np.errstate(over="ignore", invalid="ignore")  # numbers that are none are the engine's to report
def several_starts(model: Model, data: Data) -> list[SolverState]:
    """Starts of a problem: cold, along its reference and, for a model with a position, by detours around that.

    A detour is a quarter of a sine away from the reference, as wide at the end as the sample's largest sphere.
    """
    cold = cold_state(data, 1.0)
    along = cold.tau.copy()
    along[:, 1:, : model.nx] = data.x_ref[:, 1:]
    starts = [cold, cold.with_tau(along)]
    if model.position and data.radii.shape[1]:
        where = list(model.position)
        widening = np.sin(np.linspace(0.0, 0.5 * np.pi, along.shape[1]))[:, None]
        for sideways in _sideways(data.x_ref[:, -1, where] - data.x_init[:, where]):
            detour = along.copy()
            detour[..., where] += widening * (np.maximum(data.radii.max(1), 0.0)[:, None] * sideways)[:, None]
            starts.append(cold.with_tau(detour))
    return starts


def solve_from_several(
    engine: Engine, data: Data, starts: Sequence[SolverState], schedules: Sequence[SolverOptions]
) -> Solution:
    """Each sample's best solution over all starts and schedules, whose ``penalty_init`` each start is given.

    Best is the lowest cost among the converged, or else the smallest violation of dynamics and constraints.
    """
    best: Solution | None = None
    for start in starts:
        for options in schedules:
            found = engine.solve(data, start.with_penalty(options.penalty_init), options)
            best = found if best is None else _take(best, found, _is_better(data, found, best))
    if best is None:
        raise ValueError("a solve from several starts needs at least one start and one schedule")
    return best


def _sideways(direction: Array) -> list[Array]:
    """Unit vectors (B, 3) all around directions (B, 3) and across them."""
    along = direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    other = np.where(np.abs(along[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])  # anything but parallel
    first = np.cross(along, other)
    length = np.linalg.norm(first, axis=1, keepdims=True)
    first = np.where(length > 0.0, first / np.maximum(length, 1e-9), [[1.0, 0.0, 0.0]])
    second = np.cross(along, first)
    angles = 2.0 * np.pi * np.arange(_DETOURS) / _DETOURS
    return [np.cos(angle) * first + np.sin(angle) * second for angle in angles]


@np.errstate(over="ignore", invalid="ignore")
def _is_better(data: Data, new: Solution, old: Solution) -> Array:
    """Where (B,) the new solution is to be preferred."""
    converged, before = new.status == Status.CONVERGED, old.status == Status.CONVERGED
    failed = new.status == Status.NUMERICAL_FAILURE
    residual, residual_before = np.maximum(new.dynamics, new.violation), np.maximum(old.dynamics, old.violation)
    cheaper = objective(data, new.state.tau) < objective(data, old.state.tau)
    closer = (residual < residual_before) | (old.status == Status.NUMERICAL_FAILURE)
    better: Array = np.where(before, converged & cheaper, converged | (~failed & closer))
    return better


def _take(old: Solution, new: Solution, which: Array) -> Solution:
    """``new`` where ``which`` (B,) says so, else ``old``."""

    def pick(a: Array, b: Array) -> Array:
        return np.where(which.reshape(-1, *(1,) * (a.ndim - 1)), b, a)

    duals = type(old.state.duals)._make(map(pick, old.state.duals, new.state.duals))
    state = SolverState(pick(old.state.tau, new.state.tau), duals, pick(old.state.penalty, new.state.penalty))
    rest: dict[str, Any] = {name: pick(a, getattr(new, name)) for name, a in vars(old).items() if name != "state"}
    return replace(old, state=state, **rest)
