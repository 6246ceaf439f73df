"""Count what the solver's kernels compute, by running the very kernels on numbers that count.

    python -m deq_mpc_core.bench.operations MODEL HORIZON SPHERES      with NUMBA_DISABLE_JIT=1

An addition, subtraction, multiplication or division is one operation; sines, roots and comparisons are none.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Runner: TypeAlias = Callable[[], object]
Kernels: TypeAlias = "dict[str, Runner]"


class Tally:
    """Operations done so far by all numbers that count."""

    total = 0


def _counting(name: str) -> Callable[[float, float], Any]:
    plain = getattr(float, name)

    def operation(a: float, b: float) -> Any:
        Tally.total += 1
        return Counted(plain(a, b))

    return operation


class Counted(float):
    """A float that adds every operation it takes part in to `Tally.total`."""

    __slots__ = ()
    __add__ = __radd__ = _counting("__add__")
    __mul__ = __rmul__ = _counting("__mul__")
    __sub__, __rsub__ = _counting("__sub__"), _counting("__rsub__")
    __truediv__, __rtruediv__ = _counting("__truediv__"), _counting("__rtruediv__")

    def __neg__(self) -> Counted:
        return Counted(float.__neg__(self))

    def __abs__(self) -> Counted:
        return Counted(float.__abs__(self))

    def __pow__(self, exponent: Any, modulus: Any = None) -> Any:
        Tally.total += 1  # the kernels only square
        return Counted(float.__pow__(self, exponent))


class _CountingMath:
    """`math` whose results count in what follows."""

    @staticmethod
    def sqrt(value: float) -> Counted:
        return Counted(math.sqrt(value))

    @staticmethod
    def sin(value: float) -> Counted:
        return Counted(math.sin(value))

    @staticmethod
    def cos(value: float) -> Counted:
        return Counted(math.cos(value))


def _counted(a: Any) -> Any:
    """The array with numbers that count."""
    out = np.empty(np.shape(a), object)
    for index, value in np.ndenumerate(a):
        out[index] = Counted(value)
    return out


def newton_parts(kernels: ModuleType, data: Any, tau: Array, duals: Any, mu: float, work: Any) -> Kernels:
    """The parts of one Newton step on one sample, in the order in which they need each other's results."""
    model, riccati, step, _ = work
    lagrangian, riccati_kernels = kernels.lagrangian, kernels.riccati
    return {
        "linearise": lambda: lagrangian.linearise(data, tau, duals, mu, model),
        "factor": lambda: riccati_kernels.factor(model.hess, model.jac, mu, riccati),
        "substitute": lambda: riccati_kernels.substitute(
            model.grad, model.shift, model.jac, riccati, model.vectors, step
        ),
        "slope": lambda: kernels.solve._slope(model, mu, step),
        "lagrangian": lambda: lagrangian.lagrangian(data, tau, duals, mu, model.vectors),
    }


def _count(name: str, horizon: int, spheres: int) -> dict[str, int]:
    """In a process without compilation."""
    from deq_mpc_core.bench.problems import random_problems
    from deq_mpc_core.models import MODELS
    from deq_mpc_core.solver import Data, Duals, cold_state
    from deq_mpc_core.solver.generate import load_kernels

    kernels = load_kernels(MODELS[name]())
    for module in (kernels.slot, kernels.lagrangian):
        module.math = _CountingMath
    problems = random_problems(name, 1, horizon, seed=0, spheres=spheres)
    state = cold_state(problems, 1.0)
    data = Data._make(_counted(a[0]) for a in problems._replace(dt=[0.0]))._replace(dt=Counted(problems.dt))
    tau, duals = _counted(state.tau[0]), Duals._make(_counted(a[0]) for a in state.duals)
    model, riccati, step, trial = kernels.riccati.workspace(horizon)
    model = type(model)._make(map(_counted, model))
    riccati = type(riccati)._make(map(_counted, riccati))
    work = (model, riccati, _counted(step), trial)
    counts = {}
    for part, run in newton_parts(kernels, data, tau, duals, Counted(100.0), work).items():
        before = Tally.total
        run()
        counts[part] = Tally.total - before
    return counts


def count_operations(name: str, horizon: int, spheres: int) -> dict[str, int]:
    """Floating-point operations of each part of one Newton step, see `newton_parts`."""
    command = [sys.executable, "-m", "deq_mpc_core.bench.operations", name, str(horizon), str(spheres)]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_count(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
