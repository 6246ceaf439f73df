"""One definition of each dynamics model: x_dot = f(x, u; p), symbolic."""

from __future__ import annotations

import keyword
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sympy as sp


@dataclass(frozen=True)
class Model:
    """Continuous-time dynamics x_dot = f(x, u; p).

    Raises ValueError, saying what is wrong, for what cannot be printed as kernels.

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
        if not self.name.isidentifier() or keyword.iskeyword(self.name):
            raise ValueError(f"a model's name has to be an identifier, not {self.name!r}")
        if not self.x:
            raise ValueError(f"model {self.name} has no state")
        if len(self.xdot) != len(self.x) or len(self.x_scale) != len(self.x) or len(self.u_scale) != len(self.u):
            raise ValueError(f"model {self.name}: xdot and x_scale need {len(self.x)} entries, u_scale {len(self.u)}")
        if any(not 0.0 < scale < math.inf for scale in (*self.x_scale, *self.u_scale)):
            raise ValueError(f"model {self.name}: scales have to be positive and finite")
        if self.position and (len(set(self.position)) != 3 or not set(self.position) <= set(range(len(self.x)))):
            raise ValueError(
                f"model {self.name}: position has to name three different states or none, not {self.position}"
            )
        self._check_equations()

    def _check_equations(self) -> None:
        import sympy as sp

        symbols = (*self.x, *self.u, *self.p)
        if len(set(symbols)) != len(symbols):
            raise ValueError(f"model {self.name}: a symbol stands for two of its states, inputs and parameters")
        if sp.Matrix(self.xdot).has(sp.nan, sp.zoo, sp.oo, -sp.oo, sp.I):
            raise ValueError(f"model {self.name}: xdot has to be real and finite")
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
