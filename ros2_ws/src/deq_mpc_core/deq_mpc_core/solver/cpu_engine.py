"""CPU engine: the numba kernels behind the engine interface."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from deq_mpc_core.models.model import Model
from deq_mpc_core.solver.arrays import Data, Duals, Gradients, Options
from deq_mpc_core.solver.generate import load_kernels
from deq_mpc_core.solver.solution import Array, Solution, SolverOptions, SolverState


class Engine(Protocol):
    """Solves batches of problems of one model."""

    model: Model

    def solve(self, data: Data, state: SolverState, options: SolverOptions) -> Solution:
        """Run augmented-Lagrangian iterations from ``state``; pure."""
        ...


def check_shapes(model: Model, data: Data, state: SolverState) -> None:
    """Raise ValueError with the offending array and the shape it should have."""
    batch, horizon = data.x_ref.shape[:2]
    spheres = data.radii.shape[-1]
    nz = model.nx + model.nu
    if horizon < 1:
        raise ValueError("the horizon has no knots; x_ref needs shape (B, T, nx) with T >= 1")
    if spheres and not model.position:
        raise ValueError(f"model {model.name} has no position that spheres could constrain; pass radii of shape (B, 0)")
    expected = {
        "x_init": (batch, model.nx),
        "x_ref": (batch, horizon, model.nx),
        "u_ref": (batch, horizon, model.nu),
        "q": (batch, horizon, model.nx),
        "r": (batch, horizon, model.nu),
        "lower": (batch, horizon, nz),
        "upper": (batch, horizon, nz),
        "centres": (batch, horizon, spheres, 3),
        "radii": (batch, spheres),
        "p": (batch, len(model.p)),
    }
    got = {name: getattr(data, name).shape for name in expected}
    expected |= {"tau": (batch, horizon, nz), "eta": (batch, horizon - 1, model.nx), "penalty": (batch,)}
    expected |= {"dual lower": (batch, horizon, nz), "dual upper": (batch, horizon, nz)}
    expected |= {"dual sphere": (batch, horizon, spheres)}
    got |= {"tau": state.tau.shape, "eta": state.duals.eta.shape, "penalty": state.penalty.shape}
    got |= {"dual lower": state.duals.lower.shape, "dual upper": state.duals.upper.shape}
    got |= {"dual sphere": state.duals.sphere.shape}
    for name, shape in expected.items():
        if got[name] != shape:
            raise ValueError(f"{name} has shape {got[name]}, expected {shape} for model {model.name}")


def _contiguous(data: Data) -> Data:
    return Data(*(np.ascontiguousarray(a, dtype=np.float64) for a in data[:-1]), float(data.dt))


class CpuEngine:
    """Numba kernels, compiled once per model and cached on disk, over ``threads`` threads (default: the machine's cores).

    A batch is cut into one range of samples a thread; what a sample gets does not depend on the cut.
    """

    def __init__(self, model: Model, *, threads: int | None = None) -> None:
        self.model = model
        self.threads = threads if threads is not None else len(os.sched_getaffinity(0))
        self._kernels = load_kernels(model)
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="deq_mpc_solver") if self.threads > 1 else None

    def _over_batch(self, kernel: Callable[..., None], batch: int, *args: Any) -> None:
        if self._pool is None or batch < 2:
            kernel(*args, 0, batch)
            return
        cuts = np.linspace(0, batch, min(self.threads, batch) + 1).astype(int)
        jobs = [self._pool.submit(kernel, *args, int(a), int(b)) for a, b in itertools.pairwise(cuts)]
        for job in jobs:
            job.result()

    def solve(self, data: Data, state: SolverState, options: SolverOptions) -> Solution:
        """See `Engine.solve`. Raises ValueError on shapes that do not fit together."""
        check_shapes(self.model, data, state)
        tau = np.array(state.tau, dtype=np.float64, order="C")
        duals = Duals(*(np.array(a, dtype=np.float64, order="C") for a in state.duals))
        batch = tau.shape[0]
        out = np.empty((batch, 8))
        kernel = self._kernels.solve.solve_range
        self._over_batch(kernel, batch, _contiguous(data), tau, duals, state.penalty, _options(options), out)
        return Solution(
            state=SolverState(tau, duals, out[:, 7].copy()),
            status=out[:, 0].astype(np.int64),
            dynamics=out[:, 1],
            violation=out[:, 2],
            decrement=out[:, 3],
            al_iterations=out[:, 4].astype(np.int64),
            newton_steps=out[:, 5].astype(np.int64),
            penalty=out[:, 6].copy(),
        )

    def adjoint(self, data: Data, solution: Solution, tau_bar: Array, *, exact: bool = True) -> tuple[Gradients, Array]:
        """Gradients of a loss whose gradient with respect to the plan is tau_bar (B, T, nz), see ``kernels/adjoint.py``.

        Returns the gradients and (B,) how each was found: 0 exact Hessian, 1 Gauss-Newton, 2 failed (zeros).
        """
        data = _contiguous(data)
        grads = Gradients(*(np.empty_like(getattr(data, name)) for name in Gradients._fields))
        how = np.empty(tau_bar.shape[0])
        g = np.ascontiguousarray(tau_bar, dtype=np.float64)
        state = solution.state
        work = (data, state.tau, state.duals, solution.penalty, exact, g, np.empty_like(g), grads, how)
        self._over_batch(self._kernels.adjoint.adjoint_range, tau_bar.shape[0], *work)
        return grads, how


def _options(options: SolverOptions) -> Options:
    return Options(*(getattr(options, name) for name in Options._fields))
