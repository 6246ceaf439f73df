"""How good a plan is, computed apart from the engines that found it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.bench.integration import batched_step
from deq_mpc_core.models import Model
from deq_mpc_core.solver.arrays import Data

Array = NDArray[np.float64]


def violation(model: Model, data: Data, tau: Array) -> Array:
    """By how much (B,) plans miss x_init, the dynamics, the bounds or the spheres at worst, in SI units, not scaled."""
    nx = model.nx
    x, u = tau[..., :nx], tau[..., nx:]
    over = np.maximum(tau - data.upper, data.lower - tau)
    over[:, 0, :nx] = np.abs(x[:, 0] - data.x_init)
    worst = np.maximum(over.max((1, 2)), 0.0)
    if tau.shape[1] > 1:
        following = batched_step(model)(x[:, :-1], u[:, :-1], data.p[:, None], data.dt)
        worst = np.maximum(worst, np.abs(x[:, 1:] - following).max((1, 2)))
    if model.position and data.radii.size and tau.shape[1] > 1:
        distance = np.linalg.norm(x[:, 1:, None, list(model.position)] - data.centres[:, 1:], axis=-1)
        depth = np.where(data.radii[:, None] > 0.0, data.radii[:, None] - distance, 0.0)
        worst = np.maximum(worst, depth.max((1, 2)))
    return np.where(np.isfinite(tau).all((1, 2)), worst, np.inf)
