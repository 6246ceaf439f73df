"""What every engine offers, and the shapes that every engine checks at its boundary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.models.model import Model
from deq_mpc_core.solver.arrays import Data, Gradients
from deq_mpc_core.solver.solution import AdjointKind, Array, Solution, SolverOptions, SolverState, Status


class Engine(Protocol):
    """Solves batches of problems of one model. Arrays are numpy float64 here, wherever the engine computes."""

    model: Model

    def solve(self, data: Data, state: SolverState, options: SolverOptions) -> Solution:
        """Run augmented-Lagrangian iterations from ``state``; pure. Raises ValueError on shapes that do not fit."""
        ...

    def adjoint(
        self, data: Data, solution: Solution, tau_bar: Array, *, exact: bool = True
    ) -> tuple[Gradients, NDArray[np.int64]]:
        """Gradients of a loss whose gradient with respect to the plan is tau_bar (B, T, nz).

        exact: with the curvature of dynamics and spheres; else the Gauss-Newton Hessian, as in the paper.
        Returns the gradients and (B,) values of `AdjointKind`. Raises ValueError on shapes that do not fit.
        """
        ...


def zero_failures(grads: Gradients, kinds: NDArray[np.int64], solution: Solution) -> None:
    """Zero, in place, the gradients of samples whose solve or adjoint failed, and mark them `AdjointKind.FAILED`."""
    kinds[solution.status == Status.NUMERICAL_FAILURE] = AdjointKind.FAILED
    for grad in grads:
        grad[kinds == AdjointKind.FAILED] = 0.0


def _shape(a: Any) -> tuple[int, ...]:
    if isinstance(a, float):
        return ()
    return a.shape if hasattr(a, "shape") else np.shape(a)  # np.shape alone takes ten times as long


def _check(model: Model, got: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]], kind: str = "") -> None:
    for name, shape in expected.items():
        if _shape(got[name]) != shape:
            raise ValueError(f"{kind}{name} has shape {_shape(got[name])}, expected {shape} for model {model.name}")


def check_shapes(model: Model, data: Data, state: SolverState) -> None:
    """Raise ValueError with the offending array and the shape it should have."""
    for name, letters in (("x_ref", "(B, T, nx)"), ("radii", "(B, K)")):
        if len(_shape(getattr(data, name))) != letters.count(",") + 1:
            raise ValueError(f"{name} has shape {_shape(getattr(data, name))}, expected {letters}")
    batch, horizon = _shape(data.x_ref)[:2]
    spheres = _shape(data.radii)[1]
    nz = model.nx + model.nu
    if horizon < 1:
        raise ValueError("the horizon has no knots; x_ref needs shape (B, T, nx) with T >= 1")
    if spheres and not model.position:
        raise ValueError(f"model {model.name} has no position that spheres could constrain; pass radii of shape (B, 0)")
    expected = {
        "x_init": (batch, model.nx),
        "x_ref": (batch, horizon, model.nx),
        "u_ref": (batch, horizon, model.nu),
        "q": (batch, horizon, model.nx),
        "r": (batch, horizon, model.nu),
        "lower": (batch, horizon, nz),
        "upper": (batch, horizon, nz),
        "centres": (batch, horizon, spheres, 3),
        "radii": (batch, spheres),
        "p": (batch, len(model.p)),
        "dt": (),
    }
    _check(model, data._asdict(), expected)
    expected = {"tau": (batch, horizon, nz), "penalty": (batch,)}
    _check(model, {"tau": state.tau, "penalty": state.penalty}, expected)
    expected = {"eta": (batch, horizon - 1, model.nx), "lower": (batch, horizon, nz), "upper": (batch, horizon, nz)}
    expected["sphere"] = (batch, horizon, spheres)
    _check(model, state.duals._asdict(), expected, "dual ")


def check_adjoint_shapes(model: Model, data: Data, solution: Solution, tau_bar: Array) -> None:
    """Raise ValueError with the offending array and the shape it should have."""
    check_shapes(model, data, solution.state)
    expected = {"tau_bar": _shape(solution.state.tau), "penalty of the solution": _shape(solution.state.penalty)}
    _check(model, {"tau_bar": tau_bar, "penalty of the solution": solution.penalty}, expected)
