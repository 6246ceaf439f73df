"""Suite ``kernels``: where a Newton step's time goes, and what share of the core's peak its parts reach.

Per knot: the difference between a long and a short horizon, which leaves out the call from Python. The peak is what
this core reaches in a product of float64 matrices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from deq_mpc_core.bench.operations import Runner, count_operations, newton_parts
from deq_mpc_core.bench.problems import random_problems
from deq_mpc_core.bench.row import BenchOptions, Row
from deq_mpc_core.bench.torch_threads import torch_threads
from deq_mpc_core.models import MODELS
from deq_mpc_core.solver import Data, Duals, cold_state
from deq_mpc_core.solver.generate import load_kernels

Array = NDArray[np.float64]

_WORKS = (("crazyflie", 40), ("quadrotor", 0))
"""Model and number of spheres: the flight's, and the paper's."""
_SHORT, _LONG, _COUNTED = 1, 101, 11
_REPETITIONS = 20
_PEAK_SIZE = 512


def _parts(name: str, horizon: int, spheres: int) -> dict[str, Runner]:
    """The parts of a Newton step on one sample of this horizon, compiled."""
    kernels = load_kernels(MODELS[name]())
    problems = random_problems(name, 1, horizon, seed=0, spheres=spheres)
    state = cold_state(problems, 1.0)
    data = Data._make(np.ascontiguousarray(a[0]) for a in problems._replace(dt=[0.0]))._replace(dt=problems.dt)
    duals = Duals._make(np.ascontiguousarray(a[0]) for a in state.duals)
    work = kernels.riccati.workspace(horizon)
    return newton_parts(kernels, data, state.tau[0].copy(), duals, 100.0, work)


def _times(run: Callable[[], object], rounds: int) -> Array:
    """Microseconds of a call, for each round."""
    run()
    taken = np.empty(rounds)
    for i in range(rounds):
        begin = time.perf_counter()
        for _ in range(_REPETITIONS):
            run()
        taken[i] = 1e6 * (time.perf_counter() - begin) / _REPETITIONS
    return taken


def peak_gflops(rounds: int = 10) -> float:
    """Billions of float64 operations a second of one core in a product of matrices, the best of some rounds."""
    a = torch.rand(_PEAK_SIZE, _PEAK_SIZE, dtype=torch.float64)
    with torch_threads(1):
        best = float(_times(lambda: torch.mm(a, a), rounds).min())
    return 2e-3 * _PEAK_SIZE**3 / best


def operations_per_knot(name: str, spheres: int) -> dict[str, float]:
    """Of each part of a Newton step, on the problem that is timed."""
    few, many = (count_operations(name, horizon, spheres) for horizon in (1, _COUNTED))
    return {part: (many[part] - few[part]) / (_COUNTED - 1) for part in few}


def suite(options: BenchOptions) -> Iterator[Row]:
    """Per knot, one row a part of the Newton step; ratio: the part's share of the step."""
    rounds = 20 if options.quick else 100
    peak = peak_gflops()
    for name, spheres in _WORKS:
        long, short = (_parts(name, horizon, spheres) for horizon in (_LONG, _SHORT))
        counts = operations_per_knot(name, spheres)
        times = {
            part: (_times(long[part], rounds) - np.median(_times(short[part], rounds))) / (_LONG - _SHORT)
            for part in long
        }
        total = sum(float(np.median(taken)) for taken in times.values())
        for part, taken in times.items():
            median = float(np.median(taken))
            rate = 1e-3 * counts[part] / median
            note = f"{counts[part]:.0f} operations, {rate:.1f} GFLOP/s, {rate / peak:.0%} of the core's {peak:.0f}"
            work = f"{part}, {name}, {spheres} spheres, per knot"
            p99 = float(np.percentile(taken, 99))
            yield Row(work, "cpu engine", 1, 1, _LONG, 1e-3 * median, 1e-3 * p99, median / total, note)
