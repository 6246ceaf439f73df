"""The root of the deq-mpc command."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, version
from pathlib import Path
from typing import Annotated

import pytest
import typer

from deq_mpc_core import cli
from deq_mpc_core.errors import UserError


def greet(app: typer.Typer) -> None:
    @app.command("greet")
    def _greet(name: str, status: Annotated[int, typer.Option(help="Of the exit [1].")] = 0) -> None:
        if name == "nobody":
            raise UserError("there is nobody;\n give a name")
        typer.echo(f"hello {name}")
        raise typer.Exit(status)


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands `greet`, found twice as in a sourced workspace, and `broken`, whose module does not exist."""
    points = [
        EntryPoint("greet", f"{__name__}:greet", cli.GROUP),
        EntryPoint("greet", f"{__name__}:greet", cli.GROUP),
        EntryPoint("broken", "no_such_module:register", cli.GROUP),
    ]
    monkeypatch.setattr(cli, "entry_points", lambda group: points)
    cli._commands.cache_clear()


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(arguments)
    return exit_info.value.code


def test_a_command_runs_though_another_one_cannot_be_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("greet", "you") == 0
    assert capsys.readouterr().out == "hello you\n"


def test_the_status_is_the_commands() -> None:
    assert run("greet", "you", "--status", "1") == 1


def test_the_help_shows_units_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("greet", "--help") == 0
    assert "Of the exit [1]." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "Missing command"),
        (("fry",), "No such command 'fry'"),
        (("greet",), "Missing argument"),
        (("greet", "you", "--loud"), "No such option: --loud"),
        (("greet", "you", "--status", "high"), "Invalid value for '--status'"),
        (("greet", "nobody"), "there is nobody; give a name"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], problem: str
) -> None:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert problem in captured.err


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"deq-mpc {version('deq_mpc_core')}\n"


def test_a_defect_is_not_hidden() -> None:
    with pytest.raises(ModuleNotFoundError):
        cli.main(["broken"])


def test_the_root_imports_nothing_heavy() -> None:
    script = "import sys, deq_mpc_core.cli; print(*{'torch', 'numba', 'numpy', 'rclpy', 'cflib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "\n"


def test_the_installed_command_lists_the_commands_without_loading_anything_heavy() -> None:
    script = (
        "import sys\nfrom deq_mpc_core.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *{'torch', 'numba', 'rclpy', 'cflib', 'casadi'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for name in ("call", "evaluate", "expert", "faults", "fly", "launch", "train", "virtual-crazyflie"):
        assert name in result.stdout
    assert "..." not in result.stdout.partition("Commands:")[2]  # no description is cut off
    assert result.stdout.splitlines()[-1].strip() == "LOADED"
    assert (Path(sys.prefix) / "bin" / "deq-mpc").exists()


def test_a_full_disk_is_an_error_of_one_line() -> None:
    code = "from deq_mpc_core.cli import main; main(['--version'])"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no space is left for the output; make room\n")
