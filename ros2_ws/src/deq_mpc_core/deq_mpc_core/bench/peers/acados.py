"""acados: sequential quadratic programming over stages, its own generated C code and HPIPM, on this project's problem.

The wheel brings libraries of its own beside a CasADi that would replace the one in use, so it is installed apart from
the other packages: into ``acados`` below the environment's prefix, see ``requirements/acados.txt``. The input of the
last knot moves nothing: acados does not see it, and its optimum is its reference within its bounds.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import shutil
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.bench.peers import Found, MissingPeerError
from deq_mpc_core.bench.peers.casadi_ocp import continuous_dynamics
from deq_mpc_core.models import Model
from deq_mpc_core.solver.arrays import Data

Array = NDArray[np.float64]

_LIBRARIES = ("libblasfeo.so", "libhpipm.so", "libqpOASES_e.so.3.1")
_FAR = 1e12
"""acados takes a bound this far away for none."""
_L1, _L2 = 250.0, 1000.0
"""Weights of a sphere's violation. The first is twice the largest multiplier of `scenes.corridor`'s optima: they do not
violate it. With the second at 300 or at 3000, HPIPM fails in one of 64 scenes here and there."""
_OPTIONS = {
    "integrator_type": "ERK",
    "sim_method_num_stages": 4,
    "sim_method_num_steps": 1,
    "nlp_solver_type": "SQP",
    "nlp_solver_max_iter": 100,
    "hessian_approx": "EXACT",
    "regularize_method": "CONVEXIFY",
    "globalization": "FIXED_STEP",
    "qp_solver": "PARTIAL_CONDENSING_HPIPM",
    "qp_solver_cond_N": 3,
    "qp_solver_warm_start": 1,
    "hpipm_mode": "SPEED",
    "ext_fun_compile_flags": "-O3 -march=native",
    "print_level": 0,
}
"""The quickest of those that reach all optima of 64 scenes of `scenes.corridor`, seed 0. CPU time of a solve, median:
these 2.6 ms, HPIPM's balanced mode 3.3, without condensing 3.4, Gauss-Newton 3.1, which stops one at 100 iterations."""


def _template() -> Any:
    """acados' Python interface; its environment variables say where the wheel's libraries and templates are."""
    folder = Path(sys.prefix) / "acados"
    if not (folder / "acados").is_dir():
        raise MissingPeerError("not installed; scripts/install_peers.sh installs it")
    if shutil.which("gcc") is None or shutil.which("make") is None:
        raise MissingPeerError("no gcc and make to build its generated code with")
    os.environ["ACADOS_SOURCE_DIR"] = str(folder / "acados" / "install")
    os.environ["ACADOS_PYTHON_INTERFACE_PATH"] = str(folder / "acados" / "acados_template")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # at the end: the CasADi in use stays in use
    for library in _LIBRARIES:  # they name each other without a path
        ctypes.CDLL(str(folder / "acados" / "install" / "lib" / library), mode=ctypes.RTLD_GLOBAL)
    return importlib.import_module("acados.acados_template")


def _ocp(template: Any, model: Model, data: Data, tolerance: float) -> Any:
    """The optimal control problem with sample 0's numbers, which `AcadosPeer` replaces."""
    nx, nu, spheres, horizon = model.nx, model.nu, data.radii.shape[1], data.x_ref.shape[1]
    x, u, p = ca.SX.sym("x", nx), ca.SX.sym("u", nu), ca.SX.sym("p", len(model.p))
    centres, radii = ca.SX.sym("centres", 3 * spheres), ca.SX.sym("radii", spheres)
    ocp = template.AcadosOcp()
    ocp.model.name, ocp.model.x, ocp.model.u, ocp.model.p = model.name, x, u, ca.vertcat(p, centres, radii)
    ocp.model.f_expl_expr = continuous_dynamics(model)(x, u, p)
    ocp.dims.N = horizon - 1
    ocp.parameter_values = np.zeros(len(model.p) + 4 * spheres)
    cost, limits = ocp.cost, ocp.constraints
    cost.cost_type = cost.cost_type_e = "LINEAR_LS"
    cost.Vx, cost.Vu, cost.Vx_e = np.eye(nx + nu, nx), np.eye(nx + nu, nu, -nx), np.eye(nx)
    cost.W, cost.W_e, cost.yref, cost.yref_e = np.eye(nx + nu), np.eye(nx), np.zeros(nx + nu), np.zeros(nx)
    limits.x0 = data.x_init[0]
    limits.idxbu, limits.lbu, limits.ubu = np.arange(nu), np.full(nu, -_FAR), np.full(nu, _FAR)
    bounded = _bounded_states(data, nx)
    limits.idxbx = limits.idxbx_e = bounded
    limits.lbx = limits.lbx_e = np.full(bounded.size, -_FAR)
    limits.ubx = limits.ubx_e = np.full(bounded.size, _FAR)
    if spheres:
        apart = [x[list(model.position)] - centres[3 * j : 3 * j + 3] for j in range(spheres)]
        clear = ca.vertcat(*(ca.sumsqr(a) - radii[j] * ca.fabs(radii[j]) for j, a in enumerate(apart)))
        ocp.model.con_h_expr = ocp.model.con_h_expr_e = clear
        limits.lh = limits.lh_e = np.zeros(spheres)
        limits.uh = limits.uh_e = np.full(spheres, _FAR)
        _soften(ocp, spheres, float(data.dt))
    for option, value in _OPTIONS.items():
        setattr(ocp.solver_options, option, value)
    ocp.solver_options.tf, ocp.solver_options.tol = float(data.dt) * (horizon - 1), tolerance
    return ocp


def _soften(ocp: Any, spheres: int, dt: float) -> None:
    """Spheres behind an exact L1 penalty: hard ones make the first linearisation, of the cold start, infeasible.

    As all stage costs, acados takes the weights before the last knot times dt.
    """
    ocp.constraints.idxsh = ocp.constraints.idxsh_e = np.arange(spheres)
    for name, weight in (("zl", _L1), ("zu", _L1), ("Zl", _L2), ("Zu", _L2)):
        setattr(ocp.cost, name, np.full(spheres, weight / dt))
        setattr(ocp.cost, f"{name}_e", np.full(spheres, weight))


def _bounded_states(data: Data, nx: int) -> NDArray[np.int64]:
    """The states that any sample bounds behind x_0."""
    bounded = np.isfinite(data.lower[:, 1:, :nx]) | np.isfinite(data.upper[:, 1:, :nx])
    return np.flatnonzero(bounded.any((0, 1)))


def _near(bound: Array) -> Array:
    """Bounds with infinity replaced by what the quadratic programme's solver can compute with."""
    return np.clip(bound, -_FAR, _FAR)


class AcadosPeer:
    """acados on a batch, see `Peer`."""

    engine = "acados SQP + HPIPM"
    note = (
        "generated C, ERK4, exact Hessian convexified, full steps, HPIPM for speed, spheres as exact L1 penalties;"
        " options chosen on other scenes (seed 0); data set outside the clock"
    )

    def __init__(self, model: Model, data: Data, starts: Array, tolerance: float) -> None:
        template = _template()
        self._model, self._data, self._starts = model, data, starts
        self._bounded = _bounded_states(data, model.nx)
        folder = Path(tempfile.mkdtemp(prefix="acados_"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        ocp = _ocp(template, model, data, tolerance)
        ocp.code_export_directory = str(folder / "code")
        with contextlib.redirect_stdout(io.StringIO()):
            self._solver = template.AcadosOcpSolver(ocp, str(folder / "ocp.json"), verbose=False)

    def prepare(self, b: int) -> None:
        """Give sample b and the cold start to the solver."""
        data, solver, nx, last = self._data, self._solver, self._model.nx, self._data.x_ref.shape[1] - 1
        tau = self._starts[b]
        solver.reset()
        for t in range(last + 1):
            solver.set(t, "p", np.concatenate([data.p[b], data.centres[b, t].ravel(), data.radii[b]]))
            solver.set(t, "x", tau[t, :nx])
            q, reference = data.q[b, t], data.x_ref[b, t]
            if t < last:  # its stage costs are integrals: times dt
                solver.set(t, "u", tau[t, nx:])
                q, reference = (
                    np.concatenate([q, data.r[b, t]]) / data.dt,
                    np.concatenate([reference, data.u_ref[b, t]]),
                )
                solver.constraints_set(t, "lbu", _near(data.lower[b, t, nx:]))
                solver.constraints_set(t, "ubu", _near(data.upper[b, t, nx:]))
            solver.cost_set(t, "W", np.diag(q))
            solver.cost_set(t, "yref", reference)
            if t > 0:
                solver.constraints_set(t, "lbx", _near(data.lower[b, t, self._bounded]))
                solver.constraints_set(t, "ubx", _near(data.upper[b, t, self._bounded]))
        solver.constraints_set(0, "lbx", data.x_init[b])
        solver.constraints_set(0, "ubx", data.x_init[b])

    def run(self) -> int:
        """Solve what `prepare` gave; acados' status, 0 for success."""
        return int(self._solver.solve())

    def solve(self, b: int) -> Found:
        """Solve sample b from the cold start."""
        self.prepare(b)
        status = self.run()
        data, solver, nx, last = self._data, self._solver, self._model.nx, self._data.x_ref.shape[1] - 1
        tau = np.empty_like(self._starts[b])
        for t in range(last + 1):
            tau[t, :nx] = solver.get(t, "x")
            if t < last:
                tau[t, nx:] = solver.get(t, "u")
        tau[last, nx:] = np.clip(data.u_ref[b, last], data.lower[b, last, nx:], data.upper[b, last, nx:])
        return Found(tau, status == 0, int(np.ravel(solver.get_stats("sqp_iter"))[0]))
