"""CasADi's interior-point solvers, IPOPT and fatrop, on the problem that this project solves.

Variables are ordered by knot (x_0, u_0, x_1, u_1, ...) and so are the constraints: the dynamics that leave knot t, then
the spheres of knot t, which is the order in which fatrop finds its stages. Spheres are written squared: the same set
without the root's kink. A sample's data are parameters, so that one programme serves a whole batch.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any, NamedTuple

import casadi as ca
import numpy as np
import sympy as sp
from numpy.typing import NDArray

from deq_mpc_core.bench.integration import runge_kutta
from deq_mpc_core.bench.peers import Found, MissingPeerError
from deq_mpc_core.models import Model
from deq_mpc_core.solver.arrays import Data

Array = NDArray[np.float64]

_FUNCTIONS = ("sin", "cos", "tan", "exp", "log", "sqrt", "tanh")
_COMPILER_FLAGS = "-O3 -march=native"


class Shape(NamedTuple):
    """What is compiled into a programme."""

    horizon: int
    spheres: int
    dt: float


def shape_of(data: Data) -> Shape:
    """The shape of a batch's samples."""
    return Shape(data.x_ref.shape[1], data.radii.shape[1], float(data.dt))


def continuous_dynamics(model: Model) -> ca.Function:
    """x_dot = f(x, u, p)."""
    x, u, p = (ca.SX.sym(name, n) for name, n in (("x", model.nx), ("u", model.nu), ("p", len(model.p))))
    functions = {name: getattr(ca, name) for name in _FUNCTIONS}
    expressions = sp.lambdify((model.x, model.u, model.p), list(model.xdot), modules=[functions], cse=True)
    rates = expressions(ca.vertsplit(x), ca.vertsplit(u), ca.vertsplit(p))
    return ca.Function("dynamics", [x, u, p], [ca.vertcat(*rates)])


def _step(model: Model, dt: float) -> ca.Function:
    """F(x, u, p): Runge-Kutta 4 over one knot."""
    x, u, p = (ca.SX.sym(name, n) for name, n in (("x", model.nx), ("u", model.nu), ("p", len(model.p))))
    f = continuous_dynamics(model)
    return ca.Function("step", [x, u, p], [runge_kutta(f, x, u, p, dt)])


def _knot_sizes(model: Model, spheres: int) -> list[int]:
    """Entries of a knot's data: x_ref, u_ref, q, r, centres, as `_parameters` writes them."""
    return [model.nx, model.nu, model.nx, model.nu, 3 * spheres]


def _knot_cost(model: Model, spheres: int) -> ca.Function:
    """1/2 |x - x_ref|^2_q + 1/2 |u - u_ref|^2_r of (x, u, the knot's data)."""
    sizes = _knot_sizes(model, spheres)
    x, u, data = ca.SX.sym("x", model.nx), ca.SX.sym("u", model.nu), ca.SX.sym("data", sum(sizes))
    x_ref, u_ref, q, r, _ = ca.vertsplit(data, [0, *np.cumsum(sizes).tolist()])
    return ca.Function("cost", [x, u, data], [ca.dot(q, (x - x_ref) ** 2) / 2 + ca.dot(r, (u - u_ref) ** 2) / 2])


def _clearance(model: Model, spheres: int) -> ca.Function:
    """|pos - centre|^2 - radius |radius| >= 0 of (x, the knot's data, radii): always so where a radius <= 0."""
    sizes = _knot_sizes(model, spheres)
    x, data, radii = ca.SX.sym("x", model.nx), ca.SX.sym("data", sum(sizes)), ca.SX.sym("radii", spheres)
    centres = data[sum(sizes[:-1]) :]
    apart = [x[list(model.position)] - centres[3 * j : 3 * j + 3] for j in range(spheres)]
    return ca.Function(
        "clearance",
        [x, data, radii],
        [ca.vertcat(*(ca.sumsqr(a) - radii[j] * ca.fabs(radii[j]) for j, a in enumerate(apart)))],
    )


def programme(model: Model, shape: Shape) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """The nonlinear programme and which of its constraints are equations."""
    horizon, spheres, dt = shape
    step, cost, clearance = _step(model, dt), _knot_cost(model, spheres), _clearance(model, spheres)
    knot_size = sum(_knot_sizes(model, spheres))
    x = [ca.MX.sym(f"x_{t}", model.nx) for t in range(horizon)]
    u = [ca.MX.sym(f"u_{t}", model.nu) for t in range(horizon)]
    data = [ca.MX.sym(f"data_{t}", knot_size) for t in range(horizon)]
    p, radii = ca.MX.sym("p", len(model.p)), ca.MX.sym("radii", spheres)
    constraints: list[ca.MX] = []
    equation: list[bool] = []
    for t in range(horizon):
        if t + 1 < horizon:
            constraints.append(x[t + 1] - step(x[t], u[t], p))
            equation += [True] * model.nx
        if t > 0 and spheres:
            constraints.append(clearance(x[t], data[t], radii))
            equation += [False] * spheres
    nlp = {
        "x": ca.vertcat(*(v for pair in zip(x, u, strict=True) for v in pair)),
        "p": ca.vertcat(*data, p, radii),
        "f": sum(cost(x[t], u[t], data[t]) for t in range(horizon)),
        "g": ca.vertcat(*constraints),
    }
    return nlp, np.array(equation, dtype=bool)


def _parameters(data: Data, b: int) -> Array:
    horizon = data.x_ref.shape[1]
    knots = [data.x_ref[b], data.u_ref[b], data.q[b], data.r[b], data.centres[b].reshape(horizon, -1)]
    return np.concatenate([np.concatenate(knots, axis=1).ravel(), data.p[b], data.radii[b]])


@dataclass(frozen=True)
class CasadiProgramme:
    """A solver that is ready for any sample of one shape."""

    solver: Any
    model: Model
    equation: NDArray[np.bool_]

    def arguments(self, data: Data, b: int, start: Array) -> dict[str, Array]:
        """Sample b from the plan ``start`` (T, nz), as CasADi takes it."""
        nx = self.model.nx
        lower, upper = np.array(data.lower[b]), np.array(data.upper[b])
        lower[0, :nx] = upper[0, :nx] = data.x_init[b]
        return {
            "x0": start.ravel(),
            "p": _parameters(data, b),
            "lbx": lower.ravel(),
            "ubx": upper.ravel(),
            "lbg": np.zeros(self.equation.size),
            "ubg": np.where(self.equation, 0.0, np.inf),
        }

    def solve(self, arguments: dict[str, Array]) -> Found:
        """Solve what `arguments` made."""
        found = self.solver(**arguments)
        stats = self.solver.stats()
        nz = self.model.nx + self.model.nu
        return Found(np.array(found["x"]).reshape(-1, nz), bool(stats["success"]), int(stats["iter_count"]))


def casadi_programme(
    model: Model, shape: Shape, plugin: str, tolerance: float, *, compiled: bool = False
) -> CasadiProgramme:
    """IPOPT or fatrop for one shape; ``compiled``: derivatives as machine code of the C compiler, else interpreted.

    Raises:
        MissingPeerError: if this CasADi lacks the plug-in, or there is no compiler.
    """
    if not ca.has_nlpsol(plugin):
        raise MissingPeerError(f"this CasADi has no {plugin}")
    nlp, equation = programme(model, shape)
    inner: dict[str, Any] = {"print_level": 0, "tol": tolerance, "max_iter": 500}
    options: dict[str, Any] = {"print_time": False, "error_on_fail": False, plugin: inner}
    if plugin == "ipopt":
        inner |= {"sb": "yes"}
    if plugin == "fatrop":
        options |= {"structure_detection": "auto", "equality": equation.tolist()}
    if compiled:
        if shutil.which("gcc") is None:
            raise MissingPeerError("no gcc to compile the derivatives with")
        options |= {"jit": True, "compiler": "shell", "jit_options": {"compiler": "gcc", "flags": _COMPILER_FLAGS}}
        options |= {"jit_temp_suffix": True}
    else:
        options |= {"expand": True}
    return CasadiProgramme(ca.nlpsol("solver", plugin, nlp, options), model, equation)


class CasadiPeer:
    """IPOPT or fatrop on a batch, see `Peer`."""

    def __init__(
        self, model: Model, data: Data, starts: Array, plugin: str, tolerance: float, *, compiled: bool
    ) -> None:
        self.engine = f"CasADi + {plugin}" + (", compiled" if compiled else "")
        self.note = f"derivatives by gcc {_COMPILER_FLAGS}" if compiled else "derivatives interpreted (expand)"
        self._programme = casadi_programme(model, shape_of(data), plugin, tolerance, compiled=compiled)
        self._arguments = [self._programme.arguments(data, b, starts[b]) for b in range(len(starts))]
        self._next = self._arguments[0]

    def prepare(self, b: int) -> None:
        """Choose sample b."""
        self._next = self._arguments[b]

    def run(self) -> Found:
        """Solve the chosen sample from the cold start."""
        return self._programme.solve(self._next)

    def solve(self, b: int) -> Found:
        """Solve sample b from the cold start."""
        self.prepare(b)
        return self.run()
