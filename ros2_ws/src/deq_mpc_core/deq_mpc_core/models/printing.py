"""Print a symbolic model as source code: scalar functions for numba, batched ones for torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import sympy as sp
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.pycode import PythonCodePrinter

from deq_mpc_core.models.model import Model

_INDENT = "    "


class _NumbaPrinter(PythonCodePrinter):
    """Negative powers as quotients: where a base vanishes they are infinite, and numba's powers raise."""

    def _print_Pow(self, expr: sp.Pow, rational: bool = False) -> str:
        if expr.exp.is_Integer and expr.exp < -1:
            return f"(1.0 / {self.parenthesize(sp.Pow(expr.base, -expr.exp), PRECEDENCE['Pow'])})"
        return str(super()._print_Pow(expr, rational=rational))


_print_for_numba = _NumbaPrinter({"fully_qualified_modules": True}).doprint


class _TorchPrinter(PythonCodePrinter):
    """Elementary functions as torch calls."""

    _kf: ClassVar[dict[str, str]] = {
        **PythonCodePrinter._kf,
        **{name: f"torch.{name}" for name in ("sin", "cos", "tan", "exp", "log", "sqrt", "tanh")},
    }

    def _print(self, expr: sp.Basic, **kwargs: Any) -> str:
        constant = isinstance(expr, sp.Function) and not expr.free_symbols  # torch's functions refuse numbers
        return repr(float(expr)) if constant else str(super()._print(expr, **kwargs))

    def _print_Pow(self, expr: sp.Pow, rational: bool = False) -> str:
        return str(self._hprint_Pow(expr, rational=rational, sqrt="torch.sqrt" if expr.free_symbols else "math.sqrt"))


def function_body(
    model: Model, outputs: Sequence[tuple[str, sp.Expr]], printer: Callable[[sp.Expr], str] = _print_for_numba
) -> list[str]:
    """Lines that unpack the symbols in use, share common subexpressions and assign each (target, expression)."""
    renamed, unpack = {}, {}
    for array, symbols in (("x", model.x), ("u", model.u), ("p", model.p), ("w", weights(model))):
        for i, symbol in enumerate(symbols):  # printed names are our own: a user's symbol may be called `s` or `math`
            renamed[symbol] = sp.Symbol(f"{array}_{i}", real=True)
            unpack[renamed[symbol]] = f"{array}_{i} = {array}[{i}]"
    exprs = [sp.sympify(expr).xreplace(renamed) for _, expr in outputs]
    shared, reduced = sp.cse(exprs, symbols=sp.numbered_symbols("s_"), order="none")
    used = set().union(*(e.free_symbols for e in reduced), *(e.free_symbols for _, e in shared))
    lines = [line for symbol, line in unpack.items() if symbol in used]
    lines += [f"{s} = {printer(e)}" for s, e in shared]
    return lines + [f"{target} = {printer(e)}" for (target, _), e in zip(outputs, reduced, strict=True)]


def weights(model: Model) -> tuple[sp.Symbol, ...]:
    """Symbols of the weights w in w^T f, one a state."""
    return sp.symbols(f"weight_0:{model.nx}", real=True)


def _function(signature: str, doc: str, lines: Sequence[str]) -> str:
    return "\n".join([f"def {signature}:", f'{_INDENT}"""{doc}"""', *(_INDENT + line for line in lines), ""])


def print_jitted(signature: str, doc: str, lines: Sequence[str]) -> str:
    """A numba function of the kernels' slot, see ``solver/generate.py``."""
    decorator = '@njit(cache=True, fastmath=FASTMATH, error_model="numpy")'
    return f"{decorator}\n{_function(signature, doc, lines)}"


def jacobian_entries(model: Model) -> list[tuple[int, int, sp.Expr]]:
    """Non-zero partials (i, j, df_i/dz_j) with z = (x, u)."""
    z = (*model.x, *model.u)
    jac = sp.Matrix(model.xdot).jacobian(sp.Matrix(z))
    return [(i, j, jac[i, j]) for i in range(model.nx) for j in range(len(z)) if jac[i, j] != 0]


def hessian_entries(model: Model) -> list[tuple[int, int, sp.Expr]]:
    """Non-zero entries (i, j <= i) of the Hessian of w^T f with respect to z = (x, u)."""
    z = (*model.x, *model.u)
    weighted = sum(w * f for w, f in zip(weights(model), model.xdot, strict=True))
    gradient = [sp.diff(weighted, s) for s in z]
    entries = [(i, j, sp.diff(gradient[i], z[j])) for i in range(len(z)) for j in range(i + 1)]
    return [(i, j, e) for i, j, e in entries if e != 0]


def print_numba(model: Model) -> str:
    """Source of a module with NX, NU, NZ, NP, Z_SCALE, POSITION and the jitted functions f, f_tangent and f_hessian.

    ``f(x, u, p, dx)`` writes x_dot. ``f_tangent(x, u, p, s, dx, ds)`` also writes the tangent ds = f_x s + [0, f_u] of
    a tangent s = dx/d(x, u) of shape (NX, NZ), touching only the non-zero partials. ``f_hessian(x, u, p, w, h)`` writes
    the Hessian (NZ, NZ) of w^T f.
    """
    nx, nz = model.nx, model.nx + model.nu
    header = [
        f"NX, NU, NZ, NP = {nx}, {model.nu}, {nz}, {len(model.p)}",
        f"Z_SCALE = {(*model.x_scale, *model.u_scale)!r}",
        f"POSITION = {model.position!r}",
        "",
    ]
    values = [(f"dx[{i}]", e) for i, e in enumerate(model.xdot)]
    entries = jacobian_entries(model)
    partials = [(f"j_{i}_{j}", e) for i, j, e in entries]
    tangent = function_body(model, values + partials)
    for i in range(nx):
        terms = [f"j_{r}_{j} * s[{j}, col]" for r, j, _ in entries if r == i and j < nx]
        tangent += ["for col in range(NZ):", f"{_INDENT}ds[{i}, col] = {' + '.join(terms) or '0.0'}"]
        tangent += [f"ds[{i}, {j}] += j_{i}_{j}" for r, j, _ in entries if r == i and j >= nx]
    second = hessian_entries(model)
    hessian = ["h[:, :] = 0.0", *function_body(model, [(f"h[{i}, {j}]", e) for i, j, e in second])]
    hessian += [f"h[{j}, {i}] = h[{i}, {j}]" for i, j, _ in second if i != j]
    functions = [
        print_jitted("f(x, u, p, dx)", "x_dot = f(x, u; p).", function_body(model, values)),
        print_jitted("f_tangent(x, u, p, s, dx, ds)", "x_dot and ds = f_x s + [0, f_u].", tangent),
        print_jitted("f_hessian(x, u, p, w, h)", "Hessian of w^T f.", hessian),
    ]
    return "\n".join([*header, *functions])


def print_torch(model: Model) -> str:
    """Source of ``f(x, u, p)`` on torch tensors with the state in the last dimension, any leading batch dimensions."""
    printer = _TorchPrinter({"fully_qualified_modules": True}).doprint
    values = [(f"dx_{i}", e) for i, e in enumerate(model.xdot)]
    lines = ["x, u, p = x.unbind(-1), u.unbind(-1), p.unbind(-1)", *function_body(model, values, printer)]
    constants = [name for name, e in values if not sp.sympify(e).free_symbols]
    lines += [f"{name} = torch.full_like(x[0], {name})" for name in constants]
    lines.append(f"return torch.stack(torch.broadcast_tensors({', '.join(name for name, _ in values)}), dim=-1)")
    return "import math\n\nimport torch\n\n\n" + _function("f(x, u, p)", "x_dot = f(x, u; p).", lines)
