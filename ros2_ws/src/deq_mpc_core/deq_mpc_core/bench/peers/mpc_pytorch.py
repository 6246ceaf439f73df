"""mpc.pytorch: differentiable box-constrained iLQR (Amos et al., Differentiable MPC, NeurIPS 2018), the published peer.

It differs: single shooting, so that its plan satisfies the dynamics always; bounds on inputs only; a projected Newton
QP at every knot; and it iterates until the inputs stop changing or ``lqr_iter`` steps are done.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deq_mpc_core.bench.peers import MissingPeerError
from deq_mpc_core.models import Model
from deq_mpc_core.solver.arrays import Data
from deq_mpc_core.solver.batched.system import System, system

Array = NDArray[np.float64]


class _Dynamics(torch.nn.Module):
    """One knot of the model, with its Jacobian as mpc.pytorch's analytic derivatives."""

    def __init__(self, on_torch: System, p: Tensor, dt: float) -> None:
        super().__init__()
        self._system, self._p, self._dt = on_torch, p, dt

    def _params(self, x: Tensor) -> Tensor:
        return self._p.repeat(x.shape[0] // self._p.shape[0], 1)  # knots are stacked over the batch

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        return self._system.step(torch.cat([x, u], dim=-1), self._params(x), self._dt)

    def grad_input(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.cat([x, u], dim=-1).detach()
        with torch.no_grad():
            _, jac = self._system.step_and_jacobian(z[:, None], self._params(x), self._dt)
        return jac[:, 0, :, : self._system.nx], jac[:, 0, :, self._system.nx :]


class MpcPytorchPeer:
    """A whole batch at once."""

    engine = "mpc.pytorch"

    def __init__(self, model: Model, data: Data, *, steps: int) -> None:
        try:
            mpc = importlib.import_module("mpc.mpc")
        except ImportError as error:
            raise MissingPeerError(f"{error}; scripts/install_peers.sh installs it") from error
        if np.isfinite(data.lower[:, 1:, : model.nx]).any() or np.isfinite(data.upper[:, 1:, : model.nx]).any():
            raise MissingPeerError("it takes no bounds on states")
        if data.radii.size:
            raise MissingPeerError("it takes no obstacles")
        self.note = f"box-constrained iLQR, single shooting, at most {steps} steps"
        nx = model.nx
        weight = np.concatenate([data.q, data.r], axis=-1).swapaxes(0, 1)
        reference = np.concatenate([data.x_ref, data.u_ref], axis=-1).swapaxes(0, 1)
        lower, upper, start = (torch.tensor(np.ascontiguousarray(a.swapaxes(0, 1))) for a in _inputs(data, nx))
        self._x_init = torch.tensor(data.x_init)
        self._cost = mpc.QuadCost(torch.diag_embed(torch.tensor(weight)), torch.tensor(-weight * reference))
        self._dynamics = _Dynamics(system(model, torch.device("cpu")), torch.tensor(data.p), float(data.dt))
        self._solver: Any = mpc.MPC(
            nx,
            model.nu,
            data.x_ref.shape[1],
            u_lower=lower,
            u_upper=upper,
            u_init=start,
            lqr_iter=steps,
            grad_method=mpc.GradMethods.ANALYTIC,
            eps=1e-4,
            verbose=-1,
            exit_unconverged=False,
            detach_unconverged=False,
            backprop=False,
        )

    def solve_batch(self) -> Array:
        """Plans (B, T, nz) from the inputs' references."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls functions that torch has deprecated
            x, u, _ = self._solver(self._x_init, self._cost, self._dynamics)
        plan: Array = torch.cat([x, u], dim=-1).transpose(0, 1).detach().numpy()
        return plan


def _inputs(data: Data, nx: int) -> tuple[Array, Array, Array]:
    return data.lower[..., nx:], data.upper[..., nx:], data.u_ref
