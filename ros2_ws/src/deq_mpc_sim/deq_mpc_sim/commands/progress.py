"""Progress of a campaign, on stderr and only for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from deq_mpc_sim.campaign import Flight
    from deq_mpc_sim.episode import Episode


@contextmanager
def flight_progress(title: str, total: int) -> Iterator[Callable[[Flight, Episode], None]]:
    """A bar with the success rate so far; gives what to call after every flight. Silent where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[successes]} at the goal"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total, successes=0)
        successes = 0

        def count(_: Flight, episode: Episode) -> None:
            nonlocal successes
            successes += episode.success
            progress.update(task, advance=1, successes=successes)

        yield count
