"""One definition of each dynamics model: x_dot = f(x, u; p), symbolic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sympy as sp


@dataclass(frozen=True)
class Model:
    """Continuous-time dynamics x_dot = f(x, u; p).

    Attributes:
        name: identifier; names the printed modules.
        x, u, p: state, input and parameter symbols (nx, nu, np of them).
        xdot: nx expressions in x, u and p.
        x_scale, u_scale: natural magnitude of each state and input, in its unit. Constraint residuals are measured in
            these units, so that one penalty serves metres and newtons alike.
        position: indices of the three states that obstacles constrain, or () if the model has none.
    """

    name: str
    x: tuple[sp.Symbol, ...]
    u: tuple[sp.Symbol, ...]
    p: tuple[sp.Symbol, ...]
    xdot: tuple[sp.Expr, ...]
    x_scale: tuple[float, ...]
    u_scale: tuple[float, ...]
    position: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        import sympy as sp

        if len(self.xdot) != len(self.x) or len(self.x_scale) != len(self.x) or len(self.u_scale) != len(self.u):
            raise ValueError(f"model {self.name}: xdot and x_scale need {len(self.x)} entries, u_scale {len(self.u)}")
        if len(self.position) not in (0, 3):
            raise ValueError(f"model {self.name}: position must name three states or none")
        unknown = sp.Matrix(self.xdot).free_symbols - set(self.x) - set(self.u) - set(self.p)
        if unknown:
            raise ValueError(f"model {self.name}: {sorted(map(str, unknown))} are neither state, input nor parameter")

    @property
    def nx(self) -> int:
        """Number of states."""
        return len(self.x)

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return len(self.u)
