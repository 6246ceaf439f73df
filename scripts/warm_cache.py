"""Compiles the numerical kernels by flying: numba keeps their machine code on disk, and later flights start at once."""

from __future__ import annotations

from deq_mpc_core.checkpoint import default_checkpoint
from deq_mpc_sim.campaign import Flight, SceneArguments, fly


def main() -> None:
    """Fly the policies that need no training and, in a checkout that has its checkpoint, the shipped one."""
    policies = ["straight-line", "expert"]
    if default_checkpoint().is_file():
        policies.append("default")
    for policy in policies:
        fly(Flight(policy, SceneArguments("clutter", "moving", 0.15, 0.5), seed=0, index=0))


if __name__ == "__main__":
    main()
