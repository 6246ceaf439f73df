"""``deq-mpc evaluate``: how often, how safely and how fast a policy reaches the goal, over many scenes."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deq_mpc_core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deq_mpc_sim.campaign import Flight
    from deq_mpc_sim.episode import Conditions, Episode

TASKS = ("crazyflie",)


def evaluate(  # noqa: PLR0913 - the options of the command
    policy: Annotated[str, typer.Option(help="Checkpoint's path, default, expert or straight-line.")] = "default",
    task: Annotated[str, typer.Option(help="Task: crazyflie.")] = "crazyflie",
    scene: Annotated[str, typer.Option(help="clutter, gate or pocket.")] = "clutter",
    radius: Annotated[float, typer.Option(help="Of the spheres of a clutter [m].")] = 0.15,
    obstacles: Annotated[str, typer.Option(help="static, moving or adversarial.")] = "static",
    speed: Annotated[float, typer.Option(help="Of the fastest moving sphere [m/s].")] = 0.5,
    vehicle: Annotated[
        str, typer.Option(help="default, or one identified on hardware: cf2x_L250, cf2x_P250, cf2x_T350, cf21B_500.")
    ] = "default",
    disturbances: Annotated[str, typer.Option(help="default, or lab: noise, delay, drop-outs, losses.")] = "default",
    episodes: Annotated[int, typer.Option(help="Number of scenes.")] = 100,
    seed: Annotated[int, typer.Option(help="Of scenes and disturbances.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one per core.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write the failed flights to this JSON file.")] = None,
    record: Annotated[Path | None, typer.Option(help="Record a bag of every flight in this folder.")] = None,
) -> None:
    """Judge a policy by many simulated flights.

    They are flown in lockstep, in process and faster than real time, on all cores.
    """
    from deq_mpc_sim.campaign import Flight, SceneArguments, cached_policy, fly_all
    from deq_mpc_sim.commands.progress import success_progress
    from deq_mpc_sim.episode import Conditions

    arguments, conditions = SceneArguments(scene, obstacles, radius, speed), Conditions(disturbances, vehicle)
    _check(task, episodes, seed)
    _check_conditions(conditions)
    arguments.scene(seed, 0)
    cached_policy(policy)
    flights = [
        Flight(policy, arguments, seed, index, record and record / arguments.name(seed, index), conditions=conditions)
        for index in range(episodes)
    ]
    _check_outputs(save, flights)
    began = time.perf_counter()
    with success_progress(f"evaluate {policy}", len(flights)) as on_done:
        results = fly_all(flights, workers, lambda _, episode: on_done(episode.success))
    report = {
        "policy": policy,
        "task": task,
        "scene": scene,
        "radius": radius,
        "obstacles": obstacles,
        "speed": speed,
        "vehicle": vehicle,
        "disturbances": disturbances,
        "episodes": episodes,
        "seed": seed,
        **summarise(results),
        "wall_s": round(time.perf_counter() - began, 3),
    }
    if save is not None:
        _save_failures(save, flights, results)
    typer.echo(json.dumps(report, allow_nan=False) if as_json else _table(report))


def _check(task: str, episodes: int, seed: int) -> None:
    from deq_mpc_sim.campaign import EPISODE_LIMIT, SEED_LIMIT

    if task not in TASKS:
        raise UserError(f"unknown task {task!r}; choose one of {', '.join(TASKS)}")
    if not 1 <= episodes <= EPISODE_LIMIT:
        raise UserError(f"{episodes} episodes are out of range; choose 1 to {EPISODE_LIMIT}")
    if not 0 <= seed < SEED_LIMIT:
        raise UserError(f"seed {seed} is out of range; choose 0 to {SEED_LIMIT - 1}")


def _check_conditions(conditions: Conditions) -> None:
    """Refuse what is not known before a progress bar appears."""
    import numpy as np

    from deq_mpc_sim.episode import make_vehicle
    from deq_mpc_sim.parameters import world_config

    bounds = world_config(conditions.disturbances).disturbances
    make_vehicle(conditions.vehicle, bounds, np.random.default_rng(0))


def _check_outputs(save: Path | None, flights: Sequence[Flight]) -> None:
    """Refuse outputs that cannot be written before an hour of flying, not after it."""
    from deq_mpc_core.outputs import check_folder

    if save is not None:
        if save.is_dir() or not save.parent.is_dir():
            raise UserError(f"{save}: is a folder or in none; name a file in a folder that exists")
        check_folder(save.parent)
    for flight in flights:
        if flight.bag is not None and flight.bag.exists():
            raise UserError(f"{flight.bag} exists; record into another folder")


def summarise(results: Sequence[Episode]) -> dict[str, Any]:
    """Statistics of at least one flight, as plain numbers: rates, clearance [m], policy time [ms], time to goal [s].

    ``left_fence`` is the rate of flights in which the vehicle was outside the safety fence at any time; ``failures``
    counts those that the controller gave up, landing or motors off, by its reason, whatever became of them; ``stopped``
    is the rate of those in which it stopped the motors.
    """
    import numpy as np

    from deq_mpc_controller.flight import FINAL
    from deq_mpc_sim.referee import Ending
    from deq_mpc_sim.statistics import wilson_interval

    count = len(results)
    rates = {ending: sum(episode.ending is ending for episode in results) / count for ending in Ending}
    clearance = np.percentile([episode.min_clearance for episode in results], [1, 50])
    policy_ms = np.percentile(np.concatenate([episode.policy_ms for episode in results]), [50, 99])
    times = [episode.duration for episode in results if episode.success]
    return {
        "success": rates[Ending.GOAL],
        "success_ci95": list(wilson_interval(len(times), count)),
        "collision": rates[Ending.COLLISION],
        "timeout": rates[Ending.TIMEOUT],
        "out_of_arena": rates[Ending.OUTSIDE],
        "left_fence": sum(_left_fence(episode) for episode in results) / count,
        "stopped": sum(episode.mode in FINAL for episode in results) / count,
        "failures": dict(Counter(episode.failure for episode in results if episode.failure).most_common()),
        "min_clearance_m": dict(zip(("p1", "p50"), clearance.tolist(), strict=True)),
        "time_to_goal_s": float(np.mean(times)) if times else None,
        "policy_ms": dict(zip(("p50", "p99"), policy_ms.tolist(), strict=True)),
    }


def _left_fence(episode: Episode) -> bool:
    """Whether the vehicle truly was outside the safety fence."""
    from deq_mpc_controller.settings import controller_config

    safety, pos = controller_config().safety, episode.path[:, :3]
    return bool((pos < safety.fence_low).any() or (pos > safety.fence_high).any())


def _save_failures(path: Path, flights: Sequence[Flight], results: Sequence[Episode]) -> None:
    """The flights that did not reach the goal: which, how they ended, and their paths at 10 Hz."""
    failures = [
        {
            "seed": flight.seed,
            "index": flight.index,
            "scene": flight.scene.kind,
            "radius": flight.scene.radius,
            "obstacles": flight.scene.motion,
            "speed": flight.scene.speed,
            "vehicle": flight.conditions.vehicle,
            "disturbances": flight.conditions.disturbances,
            "ending": episode.ending.name.lower(),
            "failure": episode.failure,
            "time_s": episode.duration,
            "min_clearance_m": episode.min_clearance,
            "path": episode.path[::10, :3].round(4).tolist(),
        }
        for flight, episode in zip(flights, results, strict=True)
        if not episode.success
    ]
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(failures, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _table(report: dict[str, Any]) -> str:
    """The report for people."""
    low, high = report["success_ci95"]
    clearance, policy_ms, time_to_goal = report["min_clearance_m"], report["policy_ms"], report["time_to_goal_s"]
    rows = {
        "scenes": f"{report['episodes']} x {report['scene']}, {report['obstacles']} obstacles, seed {report['seed']}",
        "vehicle": f"{report['vehicle']}, disturbances {report['disturbances']}",
        "success": f"{report['success']:.1%}  (95 % confidence {low:.1%} to {high:.1%})",
        "collision": f"{report['collision']:.1%}",
        "time-out": f"{report['timeout']:.1%}",
        "out of arena": f"{report['out_of_arena']:.1%}",
        "out of fence": f"{report['left_fence']:.1%}",
        "motors stopped": f"{report['stopped']:.1%}",
        "given up": "; ".join(f"{count} x {reason}" for reason, count in report["failures"].items()) or "none",
        "min clearance": f"p1 {clearance['p1']:.3f} m, p50 {clearance['p50']:.3f} m",
        "time to goal": "never" if time_to_goal is None else f"{time_to_goal:.2f} s on average",
        "policy step": f"p50 {policy_ms['p50']:.2f} ms, p99 {policy_ms['p99']:.2f} ms",
        "wall time": f"{report['wall_s']:.1f} s",
    }
    return "\n".join(f"{name:14} {value}" for name, value in rows.items())


def register(app: typer.Typer) -> None:
    """Add ``evaluate`` to ``app``."""
    app.command("evaluate")(evaluate)
