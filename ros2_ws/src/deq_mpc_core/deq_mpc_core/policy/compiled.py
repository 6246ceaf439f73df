"""Compile ``flight_step.py`` together with the solver's kernels of the Crazyflie's model.

The template is written to a generated package of its own, named by the hash of everything that ends up in its machine
code, so that numba's disk cache beside it, which looks at no file but the function's own, is never stale.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deq_mpc_core.outputs import write_file
from deq_mpc_core.solver.generate import cache_dir, kernel_sources, load_package, load_printed, print_slot

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
_PRINTERS = ("models/model.py", "models/printing.py", "solver/unrolled.py", "solver/generate.py")
"""Modules that decide how a model is printed."""
_MODEL, _MODEL_SOURCE = "crazyflie", "models/crazyflie.py"


def _read(name: str) -> str:
    return (_ROOT / name).read_text(encoding="utf-8")


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@cache
def kernel_digest() -> str:
    """Names the solver's kernels and the form in which they want a model printed."""
    kernels = kernel_sources()
    return _digest([*(kernels[name] for name in sorted(kernels)), *map(_read, _PRINTERS)])


def _kept_slot() -> Path:
    """Where this installation keeps the printed model."""
    made_of = _digest([*map(_read, (*_PRINTERS, _MODEL_SOURCE)), version("sympy")])
    return cache_dir() / f"{_MODEL}_slot_{made_of[:16]}.py"


def is_own_slot(slot: str) -> bool:
    """Whether this installation has printed the very same model."""
    kept = _kept_slot()
    return kept.is_file() and kept.read_text(encoding="utf-8") == slot


@cache
def crazyflie_slot() -> str:
    """Printed source of the model, see ``solver.generate.print_slot``; kept on disk, as printing takes two seconds."""
    kept = _kept_slot()
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    from deq_mpc_core.models.crazyflie import crazyflie_model

    slot = print_slot(crazyflie_model())
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_file(kept, slot.encode())
    return slot


@cache
def load_step(slot: str) -> Any:
    """The module ``flight_step`` with the kernels of a model printed as ``slot``."""
    kernels = load_printed(_MODEL, slot)
    source = _read(_TEMPLATE).replace("deq_mpc_core.solver.kernels", kernels.__name__)
    package = load_package(f"{_MODEL}_step", {"__init__.py": "", "step.py": source}, map(_read, _INCLUDED))
    return importlib.import_module(f"{package.__name__}.step")
