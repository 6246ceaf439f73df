"""``deq-mpc call``: arm, take off, land or stop, on a machine that has no ``ros2 service call``."""

from __future__ import annotations

from typing import Annotated

import typer


def call(
    what: Annotated[str, typer.Argument(help="arm, disarm, takeoff, notify_setpoints_stop, land, emergency.")],
    robot: Annotated[str, typer.Option(help="Name of the robot.")] = "cf",
    timeout: Annotated[float, typer.Option(min=0.1, help="How long to wait for the controller [s].")] = 5.0,
) -> None:
    """Arm, take off, land or stop without `ros2`.

    Exit status: 0 if the controller does it, 1 if it refuses, 2 if there is none.
    """
    from deq_mpc_controller import ros_launch

    ros_launch.use_workspace()
    from deq_mpc_controller.ros_call import call as call_service

    refusal = call_service(what, robot, timeout)
    if refusal is not None:
        typer.echo(f"refused: {refusal}", err=True)
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add ``call`` to ``app``."""
    app.command("call")(call)
