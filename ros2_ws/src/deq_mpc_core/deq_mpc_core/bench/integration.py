"""A model's dynamics in numpy, apart from the engines that are measured: Runge-Kutta 4 over one knot."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from deq_mpc_core.models import Model

Array = NDArray[np.float64]
Step = Callable[[Any, Any, Any, float], Array]


def runge_kutta(f: Callable[[Any, Any, Any], Any], x: Any, u: Any, p: Any, dt: float) -> Any:
    """x after dt with u held."""
    k1 = f(x, u, p)
    k2 = f(x + 0.5 * dt * k1, u, p)
    k3 = f(x + 0.5 * dt * k2, u, p)
    k4 = f(x + dt * k3, u, p)
    return x + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)


@cache
def scalar_step(model: Model) -> Step:
    """F(x (nx,), u (nu,), p (np,), dt) of one state; what it gives does not depend on how many are computed."""
    expressions = sp.lambdify((model.x, model.u, model.p), list(model.xdot), "math", cse=True)
    return lambda x, u, p, dt: runge_kutta(lambda x, u, p: np.array(expressions(x, u, p)), x, u, p, dt)


@cache
def batched_step(model: Model) -> Step:
    """F(x (..., nx), u (..., nu), p (..., np), dt) over leading dimensions that broadcast."""
    expressions = sp.lambdify((model.x, model.u, model.p), list(model.xdot), "numpy", cse=True)

    def f(x: Array, u: Array, p: Array) -> Array:
        rates = expressions(*(np.moveaxis(a, -1, 0) for a in (x, u, p)))
        return np.stack(np.broadcast_arrays(*rates), axis=-1)

    return lambda x, u, p, dt: runge_kutta(f, x, u, p, dt)
