"""CPU engine: the numba kernels behind the engine interface."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.models.model import Model
from deq_mpc_core.solver import arrays
from deq_mpc_core.solver.arrays import Data, Duals, Gradients, Options
from deq_mpc_core.solver.engine import check_adjoint_shapes, check_model, check_shapes, zero_failures
from deq_mpc_core.solver.generate import load_kernels
from deq_mpc_core.solver.solution import Array, Solution, SolverOptions, SolverState
from deq_mpc_core.threads import available_threads, over_batch

_FLOAT64 = np.dtype(np.float64)


def _is_plain(a: Any) -> bool:
    """A fifth of the time that `np.require` takes to find out the same."""
    return type(a) is np.ndarray and a.dtype is _FLOAT64 and a.flags.carray


def _plain(a: Any) -> Array:
    """The array as kernels are compiled for; any other kind, a read-only one say, would compile them once more."""
    return a if _is_plain(a) else np.require(a, np.float64, ["C", "A", "W"])


def _copy(a: Any) -> Array:
    """A plain array of the caller's numbers."""
    return a.copy() if _is_plain(a) else np.array(a, dtype=np.float64, order="C")


def _plain_data(data: Data) -> Data:
    *arrays, dt = data
    return Data._make([*map(_plain, arrays), float(dt)])


def _plain_options(options: SolverOptions) -> Options:
    return Options(
        int(options.al_iterations),
        int(options.newton_steps),
        float(options.penalty_growth),
        float(options.penalty_max),
        float(options.tolerance),
        float(options.newton_tolerance),
    )


class CpuEngine:
    """Numba kernels, compiled once per model and cached on disk, over ``threads`` threads (default: all cores).

    A batch is cut into ranges of samples; what a sample gets does not depend on the cut.
    """

    def __init__(self, model: Model, *, threads: int | None = None) -> None:
        check_model(model)
        if threads is not None and threads < 1:
            raise ValueError(f"an engine needs at least one thread, not {threads}")
        self.model = model
        self.threads = threads if threads is not None else available_threads()
        self._kernels = load_kernels(model)

    def solve(self, data: Data, state: SolverState, options: SolverOptions) -> Solution:
        """See `Engine.solve`. Raises ValueError on shapes that do not fit together."""
        check_shapes(self.model, data, state)
        tau, duals = _copy(state.tau), Duals._make(map(_copy, state.duals))
        batch = tau.shape[0]
        out = np.empty((batch, arrays.REPORTED))
        kernel = self._kernels.solve.solve_range
        work = (_plain_data(data), tau, duals, _plain(state.penalty), _plain_options(options), out)
        over_batch(self.threads, batch, kernel, *work)
        return Solution(
            state=SolverState(tau, duals, out[:, arrays.NEXT_PENALTY].copy()),
            status=out[:, arrays.STATUS].astype(np.int64),
            dynamics=out[:, arrays.DYNAMICS],
            violation=out[:, arrays.VIOLATION],
            complementarity=out[:, arrays.COMPLEMENTARITY],
            decrement=out[:, arrays.DECREMENT],
            al_iterations=out[:, arrays.AL_ITERATIONS].astype(np.int64),
            newton_steps=out[:, arrays.NEWTON_STEPS].astype(np.int64),
            penalty=out[:, arrays.PENALTY].copy(),
        )

    def adjoint(
        self, data: Data, solution: Solution, tau_bar: Array, *, exact: bool = True
    ) -> tuple[Gradients, NDArray[np.int64]]:
        """See `Engine.adjoint` and ``kernels/adjoint.py``."""
        check_adjoint_shapes(self.model, data, solution, tau_bar)
        data, state = _plain_data(data), solution.state
        tau, duals = _plain(state.tau), Duals._make(_plain(a) for a in state.duals)
        grads = Gradients(*(np.empty_like(getattr(data, name)) for name in Gradients._fields))
        g = _plain(tau_bar)
        how = np.empty(g.shape[0])
        work = (data, tau, duals, _plain(solution.penalty), bool(exact), g, np.empty_like(g), grads, how)
        over_batch(self.threads, g.shape[0], self._kernels.adjoint.adjoint_range, *work)
        kinds = how.astype(np.int64)
        zero_failures(grads, kinds, solution)
        return grads, kinds
