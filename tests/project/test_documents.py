"""Every command and every file name in the documents: the program, target, option, argument or file exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import fields
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer
import yaml

from deq_mpc_controller.launch_file import read_launch_file
from deq_mpc_controller.ros_call import REQUESTS
from deq_mpc_controller.ros_services import service_types
from deq_mpc_sim.referee import Verdict

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")

PRODUCED = (".venv/", "bags/", "flights/", "runs/", "ros2_ws/build", "ros2_ws/install", "ros2_ws/log")
"""Folders that the project's own commands fill."""

OTHERS = {"crazyflies.yaml"}
"""Files of other projects, which a user has."""

KNOWN_PROGRAMS = {"cd", "colcon", "export", "git", "source"}
"""Programs whose arguments are checked as file names only."""

FILE_NAME = re.compile(r"(?:[\w.-]+/)*[\w.-]+\.(?:md|py|yaml|yml|txt|toml|sh|xml|safetensors)|(?:[\w.-]+/)+")


def commands(text: str) -> list[list[str]]:
    """The commands of the ```bash blocks of a document, as words."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    words = [shlex.split(part, comments=True) for line in lines for part in re.split(r"&&|\|", line)]
    return [command for command in words if command]


def file_names(text: str) -> list[str]:
    """What stands between single backticks and has the form of a path of this repository."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [name for name in re.findall(r"`([^`\s]+)`", prose) if FILE_NAME.fullmatch(name)]


def problem_with_file(name: str) -> str | None:
    in_package = ROOT / "ros2_ws/src" / name.partition("/")[0] / name
    exists = (ROOT / name).exists() or in_package.exists() or name.startswith(PRODUCED) or name in OTHERS
    return None if exists else f"there is no {name}"


@cache
def command_options(name: str) -> set[str]:
    (point,) = {point.value: point for point in entry_points(group="deq_mpc.commands") if point.name == name}.values()
    app = typer.Typer(add_completion=False)
    point.load()(app)
    return {option for parameter in typer.main.get_command(app).params for option in parameter.opts} | {"--help"}


def problem_with_launch(file: str, arguments: list[str]) -> str | None:
    known = {argument.name for argument in read_launch_file(ROOT / "launch" / file).arguments}
    unknown = {word.partition(":=")[0] for word in arguments if ":=" in word} - known
    return f"launch arguments {sorted(unknown)} do not exist" if unknown else None


def problem_with_make(words: list[str]) -> str | None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, assigns, _ = word.partition("=")
        pattern = rf"^{name} \?=" if assigns else rf"^{name}:"
        if not re.search(pattern, makefile, flags=re.MULTILINE):
            return f"make knows no {name}"
    return None


def problem_with_deq_mpc(words: list[str]) -> str | None:
    if words in ([], ["--help"], ["--version"]):
        return None
    name, *rest = words
    if name not in {point.name for point in entry_points(group="deq_mpc.commands")}:
        return f"deq-mpc has no command {name}"
    unknown = {word.partition("=")[0] for word in rest if word.startswith("--")} - command_options(name)
    if unknown:
        return f"deq-mpc {name} has no option {sorted(unknown)}"
    if name == "call" and rest[0] not in REQUESTS:
        return f"the controller knows no {rest[0]}"
    return problem_with_launch("fly.launch.yaml", rest) if name == "launch" else None


def problem_with_ros2(words: list[str]) -> str | None:
    if words[:2] == ["service", "call"]:
        offered = {(f"/cf/{name}", kind.__name__) for name, kind in service_types().items()}
        return None if (words[2], words[3].rpartition("/")[2]) in offered else f"there is no service {words[2:4]}"
    if words[:2] == ["topic", "echo"]:
        return None if f"| {words[-1]} |" in ARCHITECTURE else f"there is no topic {words[-1]}"
    if words[:2] != ["launch", "deq_mpc_controller"]:
        return f"unknown ros2 {' '.join(words)}"
    if not (ROOT / "launch" / words[2]).is_file():
        return f"there is no launch file {words[2]}"
    return problem_with_launch("fly.launch.yaml", words[3:])


def problem_with_docker(words: list[str]) -> str | None:
    if words[:2] == ["compose", "-f"]:
        services = yaml.safe_load((ROOT / words[2]).read_text(encoding="utf-8"))["services"]
        return None if words[-1] in services else f"there is no service {words[-1]}"
    return problem_with_file(words[words.index("-f") + 1])


CHECKS = {
    "make": problem_with_make,
    "deq-mpc": problem_with_deq_mpc,
    "ros2": problem_with_ros2,
    "docker": problem_with_docker,
}


def problem_with(command: list[str]) -> str | None:
    """What is wrong with a command of a document, None if nothing is."""
    words = [word for word in command if not re.match(r"[A-Z_]+=", word)] if command[0] != "make" else command
    program, *rest = words
    name = Path(program).name
    if name in CHECKS:
        return CHECKS[name](rest)
    if name == "python":
        return problem_with_file(rest[0])
    own_script = program.startswith("scripts/") and (ROOT / program).is_file()
    if name not in KNOWN_PROGRAMS and program != ".venv/bin/tensorboard" and not own_script:
        return f"unknown program {program}"
    found = (problem_with_file(word) for word in rest if FILE_NAME.fullmatch(word) and "://" not in word)
    return next(filter(None, found), None)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_files_of_the_document_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    problems = [f"{' '.join(command)}: {problem}" for command in commands(text) if (problem := problem_with(command))]
    problems += [problem for name in file_names(text) if (problem := problem_with_file(name))]
    assert not problems


def test_the_readme_has_commands_and_file_names() -> None:
    text = README.read_text(encoding="utf-8")
    assert {"make", "deq-mpc", "ros2"} <= {Path(command[0]).name for command in commands(text)}
    assert file_names(text)


def test_the_parameters_are_those_of_the_nodes() -> None:
    script = ROOT / "scripts/document_parameters.py"
    made = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    written = (ROOT / "docs/parameters.md").read_text(encoding="utf-8")
    assert written == made, "run .venv/bin/python scripts/document_parameters.py > docs/parameters.md"


def test_the_verdicts_fields_are_all_explained() -> None:
    section = ARCHITECTURE.partition("## Verdict")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE) == [field.name for field in fields(Verdict)]


@pytest.mark.parametrize(
    "line",
    [
        "make fry",
        "make fly SPEED=3",
        ".venv/bin/deq-mpc fry",
        ".venv/bin/deq-mpc launch fly sped:=3",
        ".venv/bin/deq-mpc launch --loud fly",
        ".venv/bin/deq-mpc call fry",
        ".venv/bin/python scripts/fry.py",
        "ros2 service call /cf/takeoff std_srvs/srv/Empty",
        "ros2 topic echo /cf/fry",
        "ros2 launch deq_mpc_controller fry.launch.py",
        "ros2 launch deq_mpc_controller fly.launch.py sped:=3",
        "docker compose -f docker/compose.yaml run fry",
        "source ros2_ws/nothing.sh",
        "frobnicate",
        "scripts/frobnicate.sh",
    ],
)
def test_the_checks_see_what_does_not_exist(line: str) -> None:
    (command,) = commands(f"```bash\n{line}  # a comment\n```\n")
    assert problem_with(command)


@pytest.mark.parametrize(
    "line",
    [
        "make fly SEED=3",
        "scripts/setup.sh venv python3",
        "SEED=3 make fly",
        "ros2 launch deq_mpc_controller fly.launch.py seed:=3",
        ".venv/bin/deq-mpc launch fly seed:=3",
        ".venv/bin/deq-mpc call land --robot cf7",
        ".venv/bin/python scripts/own_scene.py",
        'ros2 service call /cf/arm std_srvs/srv/SetBool "{data: true}"',
        "ros2 topic echo --once /cf/start",
        "docker compose -f docker/compose.yaml run fly",
        "git clone https://example.org/deq-mpc.git",
        "source ros2_ws/install/setup.bash",
    ],
)
def test_the_checks_pass_what_exists(line: str) -> None:
    (command,) = commands(f"```bash\n{line}\n```\n")
    assert problem_with(command) is None


def test_file_names_are_seen_in_prose_but_not_in_blocks() -> None:
    assert file_names("see `docs/a.md`, `x`\n```bash\ncat `b.md`\n```\nand `launch/`") == ["docs/a.md", "launch/"]
