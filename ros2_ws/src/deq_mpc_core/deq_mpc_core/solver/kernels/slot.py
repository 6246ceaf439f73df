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


def rk4_tangent(x: Any, u: Any, p: Any, dt: float, out: Any, jac: Any) -> None:
    """Write F(x, u) into out (NX,) and the non-zeros of dF/dz into jac (NX, NZ)."""
    raise NotImplementedError


def envelope(cost_to_go: Any, weight: Any, out: Any) -> bool:
    """Write E = M (P + M)^{-1} M into out; False if P + M is not positive definite."""
    raise NotImplementedError


def add_congruence(envelope: Any, weight: Any, jac: Any, hess: Any) -> None:
    """Add A^T (M - E) A to the lower triangle of hess (NZ, NZ)."""
    raise NotImplementedError


def eliminate(hess: Any, u_chol: Any, gain: Any, cost_to_go: Any) -> bool:
    """Write chol(H_uu), L_u^{-1} H_ux and P = H_xx - gain^T gain; False if H_uu is not positive definite."""
    raise NotImplementedError


def add_pulled_back(jac: Any, y: Any, g: Any) -> None:
    """Add A^T y to g (NZ,)."""
    raise NotImplementedError


def push_forward(jac: Any, z: Any, y: Any) -> None:
    """Write A z into y (NX,)."""
    raise NotImplementedError
