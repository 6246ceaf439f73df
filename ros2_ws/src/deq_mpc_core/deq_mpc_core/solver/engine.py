"""What every engine offers, and the shapes that every engine checks at its boundary."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.models.model import Model
from deq_mpc_core.solver.arrays import Data, Duals, Gradients
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


def check_model(model: Model) -> None:
    """Raise TypeError for what is no model: its name, say, or the function that makes it."""
    if not isinstance(model, Model):
        raise TypeError(f"an engine needs a Model, not {model!r}; deq_mpc_core.models.MODELS[name]() makes one")


def zero_failures(grads: Gradients, kinds: NDArray[np.int64], solution: Solution) -> None:
    """Zero, in place, the gradients of samples whose solve or adjoint failed, and mark them `AdjointKind.FAILED`."""
    kinds[solution.status == Status.NUMERICAL_FAILURE] = AdjointKind.FAILED
    for grad in grads:
        grad[kinds == AdjointKind.FAILED] = 0.0


def _shape(a: Any) -> tuple[int, ...]:
    if isinstance(a, float):
        return ()
    return a.shape if hasattr(a, "shape") else np.shape(a)  # np.shape alone takes ten times as long


def _compare(model: str, shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise ValueError(f"{name} has shape {shapes[name]}, expected {shape} for model {model}")


def check_shapes(model: Model, data: Data, state: SolverState) -> None:
    """Raise ValueError with the offending array and the shape it should have."""
    if not model.position and _shape(data.radii)[-1:] not in ((), (0,)):
        raise ValueError(f"model {model.name} has no position that spheres could constrain; pass radii of shape (B, 0)")
    values = (*data, *state.duals, state.tau, state.penalty)
    try:
        got = tuple([() if type(a) is float else a.shape for a in values])  # half the time of asking each what it is
    except AttributeError:
        got = tuple(map(_shape, values))
    _check_shapes(model.name, (model.nx, model.nu, len(model.p)), got)


@lru_cache(maxsize=64)
def _check_shapes(model: str, sizes: tuple[int, int, int], got: tuple[tuple[int, ...], ...]) -> None:
    """A control loop asks about the same shapes 100 times a second: what has passed once is not looked at again."""
    names = (*Data._fields, *(f"dual {name}" for name in Duals._fields), "tau", "penalty")
    shapes = dict(zip(names, got, strict=True))
    for name, letters in (("x_ref", "(B, T, nx)"), ("radii", "(B, K)")):
        if len(shapes[name]) != letters.count(",") + 1:
            raise ValueError(f"{name} has shape {shapes[name]}, expected {letters}")
    (nx, nu, parameters), (batch, horizon), spheres = sizes, shapes["x_ref"][:2], shapes["radii"][1]
    nz = nx + nu
    if horizon < 1:
        raise ValueError("the horizon has no knots; x_ref needs shape (B, T, nx) with T >= 1")
    expected: dict[str, tuple[int, ...]] = {
        "x_init": (batch, nx),
        "x_ref": (batch, horizon, nx),
        "u_ref": (batch, horizon, nu),
        "q": (batch, horizon, nx),
        "r": (batch, horizon, nu),
        "lower": (batch, horizon, nz),
        "upper": (batch, horizon, nz),
        "centres": (batch, horizon, spheres, 3),
        "radii": (batch, spheres),
        "p": (batch, parameters),
        "dt": (),
        "tau": (batch, horizon, nz),
        "penalty": (batch,),
        "dual eta": (batch, horizon - 1, nx),
        "dual lower": (batch, horizon, nz),
        "dual upper": (batch, horizon, nz),
        "dual sphere": (batch, horizon, spheres),
    }
    _compare(model, shapes, expected)


def check_adjoint_shapes(model: Model, data: Data, solution: Solution, tau_bar: Array) -> None:
    """Raise ValueError with the offending array and the shape it should have."""
    check_shapes(model, data, solution.state)
    samples = _shape(solution.state.penalty)
    got = {
        "tau_bar": _shape(tau_bar),
        "penalty of the solution": _shape(solution.penalty),
        "status of the solution": _shape(solution.status),
    }
    expected = {**dict.fromkeys(got, samples), "tau_bar": _shape(solution.state.tau)}
    _compare(model.name, got, expected)
