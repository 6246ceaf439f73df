"""Policies: state in, state out. `load_policy` makes one from a name or a checkpoint's path."""

from __future__ import annotations

from pathlib import Path

from deq_mpc_core.policy.interface import Command, Observation, Policy, PolicyInfo, PolicyState

BUILT_IN = ("default", "expert", "straight-line")
"""Names that `load_policy` knows besides checkpoint paths."""


def load_policy(name_or_path: str | Path) -> Policy:
    """A policy by name (`BUILT_IN`) or by the path of a checkpoint; ``default`` is the shipped checkpoint.

    Raises:
        UserError: if the checkpoint is missing, damaged or of another task.
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


__all__ = ["BUILT_IN", "Command", "Observation", "Policy", "PolicyInfo", "PolicyState", "load_policy"]
