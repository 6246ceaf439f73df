"""Root of the ``deq-mpc`` command.

Every package adds sub-commands of its own through the entry-point group ``deq_mpc.commands``. The entry point's name is
the command's name; its object is a function ``register(app: typer.Typer) -> None`` that adds exactly that one command.

    # setup.py: "deq_mpc.commands": ["fly = deq_mpc_sim.commands.fly:register"]
    def register(app: typer.Typer) -> None:
        app.command("fly")(fly)

A command's module is loaded only when the command runs or ``--help`` lists it, so it has to import torch, numba, ROS
and the like inside its functions.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from deq_mpc_core.errors import UserError

GROUP = "deq_mpc.commands"
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


@lru_cache(maxsize=1)
def _commands() -> dict[str, EntryPoint]:
    """Entry points by command name; a package that is installed twice (venv and workspace) counts once."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


class _LazyGroup(TyperGroup):
    """A group whose commands are entry points, each loaded when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_commands())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        point = _commands().get(cmd_name)
        if point is None:
            return None
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        point.load()(app)
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command


app = typer.Typer(cls=_LazyGroup, add_completion=False, rich_markup_mode=None)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deq-mpc {version('deq_mpc_core')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and leave.")
    ] = False,
) -> None:
    """DEQ-MPC: train, evaluate and fly a deep equilibrium network and an MPC solver in one joint fixed point."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``deq-mpc`` with ``arguments`` (default: those of the process) and exit.

    What the user can mend ends in one line ``error: ...`` on stderr and status 2, an interrupt in status 130.
    """
    try:
        status = typer.main.get_command(app).main(args=arguments, prog_name="deq-mpc", standalone_mode=False)
    except UserError as error:
        _fail(str(error))
    except typer.TyperException as error:
        _fail(f"{error.format_message().rstrip('.')}; see deq-mpc --help")
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has left (`deq-mpc ... | head`); nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _fail("no space is left for the output; make room")
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    sys.exit(EXIT_USER_ERROR)
