"""``deq-mpc fly``: what it refuses before anything starts, and what it says at the end. The nodes are scripts here."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

FLY = "from deq_mpc_core.cli import main; main()"

RECORDER = """
import json, pathlib, sys, yaml
parameters = yaml.safe_load(open(sys.argv[sys.argv.index("--params-file") + 1]))
(values,) = (node["ros__parameters"] for node in parameters.values())
folder = pathlib.Path(values["out"]) / values["name"]
folder.mkdir()
print("a word on stdout")
verdict = {"success": SUCCESS, "collisions": 0, "min_clearance_m": 0.1, "time_to_goal_s": 4.0,
           "policy_ms": {"p50": 1.0, "p99": 2.0, "max": 3.0}, "deadline_misses": 0, "control_steps": 900,
           "fault": None if SUCCESS else "no lift-off",
           "bag": str(folder / "bag"), "picture": str(folder / "flight.png")}
(folder / "verdict.json").write_text(json.dumps(verdict))
(folder / "values.json").write_text(json.dumps(values))
sys.exit(not SUCCESS)
"""
WAITING = "import signal, time; signal.signal(signal.SIGINT, lambda *_: exit(0))\nwhile True: time.sleep(0.05)"
REFUSING = "import sys; sys.stderr.write('error: no Crazyflie\\n'); sys.exit(2)"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with the project's launch file whose nodes are scripts that wait."""
    root = Path(__file__).resolve().parents[2]
    index = tmp_path / "ws/share/ament_index/resource_index/packages"
    index.mkdir(parents=True)
    for package, nodes in {
        "deq_mpc_controller": ["controller_node"],
        "deq_mpc_sim": ["world_node", "obstacle_node", "recorder_node"],
    }.items():
        (index / package).touch()
        for node in nodes:
            install(tmp_path / "ws", package, node, WAITING)
    share = tmp_path / "ws/share/deq_mpc_controller/launch"
    share.mkdir(parents=True)
    (share / "fly.launch.yaml").write_text((root / "launch/fly.launch.yaml").read_text())
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "ws"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "ws"


def install(workspace: Path, package: str, node: str, script: str) -> None:
    path = workspace / "lib" / package / node
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{script}\n")
    path.chmod(0o755)


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FLY, "fly", "--policy", "straight-line", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def refusal(*arguments: str) -> str:
    process = start(*arguments)
    output, errors = process.communicate()
    assert process.returncode == 2, errors
    assert output == ""
    assert errors.count("\n") == 1
    assert not Path("flights").exists()
    return errors


@pytest.mark.parametrize("success", [True, False])
def test_the_last_line_is_the_verdict(workspace: Path, success: bool) -> None:
    install(workspace, "deq_mpc_sim", "recorder_node", RECORDER.replace("SUCCESS", str(success)))
    process = start("--seed", "7", "--radius", "0.2", "--obstacles", "moving", "--out", "elsewhere")
    output, errors = process.communicate()
    assert process.returncode == (0 if success else 1), errors
    (line,) = output.splitlines()
    assert json.loads(line)["success"] == success
    assert "a word on stdout" in errors
    assert ("success" if success else "failed") in errors
    assert ("no lift-off" in errors) == (not success)
    assert "none of 900 steps" in errors
    assert str(next(Path("elsewhere").iterdir()) / "flight.png") in errors
    (folder,) = Path("elsewhere").iterdir()
    assert folder.name.endswith("clutter-moving-seed7")
    values = json.loads((folder / "values.json").read_text())
    assert (values["seed"], values["obstacles"]) == (7, "moving")


def test_a_node_that_refuses_says_so_itself(workspace: Path) -> None:
    install(workspace, "deq_mpc_controller", "controller_node", REFUSING)
    process = start()
    output, errors = process.communicate()
    assert process.returncode == 2
    assert output == ""
    assert "error: no Crazyflie" in errors


def test_an_interrupt_stops_the_launch_and_tells_what_there_is(workspace: Path) -> None:
    script = RECORDER.replace("SUCCESS", "False").replace("sys.exit(not False)", "")
    install(workspace, "deq_mpc_sim", "recorder_node", f"{script}\n{WAITING}")
    process = start()
    flights = Path("flights")
    while not list(flights.glob("*/values.json")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130, errors
    assert not json.loads(output)["success"]


def test_bad_input_is_refused_before_anything_starts(workspace: Path) -> None:
    assert "no such checkpoint" in refusal("--policy", "missing.safetensors")
    Path("damaged.safetensors").write_text("nothing of the kind")
    assert "damaged.safetensors" in refusal("--policy", "damaged.safetensors")
    assert "maze" in refusal("--scene", "maze")
    assert "flying" in refusal("--obstacles", "flying")
    assert "radius" in refusal("--radius", "-1")
    assert "--seed" in refusal("--seed", str(2**70))
    assert "--speling" in refusal("--speling", "1")
    assert "cf99" in refusal("--platform", "cf99")
    assert "1999" in refusal("--firmware", "1999")
    assert "0.045 kg cannot be flown" in refusal("--mass", "0.045")
    assert "parameter 'mass' is 31.8" in refusal("--mass", "31.8")


def test_a_port_in_use_or_no_port_is_refused(workspace: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"udp://127.0.0.1:{taken.getsockname()[1]}"
        assert f"{uri}: cannot be used (Address already in use)" in refusal("--uri", uri)
    assert "has no host or no port" in refusal("--uri", "udp://127.0.0.1")
    assert "is no address" in refusal("--uri", "udp://127.0.0.1:99999")
    assert "is no Crazyflie's" in refusal("--uri", "nonsense")


def test_an_unwritable_folder_is_refused(workspace: Path) -> None:
    Path("file").write_text("")
    assert "file: cannot be written" in refusal("--out", "file")
