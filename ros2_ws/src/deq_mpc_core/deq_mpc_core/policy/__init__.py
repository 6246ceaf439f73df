"""Policies: state in, state out. `load_policy` makes one from a name or a checkpoint's path."""

from __future__ import annotations

from pathlib import Path

from deq_mpc_core.policy.interface import Command, Observation, Policy, PolicyInfo, PolicyState

BUILT_IN = ("default", "expert", "straight-line")
"""Names that `load_policy` knows besides paths of checkpoints and exported policies."""


def load_policy(name_or_path: str | Path) -> Policy:
    """A policy by name (`BUILT_IN`) or by the path of a checkpoint or an exported policy; ``default``: as shipped.

    Raises:
        UserError: if the file is missing, damaged or of another task.
    """
    name = str(name_or_path)
    if name == "expert":
        from deq_mpc_core.policy.expert import ExpertPolicy

        return ExpertPolicy()
    if name == "straight-line":
        from deq_mpc_core.policy.straight_line import StraightLinePolicy

        return StraightLinePolicy()
    from deq_mpc_core.policy.flight_policy import load_flight_policy

    return load_flight_policy(None if name == "default" else Path(name))


def check_policy(name_or_path: str | Path) -> None:
    """Refuse what `load_policy` cannot load, without compiling it.

    Raises:
        UserError: see `load_policy`.
    """
    from deq_mpc_core.policy.flight_policy import read_program

    name = str(name_or_path)
    if name == "default" or name not in BUILT_IN:
        read_program(None if name == "default" else Path(name))


__all__ = ["BUILT_IN", "Command", "Observation", "Policy", "PolicyInfo", "PolicyState", "check_policy", "load_policy"]
