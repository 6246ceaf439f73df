"""Make the numba kernels of a model: the folder ``kernels`` with ``slot.py`` replaced by the printed model.

The copy lives in a cache folder named by the hash of everything in it, so that numba's disk cache beside it is never
stale and never shared between models. ``DEQ_MPC_CACHE`` moves the cache (default: the user's cache directory).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numba
import numpy as np
from platformdirs import user_cache_dir

if TYPE_CHECKING:
    from deq_mpc_core.models.model import Model

_KERNELS = Path(__file__).parent / "kernels"
_SLOT = "slot.py"
_INCLUDED = ("arrays.py", "globalisation.py")
"""Modules that the kernels import constants and types from."""
_FASTMATH = ("arcp", "contract", "nsz", "reassoc")  # not nnan, ninf: failures are found by looking for NaN


def cache_dir() -> Path:
    """Where generated kernels and their machine code live."""
    return Path(os.environ.get("DEQ_MPC_CACHE") or user_cache_dir("deq_mpc"))


def print_slot(model: Model) -> str:
    """Source of ``slot.py`` for a model. Takes a second and SymPy; an exported policy carries it."""
    from deq_mpc_core.models.printing import print_numba
    from deq_mpc_core.solver.unrolled import print_stage

    return (
        f'"""Printed from the model {model.name}; do not edit."""\n\nimport math\n\nfrom numba import njit\n\n'
        f"FASTMATH = set({_FASTMATH!r})\n{print_numba(model)}\n{print_stage(model)}"
    )


def _write_package(sources: Mapping[str, str], folder: Path) -> None:
    """All files or none: written beside the target and moved into place, so that other processes do not meet halves."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        fresh = Path(scratch) / folder.name
        fresh.mkdir()
        for name, text in sources.items():
            (fresh / name).write_text(text, encoding="utf-8")
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was first: same hash, same content
                raise


def load_package(name: str, sources: Mapping[str, str], context: Iterable[str] = ()) -> ModuleType:
    """Import a generated package.

    Args:
        name: to begin the package's name with.
        sources: text by file name.
        context: text of other modules that end up in the machine code: with the sources, it names the cache folder.
    """
    versions = f"{numba.__version__} {np.__version__} {sys.version}"
    everything = "\0".join([*sorted(sources), *(sources[key] for key in sorted(sources)), *context, versions])
    name = f"{name}_{hashlib.sha256(everything.encode()).hexdigest()[:16]}"
    package = f"deq_mpc_kernels_{name}"
    if package in sys.modules:
        return sys.modules[package]
    folder = cache_dir() / name
    if not folder.is_dir():
        _write_package(sources, folder)
    spec = importlib.util.spec_from_file_location(
        package, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import the generated kernels in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[package] = module
    spec.loader.exec_module(module)
    return module


def kernel_sources() -> dict[str, str]:
    """Text of the kernels by file name, without the slot's."""
    paths = (path for path in sorted(_KERNELS.glob("*.py")) if path.name != _SLOT)
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


@cache
def load_printed(name: str, slot: str) -> ModuleType:
    """Import the kernels of a printed model: a package with a module for each file in ``kernels``.

    Args:
        name: the model's.
        slot: see `print_slot`.
    """
    imported = [(_KERNELS.parent / included).read_text(encoding="utf-8") for included in _INCLUDED]
    module = load_package(name, {**kernel_sources(), _SLOT: slot}, imported)
    for part in ("rk4", "lagrangian", "riccati", "solve", "adjoint"):
        importlib.import_module(f"{module.__name__}.{part}")
    return module


@cache
def load_kernels(model: Model) -> ModuleType:
    """Import the kernels of a model."""
    return load_printed(model.name, print_slot(model))
