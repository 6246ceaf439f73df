"""``deq-mpc launch``: a launch file of the project on a machine that has no ``ros2 launch``."""

from __future__ import annotations

from typing import Annotated

import typer

from deq_mpc_core.errors import UserError


def launch(
    file: Annotated[str, typer.Argument(help="Launch file: its path, or the bare name of an installed one (fly).")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[NAME:=VALUE]...", help="Launch arguments.")] = None,
    show_args: Annotated[bool, typer.Option("--show-args", help="List the file's arguments and leave.")] = False,
) -> None:
    """Start a launch file without `ros2 launch`."""
    from deq_mpc_controller import ros_launch
    from deq_mpc_controller.launch_file import read_launch_file
    from deq_mpc_controller.node_parameters import check_nodes

    values = parse_arguments(arguments or [])
    ros_launch.use_workspace()
    launch_file = read_launch_file(ros_launch.find_launch_file(file))
    if show_args:
        for argument in launch_file.arguments:
            choices = f" (one of {', '.join(argument.choices)})" if argument.choices else ""
            typer.echo(f"{argument.name}:={argument.default or ''}  {argument.description}{choices}")
        return
    nodes = launch_file.resolve(values, ros_launch.find_share)
    check_nodes(nodes)
    raise typer.Exit(ros_launch.launch(nodes))


def parse_arguments(arguments: list[str]) -> dict[str, str]:
    """Launch arguments ``NAME:=VALUE`` as a dictionary.

    Raises:
        UserError: for one that is not of this form.
    """
    values: dict[str, str] = {}
    for argument in arguments:
        name, separator, value = argument.partition(":=")
        if not name or not separator:
            raise UserError(f"{argument!r} is no launch argument; write it as NAME:=VALUE")
        values[name] = value
    return values


def register(app: typer.Typer) -> None:
    """Add ``launch`` to ``app``."""
    app.command("launch")(launch)
