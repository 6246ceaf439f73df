"""The set-up: what it refuses, and that what it installs is pinned and complete."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
PACKAGES = ("deq_mpc_core", "deq_mpc_controller", "deq_mpc_sim")


def requirements(path: Path) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requires(name: str) -> list[str]:
    """What an installed distribution needs; nothing for one that this Python does not get."""
    try:
        return distribution(name).requires or []
    except PackageNotFoundError:
        return []


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_every_requirement_is_pinned_to_one_version(path: Path) -> None:
    assert requirements(path)
    for requirement in requirements(path):
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement


def test_what_the_pinned_packages_need_is_pinned_too() -> None:
    pinned = {canonical(requirement.name) for path in REQUIREMENTS for requirement in requirements(path)}
    missing = {
        f"{requirement.name} (for {name})"
        for name in pinned - {"torch"}  # which pins what its own builds need
        for requirement in map(Requirement, requires(name))
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if canonical(requirement.name) not in pinned
    }
    assert not missing


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_each_python_gets_each_package_once(version: str) -> None:
    names = [
        canonical(requirement.name)
        for path in REQUIREMENTS
        for requirement in requirements(path)
        if requirement.marker is None or requirement.marker.evaluate({"python_version": version})
    ]
    assert {"numpy", "scipy", "torch"} <= set(names)
    assert len(names) == len(set(names))


def test_a_python_that_is_too_old_is_refused_in_one_line(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo Python 3.9.1; else exit 1; fi\n', encoding="utf-8")
    python.chmod(0o755)
    result = subprocess.run([ROOT / "scripts/setup.sh", "venv", python], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == "error: Python 3.9.1 cannot run this; use Python 3.10 to 3.13: make PYTHON=python3.12\n"


def test_a_missing_python_is_named() -> None:
    result = subprocess.run([ROOT / "scripts/setup.sh", "venv", "no-such-python"], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("error: no-such-python not found; install Python 3.10 to 3.13")


def test_an_unknown_step_is_refused() -> None:
    result = subprocess.run([ROOT / "scripts/setup.sh", "fly"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (2, "error: unknown step 'fly'; run make setup\n")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_configuration_reaches_each_package(package: str) -> None:
    shipped = {path.name for path in (ROOT / "config").glob("*.yaml")}
    assert shipped
    assert {path.name for path in files(package).joinpath("config").iterdir() if path.name.endswith(".yaml")} == shipped


@pytest.mark.parametrize("script", ["measure.sh", "train_crazyflie.sh"])
def test_a_script_that_runs_for_long_says_first_what_it_would_do(script: str) -> None:
    result = subprocess.run([ROOT / "scripts" / script, "--help"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"scripts/{script} [" in result.stdout
    assert "#" not in result.stdout
