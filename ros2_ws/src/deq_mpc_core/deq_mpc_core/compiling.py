"""Packages that are generated, and machine code that is the same in the process that compiles it as in later ones.

Fast-math lets the compiler round as it likes. numba compiles a function on its own and, optimised once more, as part of
all that call it; in the process that compiles a kernel the linker takes the functions on their own, of a kernel that is
read from the disk those that came with it. So the same kernel would round differently the first time. What is not on
the disk is therefore compiled by a process of its own, and always read. What a power cut left damaged there is removed
and compiled anew.
"""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from numba import typeof

from deq_mpc_core.errors import UserError

GENERATED = "deq_mpc_kernels_"
"""Begins the names of generated packages."""
_SERVE = f"import sys; sys.path[:] = sys.argv[1:]; from {__name__} import serve; serve(sys.stdin.buffer.read())"
"""What the other process runs; its arguments are this one's path."""
_DAMAGED = (EOFError, pickle.UnpicklingError)
"""What numba raises over files that are empty, cut off or full of zeros."""


def import_package(name: str, folder: Path) -> ModuleType:
    """The package in a folder that is on no path.

    Raises:
        ImportError: if there is none.
    """
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import the generated kernels in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def compile_apart(kernel: Any, args: tuple[Any, ...]) -> None:
    """Have the machine code of ``kernel(*args)`` on the disk, and read it, before its first call in this process.

    Kernels here have one signature each, so that it is enough to know whether there is any. If the other process
    fails, this one compiles. What is no kernel of numba's is left alone.

    Raises:
        UserError: if the machine code cannot be written, or is damaged and cannot be replaced.
    """
    if getattr(kernel, "overloads", True):
        return
    signature = tuple(map(typeof, args))
    folder = Path(kernel.stats.cache_path)
    try:
        try:
            _make_ready(kernel, signature)
        except _DAMAGED:
            for file in (*folder.glob("*.nbi"), *folder.glob("*.nbc")):
                file.unlink(missing_ok=True)
            _make_ready(kernel, signature)
    except _DAMAGED as error:
        raise UserError(f"{folder}: compiled kernels are damaged ({error}); delete all __pycache__ folders") from error
    except OSError as error:
        raise UserError(
            f"{folder}: compiled kernels cannot be kept ({error.strerror}); make room, or let the environment variable "
            "DEQ_MPC_CACHE name a folder that can be written"
        ) from error


def _make_ready(kernel: Any, signature: tuple[Any, ...]) -> None:
    """Compiled elsewhere if it is not on the disk, then read."""
    if not _is_on_disk(kernel):
        _compile_elsewhere(kernel, signature)
    kernel.compile(signature)


def _compile_elsewhere(kernel: Any, signature: tuple[Any, ...]) -> None:
    """In a process that imports what this one does, whatever lies in the working directory. It may fail."""
    generated = {name: Path(module.__file__ or "").parent for name, module in _generated().items()}
    order = pickle.dumps((kernel.__module__, kernel.__name__, signature))
    command = [sys.executable, "-c", _SERVE, *map(str, sys.path)]
    with suppress(OSError):
        subprocess.run(command, input=pickle.dumps((generated, order)), stderr=subprocess.DEVNULL, check=False)


def _generated() -> dict[str, ModuleType]:
    """The generated packages of this process, in the order of their import."""
    return {name: module for name, module in sys.modules.items() if name.startswith(GENERATED) and "." not in name}


def _is_on_disk(kernel: Any) -> bool:
    """Whether numba's index of the kernel is there and newer than its source."""
    source = Path(kernel.py_func.__code__.co_filename)
    folder = Path(kernel.stats.cache_path)
    indices = folder.glob(f"{source.stem}.{kernel.py_func.__qualname__}-*.nbi")
    return any(index.stat().st_mtime > source.stat().st_mtime for index in indices)


def serve(request: bytes) -> None:
    """Compile what `compile_apart` asks for."""
    generated, order = pickle.loads(request)
    for name, folder in generated.items():
        import_package(name, folder)
    module, name, signature = pickle.loads(order)
    getattr(importlib.import_module(module), name).compile(signature)
