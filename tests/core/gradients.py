"""Gradients of a solve by finite differences, and where they exist: at strict complementarity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.bench.problems import take
from deq_mpc_core.models import Model
from deq_mpc_core.solver import Data, Duals, Solution, SolverState

Array = NDArray[np.float64]
Solve = Callable[[Data, SolverState], Array]
"""The plans (B, T, nz) of a batch of problems, from a start each."""

COSINE, ERROR = 0.9999, 1e-3
"""What gradients have to reach: least cosine, largest relative norm of the difference."""
STEPS = {"x_init": 5e-4, "x_ref": 4e-3, "u_ref": 1e-3, "q": 1e-2, "r": 1e-2, "centres": 2e-4}
"""Steps of finite differences: a share of a weight, natural units of others; 0.0005 for bounds and spheres.

A solve ends within the square root of the rounding error of L, some 1e-7: what moves the plan less has larger steps."""

SECOND_ORDER = {1.0: 0.5, -1.0: -0.5}
FOURTH_ORDER = {0.5: 4.0 / 3.0, -0.5: -4.0 / 3.0, 1.0: -1.0 / 6.0, -1.0: 1.0 / 6.0}
"""Weights of a derivative by the points they are for, in steps."""


def take_state(state: SolverState, which: NDArray[np.int64] | list[int]) -> SolverState:
    """The named samples of a state."""
    return SolverState(state.tau[which], Duals._make(a[which] for a in state.duals), state.penalty[which])


def natural_steps(model: Model, data: Data, field: str) -> Array:
    value, step = np.asarray(getattr(data, field), dtype=np.float64), STEPS.get(field, 5e-4)
    if field in ("q", "r"):
        return step * np.abs(value)
    both = (*model.x_scale, *model.u_scale)
    scales = {"x_init": model.x_scale, "x_ref": model.x_scale, "u_ref": model.u_scale, "lower": both, "upper": both}
    return np.broadcast_to(step * np.array(scales.get(field, 1.0)), value.shape)


def finite_differences(
    model: Model,
    solve: Solve,
    data: Data,
    state: SolverState,
    weight: Array,
    field: str,
    entries: NDArray[np.int64],
    size: float = 1.0,
) -> Array:
    """Gradients (B, E) of sum(weight * plan) by some entries of the flattened field: all solves in one batch.

    Central differences; for spheres of fourth order, since small ones bend more than those of second order can follow.
    Steps are ``size`` times `STEPS`.
    """
    stencil = FOURTH_ORDER if field in ("centres", "radii") else SECOND_ORDER
    value, steps = flat(np.asarray(getattr(data, field))), size * flat(natural_steps(model, data, field))
    batch, count, points = len(value), len(entries), len(stencil)
    which = np.repeat(np.arange(batch), points * count)
    varied = np.array(np.broadcast_to(value[:, None, None], (batch, count, points, value.shape[1])))
    for i, distance in enumerate(stencil):
        varied[:, np.arange(count), i, entries] += distance * steps[:, entries]
    shape = np.asarray(getattr(data, field)).shape[1:]
    plans = solve(take(data, which)._replace(**{field: varied.reshape(-1, *shape)}), take_state(state, which))
    loss = (plans * weight[which]).sum(axis=(1, 2)).reshape(batch, count, points)
    return loss @ np.array(list(stencil.values())) / steps[:, entries]


def margins(model: Model, data: Data, solution: Solution) -> Array:
    """How strictly complementary each sample is: the smallest max(lambda, -h) of its inequalities, (B,)."""
    tau, duals, scale = solution.state.tau, solution.state.duals, np.array((*model.x_scale, *model.u_scale))
    sides = [
        np.maximum(duals.lower, (tau - data.lower) / scale),
        np.maximum(duals.upper, (data.upper - tau) / scale),
    ]
    for side in sides:
        side[:, 0, : model.nx] = np.inf
    if model.position and data.radii.size:
        distance = np.linalg.norm(tau[:, :, None, list(model.position)] - data.centres, axis=-1)
        clearance = np.maximum(duals.sphere, distance - data.radii[:, None])
        sides.append(np.where(data.radii[:, None] > 0.0, clearance, np.inf)[:, 1:])
    return np.min([side.min(axis=(1, 2)) for side in sides], axis=0)


def flat(a: Array) -> Array:
    """A batch of anything as rows."""
    return a.reshape(len(a), int(np.prod(a.shape[1:])))


def cosines(found: Array, expected: Array) -> Array:
    """Cosine (B,) between two batches of gradients."""
    a, b = flat(found), flat(expected)
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def errors(found: Array, expected: Array) -> Array:
    """Norm (B,) of the difference of two batches of gradients, relative to the expected."""
    a, b = flat(found), flat(expected)
    return np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)


def nearest(found: Array, candidates: list[Array]) -> Array:
    """Of the expected gradients (B, E) by steps of several sizes the nearest of each sample.

    The best size is between the rounding of the solves and the bend of the problem, each sample's at another place.
    """
    distances = [np.linalg.norm(flat(found) - flat(candidate), axis=1) for candidate in candidates]
    return np.array(candidates)[np.argmin(distances, axis=0), np.arange(len(found))]


def assert_same_gradients(found: Array, expected: Array, name: str, zero: float = 1e-6) -> None:
    """Cosine and norm of every sample; where the expected gradient vanishes, the found one has to."""
    norms = np.linalg.norm(flat(expected), axis=1)
    none = norms < zero
    assert (np.abs(found[none]) < zero).all(), f"{name}: a gradient where there is none"
    assert (errors(found[~none], expected[~none]) <= ERROR).all(), f"{name}: {errors(found[~none], expected[~none])}"
    assert (cosines(found[~none], expected[~none]) >= COSINE).all(), name
