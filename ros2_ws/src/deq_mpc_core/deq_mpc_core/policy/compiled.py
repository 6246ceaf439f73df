"""Compile ``flight_step.py`` together with the solver's kernels of the Crazyflie's model.

The template is written to a generated package of its own, named by the hash of everything that ends up in its machine
code, so that numba's disk cache beside it, which looks at no file but the function's own, is never stale.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any

from deq_mpc_core.solver.generate import digest, kernel_sources, load_package, load_printed, printer_sources

_ROOT = Path(__file__).parents[1]
_TEMPLATE = "policy/flight_step.py"
_INCLUDED = (
    "features/dimensions.py",
    "features/flight.py",
    "networks/flight_kernels.py",
    "networks/flight_weights.py",
    "networks/packing.py",
    "solver/arrays.py",
)
"""Modules whose code or constants the step is compiled with, besides the solver's kernels."""
_MODEL = "crazyflie"


def _read(name: str) -> str:
    return (_ROOT / name).read_text(encoding="utf-8")


@cache
def kernel_digest() -> str:
    """Names the solver's kernels and the form in which they want a model printed."""
    kernels = kernel_sources()
    return digest([*(kernels[name] for name in sorted(kernels)), *printer_sources()])


@cache
def load_step(slot: str) -> Any:
    """The module ``flight_step`` with the kernels of a model printed as ``slot``."""
    kernels = load_printed(_MODEL, slot)
    source = _read(_TEMPLATE).replace("deq_mpc_core.solver.kernels", kernels.__name__)
    package = load_package(f"{_MODEL}_step", {"__init__.py": "", "step.py": source}, map(_read, _INCLUDED))
    return importlib.import_module(f"{package.__name__}.step")
