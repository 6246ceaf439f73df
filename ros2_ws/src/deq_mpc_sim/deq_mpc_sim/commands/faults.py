"""``deq-mpc faults``: every fault in every phase of a flight, what the vehicle did, and whether that was good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from deq_mpc_core.errors import UserError


def faults(
    only: Annotated[str | None, typer.Option(help="Only the faults with this in their names.")] = None,
    phase: Annotated[str | None, typer.Option(help="Only one phase: take-off, fly or land.")] = None,
    seed: Annotated[int, typer.Option(help="Of scene, vehicle, gusts, noise and packet losses.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="How many, from that one on.")] = 1,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one per core.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
    markdown: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Also write the table to this file, as docs/faults.md has it.")
    ] = None,
) -> None:
    """Put whole simulated flights through every fault.

    From the ground to the ground, in lockstep; exits 1 if one of them does not end well.
    """
    from dataclasses import asdict

    from deq_mpc_core.outputs import check_file, write_file
    from deq_mpc_sim.campaign import SEED_LIMIT, check_workers
    from deq_mpc_sim.commands.progress import success_progress
    from deq_mpc_sim.fault_cases import Phase
    from deq_mpc_sim.fault_report import markdown as document
    from deq_mpc_sim.fault_report import summary
    from deq_mpc_sim.fault_table import chosen_cases, fly_table

    check_workers(workers)
    phases = [one for one in Phase if phase in (None, one.value)]
    if not phases:
        raise UserError(f"unknown phase {phase!r}; choose one of {', '.join(one.value for one in Phase)}")
    if not 0 <= seed <= SEED_LIMIT - seeds:
        raise UserError(f"seed {seed} is out of range; choose 0 to {SEED_LIMIT - seeds}")
    if markdown is not None:
        check_file(markdown)
    cases = chosen_cases(only)
    with success_progress("faults", len(cases) * len(phases) * seeds) as on_done:
        cells = fly_table(cases, phases, range(seed, seed + seeds), workers, lambda cell: on_done(cell.good))
    if markdown is not None:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        write_file(markdown, document(cells, cases, _command(only, phase, seed, seeds)).encode())
    if as_json:
        typer.echo(json.dumps({"cells": [{**asdict(cell), "good": cell.good} for cell in cells]}))
    else:
        typer.echo(summary(cells))
    if not all(cell.good for cell in cells):
        raise typer.Exit(1)


def _command(only: str | None, phase: str | None, seed: int, seeds: int) -> str:
    """What was typed, but for what does not matter."""
    words = {"--only": only, "--phase": phase}
    numbers = {"--seed": (seed, 0), "--seeds": (seeds, 1)}
    typed = [f'{name} "{word}"' for name, word in words.items() if word is not None]
    typed += [f"{name} {number}" for name, (number, default) in numbers.items() if number != default]
    return " ".join(("deq-mpc faults", *typed))


def register(app: typer.Typer) -> None:
    """Add ``faults`` to ``app``."""
    app.command("faults")(faults)
