"""What the measurements were taken on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

_PACKAGES = ("deq_mpc_core", "numpy", "numba", "torch", "sympy", "casadi", "mpc", "comma-deps-acados")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def gpu() -> str | None:
    """Name of the CUDA device that torch would use, if there is one."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, system, accelerator, and how busy the machine was before."""
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": _memory_gib(),
        "system": platform.platform(),
        "gpu": gpu(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str | None]:
    """Versions of Python and of every package whose speed shows; None where it is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    where = [*sys.path, str(Path(sys.prefix) / "acados")]  # see bench/peers/acados.py
    for name in _PACKAGES:
        distribution = next(iter(importlib.metadata.distributions(name=name, path=where)), None)
        found[name] = distribution.version if distribution else None
    return found
