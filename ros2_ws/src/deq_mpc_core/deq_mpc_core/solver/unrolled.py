"""Print a stage's arithmetic as straight-line code in which only the model's non-zeros appear.

At a dozen states a loop costs more than what it computes: on one 2.6 GHz core the envelope of 13 states takes 1.4 us as
loops and 0.4 us as the same operations written out. ``kernels/riccati.py`` has the equations; `generate` puts the
printed functions into the kernels' slot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from deq_mpc_core.models.model import Model
from deq_mpc_core.models.printing import function_body, jacobian_entries, print_jitted

Entry = tuple[int, int]
Pattern = frozenset[Entry]
_LOCAL = re.compile(r"\b(x|s|j|dx)_(?=\d)")


def _stage_patterns(model: Model) -> tuple[list[Pattern], Pattern]:
    """Non-zeros (i, c) of each stage's tangent ds = f_x s + [0, f_u], and of F's Jacobian, z = (x, u)."""
    partials = [(i, j) for i, j, _ in jacobian_entries(model)]
    identity = {(i, i) for i in range(model.nx)}
    tangent, stages = identity, []
    for _ in range(4):
        slope = {(i, c) for i, j in partials if j < model.nx for r, c in tangent if r == j}
        slope |= {(i, j) for i, j in partials if j >= model.nx}
        stages.append(frozenset(slope))
        tangent = slope | identity
    return stages, frozenset(identity.union(*stages))


def _sum(terms: Iterable[str]) -> str:
    return " + ".join(terms) or "0.0"


def _rows(pattern: Pattern, column: int) -> list[int]:
    return sorted(i for i, c in pattern if c == column)


def _unpack(symbol: str, count: int) -> list[str]:
    return [f"{symbol}_{i} = {symbol}[{i}]" for i in range(count)]


class _Jacobian:
    """How the printed code reads dF/dz: entries that are always one cost nothing."""

    def __init__(self, model: Model) -> None:
        stages, self.pattern = _stage_patterns(model)
        moving = frozenset().union(*stages)
        self._ones = {(i, c) for i, c in self.pattern if i == c and (i, c) not in moving}
        self.stages = stages

    def load(self) -> list[str]:
        """Lines that read the entries into locals."""
        return [f"a_{i}_{c} = jac[{i}, {c}]" for i, c in sorted(self.pattern - self._ones)]

    def times(self, i: int, c: int, factor: str) -> str:
        """The product of entry (i, c) and a factor."""
        return factor if (i, c) in self._ones else f"a_{i}_{c} * {factor}"


def _tangent_stage(model: Model, stage: int, patterns: Sequence[Pattern]) -> list[str]:
    """f, its partials and ds of one Runge-Kutta stage, whose argument is in the locals x{stage}_i."""
    partials = jacobian_entries(model)
    outputs = [(f"dx_{i}", e) for i, e in enumerate(model.xdot)] + [(f"j_{i}_{j}", e) for i, j, e in partials]
    lines = [_LOCAL.sub(rf"\g<1>{stage}_", line) for line in function_body(model, outputs) if "[" not in line]
    for i, c in sorted(patterns[stage]):
        terms = []
        for row, j, _ in partials:
            if row != i:
                continue
            if j == c:  # the identity in s, or the input itself
                terms.append(f"j{stage}_{i}_{j}")
            if j < model.nx and stage > 0 and (j, c) in patterns[stage - 1]:
                terms.append(f"j{stage}_{i}_{j} * t{stage}_{j}_{c}")
        lines.append(f"d{stage}_{i}_{c} = {_sum(terms)}")
    return lines


def print_rk4_tangent(model: Model) -> str:
    """``rk4_tangent(x, u, p, dt, out, jac)``: out = F(x, u) and the non-zeros of jac = dF/dz (NX, NZ)."""
    jacobian, nx = _Jacobian(model), model.nx
    lines = [f"x0_{i} = x[{i}]" for i in range(nx)] + _unpack("u", model.nu) + _unpack("p", len(model.p))
    lines += ["half = 0.5 * dt", "sixth = dt / 6.0", "third = dt / 3.0"]
    for stage in range(4):
        if stage > 0:
            reach = "dt" if stage == 3 else "half"
            lines += [f"x{stage}_{i} = x0_{i} + {reach} * dx{stage - 1}_{i}" for i in range(nx)]
            slopes = sorted(jacobian.stages[stage - 1])
            lines += [f"t{stage}_{i}_{c} = {reach} * d{stage - 1}_{i}_{c}" for i, c in slopes]
        lines += _tangent_stage(model, stage, jacobian.stages)
    for i in range(nx):
        lines.append(f"out[{i}] = x0_{i} + sixth * (dx0_{i} + dx3_{i}) + third * (dx1_{i} + dx2_{i})")
    for i, c in sorted(jacobian.pattern):
        outer, inner = (
            _sum(f"d{stage}_{i}_{c}" for stage in stages if (i, c) in jacobian.stages[stage])
            for stages in ((0, 3), (1, 2))
        )
        identity = "1.0 + " if i == c else ""
        lines.append(f"jac[{i}, {c}] = {identity}sixth * ({outer}) + third * ({inner})")
    return print_jitted("rk4_tangent(x, u, p, dt, out, jac)", "F(x, u) and the non-zeros of its Jacobian.", lines)


def print_envelope(n: int) -> str:
    """``envelope(P, m, E)``: E = M (P + M)^{-1} M for P (n, n), of which the lower triangle is read, M = diag(m).

    With P + M = L L^T and V = L^{-1} M, a lower triangle, E = V^T V. Returns False if P + M is not positive definite.
    """
    lines = _unpack("m", n)
    for j in range(n):
        known = "".join(f" - l_{j}_{k} * l_{j}_{k}" for k in range(j))
        lines += [f"pivot = P[{j}, {j}] + m_{j}{known}", "if not pivot > 0.0:", "    return False"]
        lines.append(f"r_{j} = 1.0 / math.sqrt(pivot)")
        for i in range(j + 1, n):
            known = "".join(f" - l_{i}_{k} * l_{j}_{k}" for k in range(j))
            lines.append(f"l_{i}_{j} = (P[{i}, {j}]{known}) * r_{j}")
    for j in range(n):
        lines.append(f"v_{j}_{j} = m_{j} * r_{j}")
        for i in range(j + 1, n):
            lines.append(f"v_{i}_{j} = -({_sum(f'l_{i}_{k} * v_{k}_{j}' for k in range(j, i))}) * r_{i}")
    for i in range(n):
        for j in range(i + 1):
            lines.append(f"e = {_sum(f'v_{k}_{i} * v_{k}_{j}' for k in range(i, n))}")
            lines += [f"E[{i}, {j}] = e"] + ([f"E[{j}, {i}] = e"] if i != j else [])
    return print_jitted("envelope(P, m, E)", "E = M (P + M)^{-1} M.", [*lines, "return True"])


def print_congruence(model: Model) -> str:
    """``add_congruence(E, m, jac, h)``: h += A^T (M - E) A in the lower triangle of h (NZ, NZ), A = jac."""
    jacobian, nx = _Jacobian(model), model.nx
    lines = [*_unpack("m", nx), *jacobian.load()]
    for i in range(nx):
        lines += [f"e_{i}_{j} = {f'm_{i} ' if i == j else ''}-E[{i}, {j}]" for j in range(i + 1)]
    for c in range(model.nx + model.nu):
        rows = _rows(jacobian.pattern, c)
        lines += [
            f"b_{k} = {_sum(jacobian.times(r, c, f'e_{max(k, r)}_{min(k, r)}') for r in rows)}" for k in range(nx)
        ]
        for i in range(c, model.nx + model.nu):
            lines.append(f"h[{i}, {c}] += {_sum(jacobian.times(k, i, f'b_{k}') for k in _rows(jacobian.pattern, i))}")
    return print_jitted("add_congruence(E, m, jac, h)", "h += A^T (M - E) A, lower triangle.", lines)


def print_elimination(nx: int, nu: int) -> str:
    """``eliminate(h, c, gain, P)``: the inputs leave the stage Hessian h (NZ, NZ), of which the lower triangle is read.

    c: Cholesky factor of H_uu with its diagonal inverted; gain = c^{-1} H_ux; P = H_xx - gain^T gain, lower triangle.
    Returns False if H_uu is not positive definite.
    """
    lines = []
    for j in range(nu):
        known = "".join(f" - c_{j}_{k} * c_{j}_{k}" for k in range(j))
        lines += [f"pivot = h[{nx + j}, {nx + j}]{known}", "if not pivot > 0.0:", "    return False"]
        lines.append(f"c_{j}_{j} = 1.0 / math.sqrt(pivot)")
        for i in range(j + 1, nu):
            known = "".join(f" - c_{i}_{k} * c_{j}_{k}" for k in range(j))
            lines.append(f"c_{i}_{j} = (h[{nx + i}, {nx + j}]{known}) * c_{j}_{j}")
    lines += [f"c[{i}, {j}] = c_{i}_{j}" for i in range(nu) for j in range(i + 1)]
    for i in range(nu):
        for j in range(nx):
            known = "".join(f" - c_{i}_{k} * g_{k}_{j}" for k in range(i))
            lines += [f"g_{i}_{j} = (h[{nx + i}, {j}]{known}) * c_{i}_{i}", f"gain[{i}, {j}] = g_{i}_{j}"]
    for i in range(nx):
        for j in range(i + 1):
            lines.append(f"P[{i}, {j}] = h[{i}, {j}]" + "".join(f" - g_{k}_{i} * g_{k}_{j}" for k in range(nu)))
    return print_jitted("eliminate(h, c, gain, P)", "Factors of H_uu and the cost to go.", [*lines, "return True"])


def print_products(model: Model) -> str:
    """``add_pulled_back(jac, y, g)``: g (NZ,) += A^T y, and ``push_forward(jac, z, y)``: y (NX,) = A z; A = jac."""
    jacobian, nx, nz = _Jacobian(model), model.nx, model.nx + model.nu
    back = [*_unpack("y", nx), *jacobian.load()]
    back += [f"g[{c}] += {_sum(jacobian.times(i, c, f'y_{i}') for i in _rows(jacobian.pattern, c))}" for c in range(nz)]
    forward = [*_unpack("z", nz), *jacobian.load()]
    for i in range(nx):
        columns = sorted(c for r, c in jacobian.pattern if r == i)
        forward.append(f"y[{i}] = {_sum(jacobian.times(i, c, f'z_{c}') for c in columns)}")
    return "\n".join(
        [
            print_jitted("add_pulled_back(jac, y, g)", "g += A^T y.", back),
            print_jitted("push_forward(jac, z, y)", "y = A z.", forward),
        ]
    )


def print_stage(model: Model) -> str:
    """Source of every function above, for the slot of the kernels."""
    return "\n".join(
        [
            print_rk4_tangent(model),
            print_envelope(model.nx),
            print_congruence(model),
            print_elimination(model.nx, model.nu),
            print_products(model),
        ]
    )
