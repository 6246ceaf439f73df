"""Torch engine: the batched reference implementation on any device, behind the engine interface."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deq_mpc_core.models.model import Model
from deq_mpc_core.solver.arrays import Data, Duals, Gradients
from deq_mpc_core.solver.batched.adjoint import adjoint
from deq_mpc_core.solver.batched.iterate import Iterate, iterate
from deq_mpc_core.solver.batched.system import system
from deq_mpc_core.solver.engine import check_adjoint_shapes, check_model, check_shapes, zero_failures
from deq_mpc_core.solver.solution import AdjointKind, Array, Solution, SolverOptions, SolverState


class TorchEngine:
    """All samples of a batch in lockstep, float64, on ``device``."""

    def __init__(self, model: Model, *, device: torch.device | str = "cpu") -> None:
        check_model(model)
        self.model = model
        self.device = torch.device(device)
        self._system = system(model, self.device)

    def _tensor(self, a: Any) -> Tensor:
        tensor = a if isinstance(a, Tensor) else torch.from_numpy(np.array(a, dtype=np.float64, order="C"))
        return tensor.to(self.device, torch.float64)

    def _data(self, data: Data) -> Data:
        return Data._make(self._tensor(a) for a in data)._replace(dt=float(data.dt))

    def _duals(self, duals: Duals) -> Duals:
        return Duals._make(self._tensor(a) for a in duals)

    def _start(self, state: SolverState) -> Iterate:
        return Iterate(self._tensor(state.tau), self._duals(state.duals), self._tensor(state.penalty))

    def solve(self, data: Data, state: SolverState, options: SolverOptions) -> Solution:
        """See `Engine.solve`."""
        check_shapes(self.model, data, state)
        with torch.no_grad():
            outcome = iterate(self._system, self._data(data), self._start(state), options)
        tau, duals, penalty = outcome.state
        return Solution(
            SolverState(_array(tau), Duals._make(_array(a) for a in duals), _array(penalty)),
            *(_array(a) for a in outcome[1:]),
        )

    def adjoint(
        self, data: Data, solution: Solution, tau_bar: Array, *, exact: bool = True
    ) -> tuple[Gradients, NDArray[np.int64]]:
        """See `Engine.adjoint`."""
        check_adjoint_shapes(self.model, data, solution, tau_bar)
        state, mu, g = solution.state, self._tensor(solution.penalty), self._tensor(tau_bar)
        tau, duals = self._tensor(state.tau), self._duals(state.duals)
        with torch.no_grad():
            found, kinds = adjoint(self._system, self._data(data), tau, duals, mu, g, exact=exact)
        grads, how = Gradients._make(_array(a) for a in found), _array(kinds)
        finite = np.logical_and.reduce([np.isfinite(a).all(tuple(range(1, a.ndim))) for a in grads])
        how[~(finite & (_array(mu) > 0.0))] = AdjointKind.FAILED
        zero_failures(grads, how, solution)
        return grads, how

    def unrolled(self, data: Data, state: SolverState, options: SolverOptions) -> Tensor:
        """The plan (B, T, nz) of `solve`, differentiable through every iteration; to check implicit gradients."""
        return iterate(self._system, self._data(data), self._start(state), options).state.tau


def _array(a: Tensor) -> NDArray[Any]:
    return a.detach().to("cpu", copy=True).numpy()
