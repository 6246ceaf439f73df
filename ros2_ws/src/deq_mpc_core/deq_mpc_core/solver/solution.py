"""What goes into a solve and what comes out: explicit state, a status for every sample, nothing hidden."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deq_mpc_core.config import Config
from deq_mpc_core.solver.arrays import Data, Duals

Array = NDArray[np.float64]
_MOST = 2**31 - 1
"""Iterations; the kernels count them in integers of the machine."""


class Status(IntEnum):
    """How a sample's solve ended."""

    CONVERGED = 0
    """Dynamics, constraints, complementarity and the square root of Newton's decrement are below the tolerance."""
    ITERATING = 1
    """The iterations ran out first; the plan is usable as far as its residuals say."""
    INFEASIBLE = 2
    """Bounds cross, or the plan is a minimum of the sum of squares of the scaled violations at which some remain."""
    NUMERICAL_FAILURE = 3
    """A factorisation failed or the data were not finite; the plan is the last finite iterate."""


class AdjointKind(IntEnum):
    """How a sample's gradient was found."""

    EXACT = 0
    """With the Hessian of L at the returned iterate."""
    GAUSS_NEWTON = 1
    """Without the curvature of dynamics and spheres: asked for, or the exact Hessian was not positive definite."""
    FAILED = 2
    """No factorisation succeeded, or the solve had failed; the gradient is zero."""


class SolverOptions(Config):
    """Options of one solve."""

    al_iterations: int = Field(default=2, ge=1, le=_MOST)
    """Augmented-Lagrangian (multiplier) iterations, m in the paper."""
    newton_steps: int = Field(default=1, ge=0, le=_MOST)
    """Gauss-Newton steps per multiplier iteration, at most; with none, multipliers are updated at the plan as it is."""
    penalty_init: float = Field(default=1.0, gt=0)
    """mu of a cold start, in units of the scaled residuals."""
    penalty_growth: float = Field(default=10.0, ge=1)
    """gamma."""
    penalty_max: float = Field(default=1e4, gt=0)
    """Cap of mu."""
    tolerance: float = Field(default=1e-4, ge=0)
    """Largest scaled residual of a converged sample."""
    newton_tolerance: float = Field(default=1e-6, ge=0)
    """Newton stops where the square root of the decrement is below."""


@dataclass(frozen=True)
class SolverState:
    """The solver's iterate: tau (B, T, nz), multipliers and penalty (B,). Arrays are never written by a solve."""

    tau: Array
    duals: Duals
    penalty: Array

    def with_penalty(self, penalty: float) -> SolverState:
        """The same iterate with every sample's penalty set."""
        return replace(self, penalty=np.full_like(self.penalty, penalty))

    def with_tau(self, tau: Array) -> SolverState:
        """The same multipliers and penalty at another plan."""
        return replace(self, tau=tau)


@dataclass(frozen=True)
class Solution:
    """Result of a solve, per sample.

    Attributes:
        state: iterate to go on from; ``state.tau`` is the plan.
        status: (B,) values of `Status`.
        dynamics, violation: (B,) largest |k| and h^+ in scaled units.
        complementarity: (B,) largest min(lambda / mu, -h), lambda as it was before its last update, scaled units.
        decrement: (B,) last Newton decrement; infinite after a damped step, which says nothing of it.
        al_iterations, newton_steps: (B,) done.
        penalty: (B,) mu of the last minimisation, which the adjoint needs.
    """

    state: SolverState
    status: NDArray[np.int64]
    dynamics: Array
    violation: Array
    complementarity: Array
    decrement: Array
    al_iterations: NDArray[np.int64]
    newton_steps: NDArray[np.int64]
    penalty: Array


def cold_state(data: Data, penalty: float) -> SolverState:
    """Start of the paper: x_init repeated, inputs at their reference, multipliers zero.

    Raises:
        ValueError: if the shapes of x_init, x_ref and u_ref do not fit together.
    """
    shapes = {name: np.shape(getattr(data, name)) for name in ("x_init", "x_ref", "u_ref")}
    if [len(shape) for shape in shapes.values()] != [2, 3, 3] or shapes["x_ref"][1] < 1:
        raise ValueError(
            f"x_init, x_ref and u_ref need shapes (B, nx), (B, T, nx) and (B, T, nu), T >= 1, not {shapes}"
        )
    batch, horizon, nx = shapes["x_ref"]
    if shapes["x_init"] != (batch, nx) or shapes["u_ref"][:2] != (batch, horizon):
        raise ValueError(f"x_init, x_ref and u_ref differ in batch, horizon or states: {shapes}")
    nz = nx + data.u_ref.shape[2]
    tau = np.concatenate([np.repeat(data.x_init[:, None], horizon, axis=1), data.u_ref], axis=2)
    duals = Duals(
        np.zeros((batch, horizon - 1, nx)),
        np.zeros((batch, horizon, nz)),
        np.zeros((batch, horizon, nz)),
        np.zeros((batch, horizon, data.radii.shape[1])),
    )
    return SolverState(np.ascontiguousarray(tau), duals, np.full(batch, penalty))


def objective(data: Data, tau: Array) -> Array:
    """The cost (B,) of plans tau (B, T, nz), constraints apart."""
    nx = data.x_ref.shape[-1]
    x, u = tau[..., :nx], tau[..., nx:]
    tracking = (data.q * (x - data.x_ref) ** 2).sum((1, 2)) + (data.r * (u - data.u_ref) ** 2).sum((1, 2))
    cost: Array = 0.5 * tracking
    return cost


def shift_trajectory(a: Array, knots: float) -> Array:
    """Read a trajectory (B, T, ...) a (fractional, non-negative) number of knots later, its last entry repeated."""
    if not knots >= 0.0:
        raise ValueError(f"a warm start shifts forward in time, not by {knots} knots")
    if knots == 0.0 or a.shape[1] == 0:
        return a
    last = a.shape[1] - 1
    at = np.minimum(np.arange(last + 1) + knots, last)
    low = np.minimum(at.astype(np.int64), max(last - 1, 0))
    high = np.minimum(low + 1, last)
    weight = (at - low).reshape(1, -1, *(1,) * (a.ndim - 2))
    shifted: Array = (1.0 - weight) * a[:, low] + weight * a[:, high]
    return shifted
