"""The optima that results are held against, found by IPOPT, and which plans reach them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.bench.peers import UNUSABLE
from deq_mpc_core.bench.quality import violation
from deq_mpc_core.models import Model
from deq_mpc_core.solver import Data, cold_state, objective

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_OBJECTIVE, _VIOLATION = 1e-4, 1e-4
"""A plan counts where its objective is at most this share above IPOPT's and its violation below this, SI."""
_PRECISE = 1e-9
"""IPOPT's tolerance."""


def independent_optima(model: Model, data: Data) -> Array | None:
    """IPOPT's objectives (B,) from the cold start, nan where it failed; None where it is not installed."""
    try:
        from deq_mpc_core.bench.peers.casadi_ocp import CasadiPeer

        ipopt = CasadiPeer(model, data, cold_state(data, 1.0).tau, "ipopt", _PRECISE, compiled=False)
    except UNUSABLE:
        return None
    tau = np.stack([ipopt.solve(b).tau for b in range(len(data.x_init))])
    return np.where(violation(model, data, tau) < _VIOLATION, objective(data, tau), np.nan)


def reached(model: Model, data: Data, tau: Array, optima: Array | None) -> Mask | None:
    """Which plans (B, T, nz) are feasible and as good as the optima; None where there are no optima."""
    if optima is None:
        return None
    feasible = violation(model, data, tau) < _VIOLATION
    return np.asarray(feasible & (objective(data, tau) <= optima * (1.0 + _OBJECTIVE)))


def verdict(mask: Mask | None) -> str:
    """What `reached` found, for a row's note."""
    if mask is None:
        return "no independent optimum"
    found = f"optimum in {mask.sum()}/{mask.size}"
    return found if mask.all() else f"{found}, the rest NOT REACHED and not counted"
