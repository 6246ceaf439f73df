"""``deq-mpc virtual-crazyflie``: a simulated Crazyflie that any cflib client can connect to."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from deq_mpc_core.errors import UserError


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("virtual-crazyflie")(virtual_crazyflie)


def virtual_crazyflie(
    port: Annotated[int, typer.Option(min=0, max=65535, help="UDP port to listen at; 0 chooses a free one.")] = 19850,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    x: Annotated[float, typer.Option(help="Where it stands [m].")] = 0.0,
    y: Annotated[float, typer.Option(help="Where it stands [m].")] = 0.0,
    yaw: Annotated[float, typer.Option(help="Heading [deg], counter-clockwise from x.")] = 0.0,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draw a vehicle around the nominal one; default: the nominal one.")
    ] = None,
    arm: Annotated[
        bool, typer.Option("--arm/--auto-arm", help="Whether it must be armed, like the Brushless.")
    ] = False,
) -> None:
    """A simulated Crazyflie on a UDP port.

    It lives in real time until interrupted, and understands what the controller uses: parameters, log blocks, external
    poses, arming, emergency stop, and setpoints of attitude and thrust (send_setpoint, send_setpoint_manual, stop).
    High-level commands and setpoints of velocity, hover, position or full state have no effect; it says so once.
    """
    import threading

    import numpy as np

    from deq_mpc_sim.parameters import draw_vehicle
    from deq_mpc_sim.udp_server import UdpServer
    from deq_mpc_sim.vehicle import Vehicle
    from deq_mpc_sim.virtual_crazyflie import VirtualCrazyflie

    for name, value in (("x", x), ("y", y), ("yaw", yaw)):
        if not math.isfinite(value):
            raise UserError(f"--{name} {value} is no place or heading; give a finite number")
    vehicle = Vehicle(None if seed is None else draw_vehicle(np.random.default_rng(seed)))
    vehicle.reset(np.array([x, y, 0.0]), math.radians(yaw))
    server = UdpServer(VirtualCrazyflie(vehicle, auto_arm=not arm), port, host)
    with server:
        try:
            typer.echo(f"a virtual Crazyflie listens at {server.uri}; Ctrl-C ends it")
            threading.Event().wait()
        except KeyboardInterrupt:
            typer.echo("stopped")
