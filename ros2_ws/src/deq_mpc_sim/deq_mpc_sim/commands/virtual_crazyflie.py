"""``deq-mpc virtual-crazyflie``: simulated Crazyflies that any cflib client can connect to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from deq_mpc_core.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deq_mpc_sim.faults import Fault
    from deq_mpc_sim.toc import TocSize
    from deq_mpc_sim.udp_server import Crazyflie

    Array = NDArray[np.float64]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("virtual-crazyflie")(virtual_crazyflie)


def virtual_crazyflie(  # noqa: PLR0913 - the options of the command
    port: Annotated[int, typer.Option(min=0, max=65535, help="UDP port to listen at; 0 chooses a free one.")] = 19850,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    count: Annotated[int, typer.Option(min=1, max=50, help="How many, at this port and those after it.")] = 1,
    spacing: Annotated[float, typer.Option(help="From one to the next, along y [m].")] = 0.5,
    x: Annotated[float, typer.Option(help="Where the first stands [m].")] = 0.0,
    y: Annotated[float, typer.Option(help="Where the first stands [m].")] = 0.0,
    yaw: Annotated[float, typer.Option(help="Heading [deg], counter-clockwise from x.")] = 0.0,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Draw vehicles around the nominal one, and the faults; default: nominal, 0."),
    ] = None,
    arm: Annotated[
        bool, typer.Option("--arm/--auto-arm", help="Whether it must be armed, like the Brushless.")
    ] = False,
    toc: Annotated[
        str, typer.Option(help="Log variables and parameters: full (as the firmware) or small (connects fast).")
    ] = "full",
    loss: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the packets that is lost, each way.")] = 0.0,
    delay: Annotated[float, typer.Option(min=0.0, max=10.0, help="By which packets arrive late, each way [s].")] = 0.0,
    reorder: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the packets that others overtake.")] = 0.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="KIND[.up|.down][:VALUE]@[takeoff+]ONSET[/DURATION], times in s; may be repeated."),
    ] = None,
) -> None:
    """Simulated Crazyflies on UDP ports, for cflib.

    The first answers at udp://127.0.0.1:19850.

    They live in real time until interrupted, and understand what cflib sends: parameters, log blocks, all kinds of
    setpoints, the high-level commander with uploaded trajectories, external positions and poses, arming, emergency
    stop. There are no decks.

    Kinds of faults: loss, delay, reorder, mute (with .up or .down for one way), refuse (no new connections), reboot,
    locked, low-battery[:VOLT], dead-motor[:1..4], weak[:SHARE], worn[:SHARE], knock[:RAD/S], gust[:NEWTON].
    Examples: --fault mute@5 --fault gust:0.05@takeoff+2/1
    """
    import threading

    import numpy as np

    from deq_mpc_sim.faults import Fault, FaultKind, parse_faults
    from deq_mpc_sim.toc import toc_size
    from deq_mpc_sim.udp_server import UdpServer

    for name, value in (("x", x), ("y", y), ("yaw", yaw), ("spacing", spacing)):
        if not math.isfinite(value):
            raise UserError(f"--{name} {value} is no place or heading; give a finite number")
    if port and port + count - 1 > 65535:
        raise UserError(f"{count} ports from {port} on end beyond 65535; choose a lower one")
    size = toc_size(toc)
    faults = list(parse_faults(fault or ()))
    link = {FaultKind.LOSS: loss, FaultKind.DELAY: delay, FaultKind.REORDER: reorder}
    faults += [Fault(kind, value=value) for kind, value in link.items() if value > 0.0]
    with ExitStack() as running:
        for index in range(count):
            place = np.array([x, y + index * spacing, 0.0])
            drawn = None if seed is None else seed + index
            crazyflie = _make(place, math.radians(yaw), drawn, not arm, size, faults)
            server = running.enter_context(UdpServer(crazyflie, port + index if port else 0, host))
            typer.echo(f"a virtual Crazyflie listens at {server.uri}; Ctrl-C ends it")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            typer.echo("stopped")


def _make(
    place: Array, yaw: float, seed: int | None, auto_arm: bool, toc: TocSize, faults: Sequence[Fault]
) -> Crazyflie:
    """One that stands at ``place`` (3,) [m] with heading ``yaw`` [rad]."""
    import numpy as np

    from deq_mpc_sim.faulty_crazyflie import FaultyCrazyflie
    from deq_mpc_sim.parameters import draw_vehicle
    from deq_mpc_sim.vehicle import Vehicle
    from deq_mpc_sim.virtual_crazyflie import VirtualCrazyflie

    vehicle = Vehicle(None if seed is None else draw_vehicle(np.random.default_rng(seed)))
    vehicle.reset(place, yaw)
    crazyflie = VirtualCrazyflie(vehicle, auto_arm, toc=toc)
    return FaultyCrazyflie(crazyflie, faults, seed or 0) if faults else crazyflie
