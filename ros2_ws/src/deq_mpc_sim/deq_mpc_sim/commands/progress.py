"""Progress of a campaign, on stderr and only for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def success_progress(title: str, total: int) -> Iterator[Callable[[bool], None]]:
    """A bar with the number of successes; gives what to call with every result. Silent where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[successes]} good"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total, successes=0)
        successes = 0

        def count(success: bool) -> None:
            nonlocal successes
            successes += success
            progress.update(task, advance=1, successes=successes)

        yield count
