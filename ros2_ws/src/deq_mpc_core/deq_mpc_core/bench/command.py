"""``deq-mpc bench``: measure this project and its peers side by side, or check the solver against IPOPT.

Suites are entry points of the group ``deq_mpc.benches``: name -> ``def suite(options: BenchOptions) -> Iterator[Row]``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import EntryPoint, entry_points
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from deq_mpc_core.bench.row import BenchOptions, Row
from deq_mpc_core.errors import UserError
from deq_mpc_core.outputs import check_file, write_file

GROUP = "deq_mpc.benches"
_CHECK = "check"


def register(app: typer.Typer) -> None:
    """Add ``bench``."""
    app.command("bench")(bench)


def bench(
    suites: Annotated[
        list[str] | None,
        typer.Argument(
            help="solver, kernels, policy, train, flight (default: all that are installed), or check alone."
        ),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="JSON as the last line on stdout; tables to stderr.")
    ] = False,
    markdown: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Also write the tables to this file, as docs/performance.md has them."),
    ] = None,
    quick: Annotated[bool, typer.Option(help="Fewer sizes and rounds.")] = False,
    minutes: Annotated[float, typer.Option(min=0.1, max=1000.0, help="flight: how long to fly.")] = 10.0,
    problems: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="check: how many random problems, over all models.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="check: seed of the problems.")] = 0,
) -> None:
    """Measure solver, policies, training, flight.

    Beside other solvers where there are any; or check the solver's answers against IPOPT.
    """
    asked = suites or []
    if asked == [_CHECK] and markdown is not None:
        raise UserError("check makes no tables; leave out --markdown")
    if markdown is not None:
        if not markdown.parent.is_dir():
            raise UserError(f"no folder {markdown.parent} to write {markdown.name} in; make it first")
        check_file(markdown)
    if asked == [_CHECK]:
        _check(problems, seed, json_output=json_output)
    else:
        _measure(_chosen(asked), BenchOptions(quick=quick, minutes=minutes), markdown, json_output=json_output)


def _chosen(asked: Sequence[str]) -> list[EntryPoint]:
    """The suites to run; a package that is installed twice (venv and workspace) counts once."""
    known = {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}
    if _CHECK in asked:
        raise UserError("check takes no other suite beside it; run deq-mpc bench check")
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise UserError(f"no suite {unknown[0]!r}; choose from {', '.join([*known, _CHECK])}")
    return [known[name] for name in asked or known]


@contextmanager
def output_to_stderr() -> Iterator[None]:
    """Sends there what compiled libraries print on stdout, which is for the result."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _measure(
    points: Sequence[EntryPoint], options: BenchOptions, markdown_file: Path | None, *, json_output: bool
) -> None:
    from rich.console import Console

    from deq_mpc_core.bench.machine import machine, versions
    from deq_mpc_core.bench.table import markdown, show

    progress = Console(stderr=True)
    described = {"machine": machine(), "versions": versions()}
    measured: dict[str, list[Row]] = {point.name: [] for point in points}
    with output_to_stderr(), progress.status("") as status:
        for point in points:
            status.update(f"{point.name}: preparing")
            for row in point.load()(options):
                measured[point.name].append(row)
                status.update(f"{point.name}: {row.work}, {row.engine} done")
    rows = list(chain.from_iterable(measured.values()))
    if markdown_file is not None:
        write_file(markdown_file, "\n".join(markdown(measured, described)).encode())
    show(rows, described, Console(stderr=json_output))
    if json_output:
        typer.echo(json.dumps({**described, "rows": [asdict(row) for row in rows]}))


def _check(problems: int, seed: int, *, json_output: bool) -> None:
    from rich.console import Console

    from deq_mpc_core.bench.check import check, describe
    from deq_mpc_core.bench.machine import machine, versions

    with Console(stderr=True).status("") as status:
        report = check(problems, seed, progress=status.update)
    for line in describe(report):
        typer.echo(line, err=json_output)
    if json_output:
        typer.echo(json.dumps({"machine": machine(), "versions": versions(), "check": asdict(report)}))
    if not report.passed:
        raise typer.Exit(1)
