"""Compiles the numerical kernels by flying: numba keeps their machine code on disk, and later flights start at once.

numba looks only at the file of a compiled function to see whether its machine code is stale, not at the files of the
functions it calls. So whatever lies beside the sources is forgotten first; the Makefile comes here when a source with
compiled functions has changed. Generated kernels need no such care: ``deq_mpc_core/solver/generate.py``.
"""

from __future__ import annotations

from pathlib import Path

from deq_mpc_core.checkpoint import default_checkpoint
from deq_mpc_sim.campaign import Flight, SceneArguments, fly

SOURCES = Path(__file__).resolve().parents[1] / "ros2_ws" / "src"


def forget_machine_code(folder: Path) -> None:
    """Remove numba's files (index .nbi, code .nbc) below a folder."""
    for path in folder.rglob("__pycache__/*.nb[ci]"):
        path.unlink(missing_ok=True)


def main() -> None:
    """Fly the policies that need no training and, in a checkout that has its checkpoint, the shipped one."""
    forget_machine_code(SOURCES)
    policies = ["straight-line", "expert"]
    if default_checkpoint().is_file():
        policies.append("default")
    for policy in policies:
        fly(Flight(policy, SceneArguments("clutter", "moving", 0.15, 0.5), seed=0, index=0))


if __name__ == "__main__":
    main()
