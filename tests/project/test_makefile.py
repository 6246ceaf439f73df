"""The Makefile: its help is complete, its variables reach the flight, and a misspelt one is no silent default."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VARIABLES = re.findall(r"^(\w+) \?=", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)


def test_the_help_has_every_variable_and_target() -> None:
    text = make("help").stdout
    for name in (*VARIABLES, "make fly", "make test", "make setup", "make clean"):
        assert name in text
    assert {"PYTHON", "SEED", "POLICY", "SCENE", "OBSTACLES", "RADIUS"} == set(VARIABLES)


@pytest.mark.parametrize("variable", ["seed=3", "SEDE=3", "scene=a b"])
def test_a_variable_that_nobody_reads_is_refused(variable: str) -> None:
    done = make("--dry-run", "fly", variable)
    assert done.returncode == 2
    assert f"make reads no variable {variable.partition('=')[0]}; it reads PYTHON SEED" in done.stderr


def test_the_variables_reach_the_flight() -> None:
    done = make("--dry-run", "fly", "SCENE=gate", "POLICY=a b$$c", "PIP_INDEX_URL=https://example.org")
    assert done.returncode == 0, done.stderr
    (flight,) = (line for line in done.stdout.splitlines() if "deq-mpc fly" in line)
    for name in set(VARIABLES) - {"PYTHON"}:
        assert f'--{name.lower()} "${name}"' in flight
