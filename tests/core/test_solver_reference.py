"""The solver against CasADi and IPOPT on random problems, written down a second time from the same symbolic model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import casadi as ca
import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray
from solver_problems import MODELS, PROBLEMS, cost, take

from deq_mpc_core.models import Model
from deq_mpc_core.solver import CpuEngine, Data, SolverOptions, Status, cold_state

Array = NDArray[np.float64]

SAMPLES = 30
TIGHT = SolverOptions(al_iterations=60, newton_steps=20, tolerance=1e-6, newton_tolerance=1e-8)


def rk4_casadi(model: Model, dt: float) -> ca.Function:
    x, u, p = (ca.SX.sym(name, n) for name, n in (("x", model.nx), ("u", model.nu), ("p", len(model.p))))
    functions = {name: getattr(ca, name) for name in ("sin", "cos")}
    xdot = sp.lambdify((model.x, model.u, model.p), list(model.xdot), modules=[functions])

    def f(x: ca.SX) -> ca.SX:
        return ca.vertcat(*xdot(ca.vertsplit(x), ca.vertsplit(u), ca.vertsplit(p)))

    k1 = f(x)
    k2 = f(x + dt / 2 * k1)
    k3 = f(x + dt / 2 * k2)
    k4 = f(x + dt * k3)
    return ca.Function("step", [x, u, p], [x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)])


@dataclass(frozen=True)
class Reference:
    """One nonlinear programme in the shape of the data; its parameters are the data of a sample."""

    solver: Any
    model: Model
    horizon: int

    def solve(self, data: Data, b: int) -> tuple[Array, bool]:
        """Plan (T, nz) of sample b from the cold start and whether IPOPT found a feasible optimum."""
        nx, horizon = self.model.nx, self.horizon
        lower, upper = np.array(data.lower[b]), np.array(data.upper[b])
        lower[0, :nx] = upper[0, :nx] = data.x_init[b]
        spheres = data.radii.shape[1] * (horizon - 1)
        start = cold_state(data, 1.0).tau[b]
        arrays = (data.x_ref, data.u_ref, data.q, data.r, data.centres, data.radii, data.p)
        zeros = np.zeros(nx * (horizon - 1))
        found = self.solver(
            x0=start.ravel(),
            p=np.concatenate([a[b].ravel() for a in arrays]),
            lbx=lower.ravel(),
            ubx=upper.ravel(),
            lbg=np.concatenate([zeros, np.zeros(spheres)]),
            ubg=np.concatenate([zeros, np.full(spheres, np.inf)]),
        )
        return np.array(found["x"]).reshape(horizon, -1), bool(self.solver.stats()["success"])


def reference(model: Model, data: Data) -> Reference:
    horizon, nx, nu = data.x_ref.shape[1], model.nx, model.nu
    spheres, step = data.radii.shape[1], rk4_casadi(model, data.dt)
    z = ca.SX.sym("z", nx + nu, horizon)  # CasADi fills by columns, numpy by rows: one knot is one column
    x_ref, u_ref, q, r, p = (
        ca.SX.sym(name, rows, columns)
        for name, rows, columns in (
            ("x_ref", nx, horizon),
            ("u_ref", nu, horizon),
            ("q", nx, horizon),
            ("r", nu, horizon),
            ("p", len(model.p), 1),
        )
    )
    centres, radii = ca.SX.sym("centres", 3, horizon * spheres), ca.SX.sym("radii", spheres)
    x, u = z[:nx, :], z[nx:, :]
    objective = ca.sum(ca.sum(q * (x - x_ref) ** 2)) / 2 + ca.sum(ca.sum(r * (u - u_ref) ** 2)) / 2
    dynamics = [x[:, t + 1] - step(x[:, t], u[:, t], p) for t in range(horizon - 1)]
    clearance = [
        ca.sumsqr(x[list(model.position), t] - centres[:, t * spheres + j]) - radii[j] ** 2
        for t in range(1, horizon)
        for j in range(spheres)
    ]
    parameters = ca.vertcat(*(ca.vec(a) for a in (x_ref, u_ref, q, r, centres, radii, p)))
    problem = {"x": ca.vec(z), "p": parameters, "f": objective, "g": ca.vertcat(*dynamics, *clearance)}
    options = {"ipopt": {"print_level": 0, "sb": "yes", "tol": 1e-9, "max_iter": 500}, "print_time": False}
    return Reference(ca.nlpsol("reference", "ipopt", problem, options), model, horizon)


def violations(model: Model, data: Data, tau: Array) -> Array:
    """Largest violation (B,) of dynamics, bounds and spheres, in SI units, by CasADi's dynamics."""
    nx, step = model.nx, rk4_casadi(model, data.dt)
    worst = np.zeros(len(tau))
    for b in range(len(tau)):
        x, u = tau[b, :, :nx], tau[b, :, nx:]
        following = np.array(step.map(len(x) - 1)(x[:-1].T, u[:-1].T, np.tile(data.p[b][:, None], len(x) - 1))).T
        over = np.maximum(tau[b] - data.upper[b], data.lower[b] - tau[b])
        over[0, :nx] = np.abs(x[0] - data.x_init[b])
        depth = [0.0]
        if model.position:
            distance = np.linalg.norm(x[:, None, list(model.position)] - data.centres[b], axis=-1)
            depth = (data.radii[b] - distance)[1:].ravel()
        worst[b] = max(np.abs(x[1:] - following).max(), over.max(), np.max(depth, initial=0.0))
    return worst


@pytest.mark.parametrize("name", MODELS)
def test_reaches_the_optimum_that_ipopt_finds(name: str) -> None:
    model, data = MODELS[name], PROBLEMS[name](SAMPLES, seed=1)
    ipopt = reference(model, data)
    plans, success = zip(*(ipopt.solve(data, b) for b in range(SAMPLES)), strict=True)
    feasible = np.flatnonzero(success)
    assert len(feasible) >= 0.8 * SAMPLES, "the random problems were meant to be feasible"
    data, expected = take(data, feasible), np.stack(plans)[feasible]

    solution = CpuEngine(model, threads=1).solve(data, cold_state(data, 1.0), TIGHT)

    tau = solution.state.tau
    assert (solution.status == Status.CONVERGED).all()
    assert violations(model, data, tau).max() < 1e-4
    assert (violations(model, data, expected) < 1e-4).all(), "the two formulations are not the same problem"
    excess = cost(data, tau) / cost(data, expected) - 1.0
    assert excess.max() < 1e-4
    constrained = sum((a > 0.0).any(axis=(1, 2)) for a in solution.state.duals[1:])
    assert (constrained > 0).sum() >= 10, "the random problems were meant to touch their constraints"
