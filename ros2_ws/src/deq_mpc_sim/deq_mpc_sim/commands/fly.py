"""``deq-mpc fly``: one flight over ROS, in real time, from take-off to the verdict."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from deq_mpc_core.cli import EXIT_INTERRUPTED
from deq_mpc_core.errors import UserError
from deq_mpc_sim.private_network import LOOPBACK, free_udp_uri, private_network

if TYPE_CHECKING:
    from rich.table import Table

    from deq_mpc_sim.referee import Verdict

SCHEMES = ("radio", "usb", "udp", "tcp", "serial")
"""Ways to a Crazyflie that cflib knows."""


def fly(  # noqa: PLR0913 - the options of the command
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of scene and disturbances.")] = 0,
    policy: Annotated[str, typer.Option(help="Checkpoint's path, default, expert or straight-line.")] = "default",
    obstacles: Annotated[str, typer.Option(help="static, moving or adversarial.")] = "static",
    radius: Annotated[float, typer.Option(help="Of the spheres of a clutter [m].")] = 0.15,
    scene: Annotated[str, typer.Option(help="clutter, gate or pocket.")] = "clutter",
    uri: Annotated[
        str | None,
        typer.Option(
            help="Crazyflie to fly; default: a simulated one. At a udp address a simulated one is made, not joined."
        ),
    ] = None,
    platform: Annotated[
        str | None, typer.Option(help="The vehicle, as config/thrust_maps.yaml names it; a real one has to be said.")
    ] = None,
    firmware: Annotated[str | None, typer.Option(help="Release of its firmware; of a real one, too.")] = None,
    mass: Annotated[float, typer.Option(help="Of the vehicle ready to fly [kg]; 0: the platform's.")] = 0.0,
    out: Annotated[Path, typer.Option(help="Folder that receives the flight's folder.")] = Path("flights"),
) -> None:
    """Fly once, over ROS and in real time.

    It takes off, crosses the virtual obstacles to the goal and lands; the last line on stdout is the verdict, as JSON.

    Exit status: 0 for a success, 1 for a failed flight, 2 for input that cannot be used, 130 for an interrupt.
    """
    from deq_mpc_controller import ros_launch
    from deq_mpc_controller.launch_file import read_launch_file
    from deq_mpc_controller.node_parameters import check_nodes
    from deq_mpc_sim.flight_folder import read_verdict

    _check_scene(scene, obstacles, radius, seed)
    if uri is not None and uri.partition("://")[0] not in SCHEMES:
        raise UserError(
            f"--uri {uri!r} is no Crazyflie's; write it as radio://0/80/2M/E7E7E7E7E7 or udp://{LOOPBACK}:19850"
        )
    simulated = uri is None or uri.startswith("udp://")
    address = free_udp_uri() if uri is None else uri
    if simulated:
        _check_port_is_free(address)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{scene}-{obstacles}-seed{seed}"
    arguments = {
        "uri": address,
        "policy": policy,
        "seed": str(seed),
        "obstacles": obstacles,
        "scene": scene,
        "radius": repr(radius),
        "mass": repr(mass),
        "sim": str(simulated).lower(),
        "out": str(out),
        "name": name,
    }
    arguments |= {key: value for key, value in (("platform", platform), ("firmware", firmware)) if value is not None}
    ros_launch.use_workspace()
    launch_file = read_launch_file(ros_launch.find_launch_file("fly"))
    nodes = launch_file.resolve(arguments, ros_launch.find_share)
    check_nodes(nodes)
    _check_folder(out)
    status = ros_launch.launch(nodes, private_network() if simulated else {}, output=sys.stderr.fileno())
    verdict = read_verdict(out / name)
    if verdict is None:  # the node that gave up has said why
        raise typer.Exit(status or 1)
    _show(verdict, out / name)
    typer.echo(verdict.to_json())
    raise typer.Exit(status if status == EXIT_INTERRUPTED else int(not verdict.success))


def _check_scene(scene: str, obstacles: str, radius: float, seed: int) -> None:
    from deq_mpc_sim.scenes import make_scene

    make_scene(scene, obstacles, radius, seed, 0)


def _check_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); choose another folder with --out") from error
    if not os.access(out, os.W_OK):
        raise UserError(f"{out}: cannot be written; choose another folder with --out")


def _check_port_is_free(uri: str) -> None:
    """Refuse the address of a simulated Crazyflie that is none of this machine's or taken."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"{uri}: is no address ({error}); write it as udp://{LOOPBACK}:19850") from error
    if not host or not port:
        raise UserError(f"{uri}: has no host or no port; write it as udp://{LOOPBACK}:19850")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"{uri}: cannot be used ({error.strerror}); choose another port, or no --uri") from error


def _show(verdict: Verdict, folder: Path) -> None:
    """The verdict for people; paths are lines of their own, to be copied whole."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    console.print(_table(verdict))
    for label, path in (("bag", verdict.bag), ("picture", verdict.picture), ("verdict", folder / "verdict.json")):
        console.print(f"{label:8}{path}", soft_wrap=True, markup=False)


def _table(verdict: Verdict) -> Table:
    """The verdict's numbers."""
    from rich.markup import escape
    from rich.table import Table

    from deq_mpc_sim.referee import describe_misses

    def text(value: float | None, form: str) -> str:
        return "unknown" if value is None else form.format(value)

    policy = verdict.policy_ms
    outcome = "[bold green]success[/]" if verdict.success else "[bold red]failed[/]"
    table = Table(title=outcome, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    if verdict.fault is not None:
        table.add_row("why", escape(verdict.fault))
    reached = "never" if verdict.time_to_goal_s is None else f"{verdict.time_to_goal_s:.2f} s"
    table.add_row("goal reached", reached)
    table.add_row("collisions", str(verdict.collisions))
    table.add_row("smallest clearance", text(verdict.min_clearance_m, "{:.3f} m"))
    times = " / ".join(text(value, "{:.2f}") for value in (policy.p50, policy.p99, policy.max))
    table.add_row("policy p50 / p99 / max", "unknown" if policy.p50 is None else f"{times} ms")
    table.add_row("deadlines missed", describe_misses(verdict))
    return table


def register(app: typer.Typer) -> None:
    """Add ``fly`` to ``app``."""
    app.command("fly")(fly)
