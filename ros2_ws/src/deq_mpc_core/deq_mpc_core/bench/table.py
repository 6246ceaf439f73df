"""Measured rows as tables: on a terminal, and in Markdown for ``docs/performance.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table

from deq_mpc_core.bench.row import Row

_COLUMNS = ("work", "engine", "batch", "threads", "T", "median ms", "p99 ms", "ratio", "note")


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.3g}{unit}" if value < 1e3 else f"{value:.0f}{unit}"


def table(work: str, rows: Sequence[Row]) -> Table:
    """The rows of one work, without their notes."""
    shown = Table(title=work, title_justify="left", title_style="bold")
    for name in ("", "engine", "batch", "threads", "horizon", "median ms", "p99 ms", "ratio"):
        shown.add_column(name, justify="left" if name == "engine" else "right", no_wrap=True)
    for number, row in enumerate(rows, 1):
        times = (_number(row.median_ms), _number(row.p99_ms), _number(row.ratio, " x"))
        shown.add_row(str(number), row.engine, str(row.batch), str(row.threads), str(row.horizon), *times)
    return shown


def _listed(entries: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in entries.items() if value is not None)


def show(rows: Sequence[Row], described: Mapping[str, Mapping[str, object]], console: Console) -> None:
    """Print the machine, the versions, and of each work a table with its rows' notes below."""
    for title, entries in described.items():
        console.print(f"[bold]{title}[/bold]  {_listed(entries)}", highlight=False)
    for work, group in groupby(rows, key=lambda row: row.work):
        members = list(group)
        console.print(table(work, members))
        for number, row in enumerate(members, 1):
            if row.note:
                console.print(f"  {number} {row.engine}: {row.note}", highlight=False, markup=False, soft_wrap=True)


def markdown(suites: Mapping[str, Sequence[Row]], described: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """Lines: the machine, the versions, and of each suite a heading and one table."""
    for title, entries in described.items():
        yield from (f"{title}: {_listed(entries)}", "")
    for suite, rows in suites.items():
        yield from (f"## {suite}", "", _line(_COLUMNS), "|---" * len(_COLUMNS) + "|")
        for row in rows:
            sizes = (str(row.batch), str(row.threads), str(row.horizon))
            times = (_number(row.median_ms), _number(row.p99_ms), _number(row.ratio))
            yield _line((row.work, row.engine, *sizes, *times, row.note))
        yield ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
