"""The solver as a differentiable function of its data: the implicit gradient of any engine, as one autograd function.

    tau, solution = solve(engine, data, state, options)

The gradient rule is the implicit function theorem at the returned iterate (``kernels/adjoint.py``). It covers every
array of the problem but the model parameters; the warm start is a constant. Gradients that would be dropped are
refused.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.autograd.function import once_differentiable

from deq_mpc_core.solver.arrays import Data, Gradients
from deq_mpc_core.solver.engine import Engine
from deq_mpc_core.solver.solution import Solution, SolverOptions, SolverState

TensorData: TypeAlias = Data
"""A `Data` of torch tensors, float32 or float64, on any device."""

Report: TypeAlias = Callable[[NDArray[np.int64]], None]
"""Told in the backward pass how each sample's gradient was found: (B,) values of `AdjointKind`."""


@dataclass(frozen=True)
class _Rule:
    """What the backward pass needs of the forward one."""

    engine: Engine
    data: Data
    solution: Solution
    exact: bool
    report: Report | None

    def __call__(self, tau_bar: torch.Tensor) -> Gradients:
        g = tau_bar.detach().to("cpu", torch.float64).numpy()
        grads, kinds = self.engine.adjoint(self.data, self.solution, g, exact=self.exact)
        if self.report is not None:
            self.report(kinds)
        return grads


class _Plan(torch.autograd.Function):
    """The plan of a finished solve, as a function of the tensors named in `Gradients`."""

    @staticmethod
    def forward(ctx: Any, rule: _Rule, *tensors: torch.Tensor) -> torch.Tensor:
        ctx.rule = rule
        ctx.kinds = [(t.device, t.dtype) for t in tensors]
        return torch.tensor(rule.solution.state.tau, device=tensors[0].device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, tau_bar: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        kinds = zip(ctx.rule(tau_bar), ctx.kinds, ctx.needs_input_grad[1:], strict=True)
        return None, *(torch.from_numpy(g).to(*kind) if needed else None for g, kind, needed in kinds)


def _refuse_dropped_gradients(data: TensorData, state: SolverState) -> None:
    constants = {"p": data.p, "dt": data.dt, "state.tau": state.tau, "state.penalty": state.penalty}
    constants |= {f"state.duals.{name}": a for name, a in state.duals._asdict().items()}
    for name, value in constants.items():
        if isinstance(value, torch.Tensor) and value.requires_grad:
            raise ValueError(f"the solver has no gradient with respect to {name} and would drop it; detach it first")


def _tensor(a: Any) -> torch.Tensor:
    return a if isinstance(a, torch.Tensor) else torch.from_numpy(np.array(a, dtype=np.float64, order="C"))


def _float64_copy(a: Any) -> NDArray[np.float64]:
    """A copy, so that the backward pass sees the problem that was solved."""
    return _tensor(a).detach().to("cpu", torch.float64, copy=True).numpy()


def solve(
    engine: Engine,
    data: TensorData,
    state: SolverState,
    options: SolverOptions,
    *,
    exact: bool = True,
    penalty: float | None = None,
    report: Report | None = None,
) -> tuple[torch.Tensor, Solution]:
    """Solve, with gradients for every field of `Gradients` in that field's own dtype and device.

    Computes in float64: other tensors are cast, and the plan (B, T, nz) is float64 on the device of ``data.x_init``.
    A sample that ends in NUMERICAL_FAILURE has zero gradient. exact, report: see `Engine.adjoint` and `Report`.
    penalty: mu of the gradient rule. By default that of the last minimisation, which makes it the derivative of that
    minimisation; a converged solve's constrained optimum has the limit of large mu for its derivative (1e8 is there,
    at 1e4 some per cent are missing).

    Raises:
        ValueError: shapes do not fit together, ``penalty`` is no positive number, or ``data.p`` or the state require a
            gradient.
    """
    if penalty is not None and not 0.0 < penalty < np.inf:
        raise ValueError(f"the gradient rule needs a positive, finite penalty, not {penalty}")
    _refuse_dropped_gradients(data, state)
    tensors = [_tensor(getattr(data, name)) for name in Gradients._fields]
    problem = Data._make(_float64_copy(a) for a in data)._replace(dt=float(data.dt))
    solution = engine.solve(problem, state, options)
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)):
        return torch.tensor(solution.state.tau, device=tensors[0].device), solution
    ruled = deepcopy(solution)  # the caller may go on from the state in place before the backward pass
    if penalty is not None:
        ruled = replace(ruled, penalty=np.full_like(solution.penalty, penalty))
    return _Plan.apply(_Rule(engine, problem, ruled, exact, report), *tensors), solution
