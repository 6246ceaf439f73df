"""The launcher's care for its nodes, with small scripts in the place of nodes."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import yaml

from deq_mpc_controller import flight, ros_launch
from deq_mpc_controller.flight import Mode, Request
from deq_mpc_controller.launch_file import Node
from deq_mpc_controller.manoeuvres import Manoeuvre
from deq_mpc_controller.safety import Action
from deq_mpc_controller.settings import controller_config
from deq_mpc_core.errors import UserError

Install = Callable[..., Node]

WAIT = """
import signal, sys, time
from pathlib import Path
log = Path({log!r})
def stop(*_):
    with log.open("a") as f:
        f.write({name!r} + " stopped\\n")
    sys.exit(0)
signal.signal(signal.SIGINT, stop)
with log.open("a") as f:
    f.write({name!r} + " started\\n")
while True:
    time.sleep(0.05)
"""


def await_lines(log: Path, count: int) -> list[str]:
    while not log.exists() or len(lines := log.read_text().splitlines()) < count:
        time.sleep(0.02)
    return lines


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a Python script as a node of the package `trial`."""
    index = tmp_path / "share/ament_index/resource_index/packages"
    index.mkdir(parents=True)
    (index / "trial").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))

    def _install(name: str, script: str, **parameters: object) -> Node:
        path = tmp_path / "lib/trial" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!{sys.executable}\n{script}", encoding="utf-8")
        path.chmod(0o755)
        return Node("trial", name, name, parameters, (), {"GREETING": "hello"})

    return _install


@pytest.fixture
def waiting(install: Install, tmp_path: Path) -> Callable[[str], Node]:
    """A node that runs until SIGINT, and its log of starts and stops in log.txt."""
    return lambda name: install(name, WAIT.format(log=str(tmp_path / "log.txt"), name=name))


def after_start(log: Path, count: int, status: int) -> str:
    """A script that ends with ``status`` once ``count`` nodes have started."""
    return (
        f"import sys, time, pathlib\nlog = pathlib.Path({str(log)!r})\n"
        f"while not log.exists() or log.read_text().count('started') < {count}: time.sleep(0.02)\nsys.exit({status})\n"
    )


@pytest.mark.parametrize("status", [0, 3])
def test_the_first_node_to_end_ends_the_launch_with_its_status(
    install: Install, waiting: Callable[[str], Node], tmp_path: Path, status: int
) -> None:
    log = tmp_path / "log.txt"
    nodes = [waiting("a"), waiting("b"), install("ending", after_start(log, 2, status))]
    assert ros_launch.launch(nodes) == status
    assert log.read_text().splitlines()[-2:] == ["b stopped", "a stopped"]


def test_a_node_that_dies_of_a_signal_has_its_status_as_a_shell_counts_it(install: Install) -> None:
    assert ros_launch.launch([install("dying", "import os\nos.kill(os.getpid(), 9)\n")]) == 128 + signal.SIGKILL


def test_nodes_get_parameters_and_environment(install: Install, tmp_path: Path) -> None:
    script = (
        "import os, shutil, sys\n"
        "at = sys.argv.index('--params-file')\n"
        f"shutil.copy(sys.argv[at + 1], {str(tmp_path / 'seen.yaml')!r})\n"
        "sys.exit(sys.argv[1:4] != ['--ros-args', '-r', '__node:=n']\n"
        "         or [os.environ['GREETING'], os.environ['MORE']] != ['hello', 'more'])\n"
    )
    node = install("n", script, uri="udp://127.0.0.1:19850", count=3, ratio=1.0, policy="1")
    assert ros_launch.launch([node], {"MORE": "more"}) == 0
    seen = yaml.safe_load((tmp_path / "seen.yaml").read_text())
    assert seen == {
        "/**": {"ros__parameters": {"uri": "udp://127.0.0.1:19850", "count": 3, "ratio": 1.0, "policy": "1"}}
    }


def test_nothing_starts_if_an_executable_is_missing(waiting: Callable[[str], Node], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such executable"):
        ros_launch.launch([waiting("a"), Node("trial", "missing", None, {}, (), {})])
    assert not (tmp_path / "log.txt").exists()


def test_a_package_that_is_not_installed_is_named(install: Install) -> None:
    with pytest.raises(UserError, match="package 'other' is not installed"):
        ros_launch.launch([Node("other", "n", None, {}, (), {})])


def test_a_launch_file_that_is_not_there_comes_with_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ros_launch, "find_share", lambda package: tmp_path / package)
    folder = tmp_path / "deq_mpc_controller/launch"
    folder.mkdir(parents=True)
    for name in ("fly", "see"):
        (folder / f"{name}.launch.yaml").touch()
    assert ros_launch.find_launch_file("see") == folder / "see.launch.yaml"
    with pytest.raises(UserError, match="no launch file 'fry'; installed: fly, see; or give the path of one"):
        ros_launch.find_launch_file("fry")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_nodes_last_one_first(
    waiting: Callable[[str], Node], tmp_path: Path, number: signal.Signals
) -> None:
    nodes = [waiting("a"), waiting("b")]
    script = (
        "import sys; from deq_mpc_controller.launch_file import Node; from deq_mpc_controller import ros_launch\n"
        f"sys.exit(ros_launch.launch({nodes!r}))"
    )
    launcher = subprocess.Popen([sys.executable, "-c", script], start_new_session=True, env=os.environ)
    log = tmp_path / "log.txt"
    await_lines(log, 2)
    launcher.send_signal(number)
    assert launcher.wait() == 128 + number
    assert log.read_text().splitlines()[2:] == ["b stopped", "a stopped"]


def test_a_node_that_ignores_signals_is_killed(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ros_launch, "PATIENCE_S", ((signal.SIGINT, 0.1), (signal.SIGTERM, 0.1), (signal.SIGKILL, 5.0)))
    log = tmp_path / "log.txt"
    deaf = (
        "import signal, time, pathlib\nfor n in (signal.SIGINT, signal.SIGTERM): signal.signal(n, signal.SIG_IGN)\n"
        f"pathlib.Path({str(log)!r}).write_text('started\\n')\nwhile True: time.sleep(0.05)\n"
    )
    assert ros_launch.launch([install("deaf", deaf), install("ending", after_start(log, 1, 0))]) == 0


def test_a_controller_may_land_first(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than any other node is given."""
    monkeypatch.setattr(ros_launch, "PATIENCE_S", ((signal.SIGINT, 0.1), (signal.SIGTERM, 0.1), (signal.SIGKILL, 5.0)))
    log = tmp_path / "log.txt"
    landing = (
        "import signal, sys, time, pathlib\n"
        f"log = pathlib.Path({str(log)!r})\n"
        "def land(*_):\n    time.sleep(0.6)\n    log.write_text('landed')\n    sys.exit(0)\n"
        "signal.signal(signal.SIGINT, land)\nlog.write_text('started')\nwhile True: time.sleep(0.05)\n"
    )
    nodes = [install("controller_node", landing), install("ending", after_start(log, 1, 0))]
    assert ros_launch.launch(nodes) == 0
    assert log.read_text() == "landed"


def longest_landing() -> float:
    """Seconds of a landing from the highest point that takes its time, and is then ordered by safety, too."""
    config = controller_config()
    low, high = config.safety.fence_low[2], config.safety.fence_high[2] + config.safety.fence_stop
    state = replace(flight.in_the_air(0.0, np.array([0.0, 0.0, high])), home=np.array([0.0, 0.0, low]))
    top = flight.FlightInputs(t=0.0, pos=np.array([0.0, 0.0, high]), vel=np.zeros(3))
    t, action, step = 0.0, Action.NONE, 0.1
    wish = replace(top, requests=frozenset({Request.LAND}), manoeuvre=Manoeuvre(duration=1e6))
    state = flight.advance(state, wish, config.flight)
    while state.mode is Mode.LAND:
        t += step
        ends = flight.advance(state, replace(top, t=t + step), config.flight).mode is not Mode.LAND
        action = Action.LAND if ends else action
        state = flight.advance(state, replace(top, t=t, action=action, reason="some fault"), config.flight)
    assert state.mode is Mode.FAULT
    return t


def test_no_controller_is_ended_before_it_can_have_landed() -> None:
    assert controller_config().flight.land_time_max < longest_landing() < ros_launch.landing_patience()


def test_ros2_launch_has_the_same_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("launch", "launch.actions", "launch.event_handlers", "launch.events", "launch.events.process"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    monkeypatch.setitem(sys.modules, "launch.launch_description_sources", MagicMock())
    declare = MagicMock()
    monkeypatch.setattr(sys.modules["launch.actions"], "DeclareLaunchArgument", declare)
    runpy.run_path(str(Path(__file__).parents[2] / "launch/fly.launch.py"))
    (call,) = declare.call_args_list
    assert call.args == ("sigterm_timeout",)
    assert float(call.kwargs["default_value"]) >= ros_launch.landing_patience()
