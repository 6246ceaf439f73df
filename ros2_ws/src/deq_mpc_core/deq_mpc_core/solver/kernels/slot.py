"""Where the printed model goes: ``solver/generate.py`` replaces this file. The stubs are for linters to look at."""

from __future__ import annotations

from typing import Any

NX, NU, NZ, NP = 1, 1, 2, 1
Z_SCALE: tuple[float, ...] = (1.0, 1.0)
POSITION: tuple[int, ...] = ()
FASTMATH: set[str] = set()


def f(x: Any, u: Any, p: Any, dx: Any) -> None:
    """Write x_dot = f(x, u; p) into dx."""
    raise NotImplementedError


def f_tangent(x: Any, u: Any, p: Any, s: Any, dx: Any, ds: Any) -> None:
    """Write x_dot into dx and f_x s + [0, f_u] into ds."""
    raise NotImplementedError


def f_hessian(x: Any, u: Any, p: Any, w: Any, h: Any) -> None:
    """Write the Hessian of w^T f with respect to (x, u) into h."""
    raise NotImplementedError
