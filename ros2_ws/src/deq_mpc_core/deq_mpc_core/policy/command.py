"""``deq-mpc export``: from a checkpoint to one file that flies without SymPy, torch or compilation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deq_mpc_core.errors import UserError


def register(app: typer.Typer) -> None:
    """Add ``export``."""
    app.command("export")(export)


def export(
    out: Annotated[Path, typer.Option(help="File to write; --policy of fly and evaluate takes it.")],
    policy: Annotated[str, typer.Option(help="A checkpoint, or default: the shipped one.")] = "default",
) -> None:
    """Compile a checkpoint to one file.

    It is verified against the training-time policy, and timed.
    """
    from deq_mpc_core.policy import BUILT_IN
    from deq_mpc_core.policy.export import describe, export_policy

    if policy in BUILT_IN and policy != "default":
        raise UserError(f"--policy {policy}: has no network to export; give a checkpoint, or default")
    typer.echo(describe(export_policy(None if policy == "default" else Path(policy), out), out))
