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
from functools import cache
from pathlib import Path
from types import ModuleType

import numba
import numpy as np
from platformdirs import user_cache_dir

from deq_mpc_core.models.model import Model
from deq_mpc_core.models.printing import print_numba
from deq_mpc_core.solver.unrolled import print_stage

_KERNELS = Path(__file__).parent / "kernels"
_FASTMATH = ("arcp", "contract", "nsz", "reassoc")  # not nnan, ninf: failures are found by looking for NaN


def cache_dir() -> Path:
    """Where generated kernels and their machine code live."""
    return Path(os.environ.get("DEQ_MPC_CACHE") or user_cache_dir("deq_mpc"))


def _sources(model: Model) -> dict[str, str]:
    sources = {path.name: path.read_text(encoding="utf-8") for path in sorted(_KERNELS.glob("*.py"))}
    sources["slot.py"] = (
        f'"""Printed from the model {model.name}; do not edit."""\n\nimport math\n\nfrom numba import njit\n\n'
        f"FASTMATH = set({_FASTMATH!r})\n{print_numba(model)}\n{print_stage(model)}"
    )
    return sources


def _write_package(sources: dict[str, str], folder: Path) -> None:
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


@cache
def load_kernels(model: Model) -> ModuleType:
    """Import the kernels of a model: a package with a module for each file in ``kernels``."""
    sources = _sources(model)
    imported = [(_KERNELS.parent / name).read_text(encoding="utf-8") for name in ("arrays.py", "globalisation.py")]
    versions = f"{numba.__version__} {np.__version__} {sys.version}"
    everything = "\0".join([*sorted(sources), *sources.values(), *imported, versions])
    digest = hashlib.sha256(everything.encode()).hexdigest()[:16]
    name = f"{model.name}_{digest}"
    folder = cache_dir() / name
    if not folder.is_dir():
        _write_package(sources, folder)
    package = f"deq_mpc_kernels_{name}"
    init = folder / "__init__.py"
    spec = importlib.util.spec_from_file_location(package, init, submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import the generated kernels in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[package] = module
    spec.loader.exec_module(module)
    for part in ("rk4", "lagrangian", "riccati", "solve", "adjoint"):
        importlib.import_module(f"{package}.{part}")
    return module
