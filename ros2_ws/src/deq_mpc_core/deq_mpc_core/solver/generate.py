"""Make the numba kernels of a model: the folder ``kernels`` with ``slot.py`` replaced by the printed model.

The copy lives in a cache folder named by the hash of everything in it, so that numba's disk cache beside it is never
stale and never shared between models. Printed models are kept there too, named by the hash of what they were printed
from. ``DEQ_MPC_CACHE`` moves the cache (default: the user's cache directory).
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numba
import numpy as np
from platformdirs import user_cache_dir

from deq_mpc_core.compiling import GENERATED, import_package
from deq_mpc_core.errors import UserError
from deq_mpc_core.outputs import write_file

if TYPE_CHECKING:
    from deq_mpc_core.models.model import Model

_ROOT = Path(__file__).parents[1]
_KERNELS = Path(__file__).parent / "kernels"
_SLOT = "slot.py"
_INCLUDED = ("arrays.py", "globalisation.py")
"""Modules that the kernels import constants and types from."""
_PRINTERS = ("models/model.py", "models/printing.py", "solver/unrolled.py", "solver/generate.py")
"""Modules that decide how a model is printed."""
FASTMATH = ("arcp", "contract", "nsz", "reassoc")  # not nnan, ninf: failures are found by looking for NaN


def cache_dir() -> Path:
    """Where generated kernels and their machine code live."""
    return Path(os.environ.get("DEQ_MPC_CACHE") or user_cache_dir("deq_mpc"))


@contextmanager
def _usable_cache() -> Iterator[None]:
    """Says whose the fault is if the cache cannot be used."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{cache_dir()}: cannot keep kernels there ({error.strerror}); let the environment variable DEQ_MPC_CACHE "
            "name a folder that can be written"
        ) from error


def digest(texts: Iterable[str]) -> str:
    """Names some texts, in their order."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@cache
def printer_sources() -> tuple[str, ...]:
    """Text of the modules that decide how a model is printed."""
    return tuple((_ROOT / name).read_text(encoding="utf-8") for name in _PRINTERS)


def print_slot(model: Model) -> str:
    """Source of ``slot.py`` for a model. Takes up to a second and a half; see `model_slot`."""
    from deq_mpc_core.models.printing import print_numba
    from deq_mpc_core.solver.unrolled import print_stage

    return (
        f'"""Printed from the model {model.name}; do not edit."""\n\nimport math\n\nfrom numba import njit\n\n'
        f"FASTMATH = set({FASTMATH!r})\n{print_numba(model)}\n{print_stage(model)}"
    )


def _slot_path(name: str, equations: Iterable[str]) -> Path:
    """Where the model of these equations, as text, is kept printed."""
    return cache_dir() / f"{name}_slot_{digest([*equations, *printer_sources(), version('sympy')])[:16]}.py"


def _keep_slot(path: Path, make: Callable[[], str]) -> str:
    """The slot at the path, which is made if there is none yet; processes that make it at once write the same."""
    with _usable_cache():
        if path.is_file():
            return path.read_text(encoding="utf-8")
        path.parent.mkdir(parents=True, exist_ok=True)
    slot = make()
    write_file(path, slot.encode())
    return slot


def model_slot(model: Model) -> str:
    """`print_slot`, kept on disk by the model's equations."""
    from sympy import srepr

    equations = srepr((model.x, model.u, model.p, model.xdot))
    constants = repr((model.name, model.x_scale, model.u_scale, model.position))
    return _keep_slot(_slot_path(model.name, (equations, constants)), lambda: print_slot(model))


def _shipped_path(name: str) -> Path:
    """By the text of all the shipped models, which is there before SymPy is."""
    return _slot_path(name, (path.read_text(encoding="utf-8") for path in sorted((_ROOT / "models").glob("*.py"))))


@cache
def shipped_slot(name: str) -> str:
    """`model_slot` of a shipped model; once printed, it comes without SymPy. An exported policy carries it."""
    from deq_mpc_core.models import MODELS

    return _keep_slot(_shipped_path(name), lambda: model_slot(MODELS[name]()))


def is_shipped_slot(name: str, slot: str) -> bool:
    """Whether this installation has printed the very same text for a shipped model."""
    path = _shipped_path(name)
    return path.is_file() and path.read_text(encoding="utf-8") == slot


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


def _restore(sources: Mapping[str, str], folder: Path) -> None:
    """Write anew what is not as it was written: a power cut leaves files empty, and users edit them."""
    for name, text in sources.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != text.encode():
            write_file(path, text.encode())


def load_package(name: str, sources: Mapping[str, str], context: Iterable[str] = ()) -> ModuleType:
    """Import a generated package.

    Args:
        name: to begin the package's name with.
        sources: text by file name.
        context: text of other modules that end up in the machine code: with the sources, it names the cache folder.
    """
    versions = f"{numba.__version__} {np.__version__} {sys.version}"
    everything = [*sorted(sources), *(sources[key] for key in sorted(sources)), *context, versions]
    name = f"{name}_{digest(everything)[:16]}"
    package = f"{GENERATED}{name}"
    if package in sys.modules:
        return sys.modules[package]
    folder = cache_dir() / name
    with _usable_cache():
        if not folder.is_dir():
            _write_package(sources, folder)
        _restore(sources, folder)
    return import_package(package, folder)


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
    return load_printed(model.name, model_slot(model))


def load_shipped_kernels(name: str) -> ModuleType:
    """`load_kernels` of a shipped model, without SymPy once it has been printed."""
    return load_printed(name, shipped_slot(name))
