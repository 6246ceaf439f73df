"""``deq-mpc expert``: flights to learn from, flown or labelled by the expert, as bags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deq_mpc_core.errors import UserError


def expert(
    out: Annotated[Path, typer.Option(help="Folder of the bags, new or of an interrupted run with the same options.")],
    flights: Annotated[int | None, typer.Option(help="How many flights the folder will have.")] = None,
    seed: Annotated[int, typer.Option(help="Of scenes and disturbances; no seed gives those of an evaluation.")] = 0,
    mix: Annotated[
        str | None,
        typer.Option(
            help="Shares of the scenes, such as clutter=0.3,clutter-moving=0.3,gate=0.2,pocket=0.2 (default)."
        ),
    ] = None,
    noise: Annotated[float, typer.Option(help="Share of the flights with noise on the commands, labelled.")] = 0.25,
    policy: Annotated[
        str,
        typer.Option(help="Who flies: expert, or a learner's checkpoint, whose flights the expert labels (DAgger)."),
    ] = "expert",
    relabel: Annotated[Path | None, typer.Option(help="Fly nothing: label the bags in this folder instead.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one per core.")] = None,
) -> None:
    """Record the expert's flights as bags.

    It flies over random scenes, or labels what a learner flew. An interrupted run goes on where it stopped.
    """
    if (flights is None) == (relabel is None):
        raise UserError("give either --flights N to fly or --relabel BAGS to label")
    if relabel is not None:
        _relabel(relabel, out, workers)
        return
    assert flights is not None
    _fly(out, flights, seed, mix, noise, policy, workers)


def _fly(out: Path, count: int, seed: int, mix: str | None, noise: float, policy: str, workers: int | None) -> None:
    from deq_mpc_sim import demonstrations as demos
    from deq_mpc_sim.campaign import EPISODE_LIMIT, SEED_LIMIT, cached_policy, check_workers, run_all
    from deq_mpc_sim.commands.progress import success_progress

    check_workers(workers)
    if not 1 <= count <= EPISODE_LIMIT:
        raise UserError(f"{count} flights are out of range; choose 1 to {EPISODE_LIMIT}")
    if not 0 <= seed < SEED_LIMIT:
        raise UserError(f"seed {seed} is out of range; choose 0 to {SEED_LIMIT - 1}")
    if not 0.0 <= noise <= 1.0:
        raise UserError(f"noise {noise} is no share; choose 0 to 1")
    shares = demos.DEFAULT_MIX if mix is None else demos.parse_mix(mix)
    collection = demos.Collection(policy=policy, seed=seed, mix=shares, noise=noise)
    cached_policy(policy)
    demos.open_folder(out, collection)
    planned = demos.plan_demonstrations(collection, count, out)
    todo = demos.remaining(planned)
    with success_progress(f"{policy} flies", len(todo)) as on_done:
        run_all(demos.demonstrate, todo, workers, lambda _, episode: on_done(episode.success))
    demos.close_folder(out)
    failed = demos.failures(planned)
    kinds = ", ".join(f"{number} {kind}" for kind, number in demos.count_scenes(planned).items())
    typer.echo(f"{out}: {len(planned) - len(failed)} of {len(planned)} flights kept ({len(todo)} new): {kinds}")
    if failed:
        indices = " ".join(str(one.flight.index) for one in failed)
        typer.echo(f"{out / demos.FAILED}: {len(failed)} put aside, not to learn from: {indices}")


def _relabel(source: Path, out: Path, workers: int | None) -> None:
    from deq_mpc_core.learning.bags import find_bags
    from deq_mpc_core.outputs import check_folder
    from deq_mpc_sim.campaign import run_all
    from deq_mpc_sim.commands.progress import success_progress
    from deq_mpc_sim.relabel import RelabelTask, try_relabel

    tasks = [RelabelTask(bag, out / _place(bag, source)) for bag in find_bags([source])]
    if out.resolve() == source.resolve() or any(task.target.resolve() == task.source.resolve() for task in tasks):
        raise UserError(f"{out} is where the bags are; choose another folder for the labelled copies")
    check_folder(out)
    todo = [task for task in tasks if not task.target.exists()]
    with success_progress("expert labels", len(todo)) as on_done:
        problems = run_all(try_relabel, todo, workers, lambda _, problem: on_done(problem is None))
    dropped = [problem for problem in problems if problem is not None]
    typer.echo(f"{out}: {len(tasks) - len(dropped)} of {len(tasks)} bags labelled ({len(todo)} new)")
    for problem in dropped:
        typer.echo(f"dropped {problem}")
    if len(dropped) == len(tasks):
        raise UserError(f"none of the bags in {source} can be labelled; see the reasons above")


def _place(bag: Path, source: Path) -> Path:
    """Where a bag of ``source``, which may be the bag itself, lies in the folder of the copies."""
    inside = Path(bag.resolve().name) if bag == source else bag.relative_to(source)
    return inside.with_suffix("") if bag.is_file() else inside


def register(app: typer.Typer) -> None:
    """Add ``expert`` to ``app``."""
    app.command("expert")(expert)
