"""The controller node over ROS, cflib and UDP with the simulated world: whole flights, failures, bad parameters."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Empty, Trigger
from visualization_msgs.msg import MarkerArray

from deq_mpc_controller.ros_messages import LATCHED, LATEST, RELIABLE, STATES, vector

WORLD, OBSTACLES = "deq_mpc_sim.world_node", "deq_mpc_sim.obstacle_node"
CONTROLLER = "deq_mpc_controller.controller_node"
PATIENCE = 60.0
SCENE = ("seed:=1", "radius:=0.05")
"""A scene that the straight-line policy crosses without meeting a sphere."""


def command(module: str, *parameters: str) -> list[str]:
    options = [option for parameter in parameters for option in ("-p", parameter)]
    return [sys.executable, "-c", f"from {module} import main; main()", "--ros-args", *options]


def free_uri() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"udp://127.0.0.1:{probe.getsockname()[1]}"


class Watcher(Node):
    """Sees what the nodes publish."""

    def __init__(self) -> None:
        super().__init__("watcher")
        self.states: list[str] = []
        self.pos = np.zeros(3)
        self.highest = 0.0
        self.latest: dict[str, object] = {}
        self.diagnostics: dict[str, str] = {}
        self.create_subscription(String, "/cf/flight_state", lambda m: self.states.append(m.data), STATES)
        self.create_subscription(Odometry, "/cf/truth", self._on_truth, LATEST)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)
        for name, kind, qos in (
            ("/cf/odom", Odometry, LATEST),
            ("/cf/setpoint", JointState, RELIABLE),
            ("/cf/plan", PathMessage, RELIABLE),
            ("/markers", MarkerArray, LATCHED),
        ):
            self.create_subscription(kind, name, lambda m, name=name: self.latest.__setitem__(name, m), qos)
        self.emergency = self.create_client(Empty, "/cf/emergency")
        self.takeoff = self.create_client(Trigger, "/cf/takeoff")

    def _on_truth(self, message: Odometry) -> None:
        self.pos = vector(message.pose.pose.position)
        self.highest = max(self.highest, self.pos[2])

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics.update({value.key: value.value for value in status.values})


class Nodes:
    """Started nodes; whatever still runs at the end is killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, module: str, *parameters: str) -> None:
        with (self._folder / module).open("wb") as log:
            self._processes[module] = subprocess.Popen(command(module, *parameters), stdout=log, stderr=log)

    def log(self, module: str) -> str:
        return (self._folder / module).read_text()

    def check(self) -> None:
        for module, process in self._processes.items():
            assert process.poll() is None, f"{module} has ended: {self.log(module)}"

    def stop(self, module: str) -> int:
        process = self._processes[module]
        process.send_signal(signal.SIGINT)
        return process.wait(PATIENCE)

    def kill(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    rclpy.init()
    node = Watcher()
    yield node
    node.destroy_node()
    rclpy.shutdown()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path)
    yield nodes
    nodes.kill()


def start_flight(nodes: Nodes, *world: str, controller: tuple[str, ...] = ("auto:=true",)) -> None:
    uri = free_uri()
    nodes.start(WORLD, f"uri:={uri}", *SCENE, *world)
    nodes.start(OBSTACLES, *SCENE)
    nodes.start(CONTROLLER, f"uri:={uri}", "policy:=straight-line", *controller)


def wait_for(watcher: Watcher, nodes: Nodes, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        rclpy.spin_once(watcher, timeout_sec=0.1)
        nodes.check()
        assert time.monotonic() < end, f"not in time; states {watcher.states}, {nodes.log(CONTROLLER)}"


@pytest.mark.slow
def test_a_whole_flight(watcher: Watcher, nodes: Nodes) -> None:
    start_flight(nodes)
    wait_for(watcher, nodes, lambda: "LAND" in watcher.states and watcher.states[-1] == "READY")
    assert watcher.states[-7:] == ["READY", "ARMED", "TAKEOFF", "FLY", "LAND", "IDLE", "READY"]
    assert watcher.latest.keys() == {"/cf/odom", "/cf/setpoint", "/cf/plan", "/markers"}
    wait_for(watcher, nodes, lambda: watcher.pos[2] < 0.02)
    wait_for(watcher, nodes, lambda: watcher.diagnostics["flight_state"] == "READY")
    assert 0.0 < float(watcher.diagnostics["policy_ms_p50"]) <= float(watcher.diagnostics["policy_ms_max"])
    assert int(watcher.diagnostics["poses_accepted"]) > 500
    assert int(watcher.diagnostics["scheduler_stalls"]) <= int(watcher.diagnostics["deadline_misses"])
    assert float(watcher.diagnostics["memory_mb"]) > 10.0
    assert watcher.diagnostics["poses_jump"] == "0"
    assert watcher.diagnostics["failure"] == ""
    assert [nodes.stop(module) for module in (CONTROLLER, OBSTACLES, WORLD)] == [0, 0, 0]


@pytest.mark.slow
def test_a_mocap_outage_ends_in_a_safe_landing(watcher: Watcher, nodes: Nodes) -> None:
    start_flight(nodes, "outage_after:=0.5", "outage_duration:=0.4")
    wait_for(watcher, nodes, lambda: watcher.states[-1:] == ["FAULT"])
    assert watcher.states[-3:] == ["FLY", "LAND", "FAULT"]
    assert "FLY -> LAND: no mocap pose" in nodes.log(CONTROLLER)
    wait_for(watcher, nodes, lambda: watcher.pos[2] < 0.02)
    assert watcher.highest < 1.8
    assert nodes.stop(CONTROLLER) == 1


@pytest.mark.slow
def test_an_interrupt_in_the_air_lands_first(watcher: Watcher, nodes: Nodes) -> None:
    start_flight(nodes)
    wait_for(watcher, nodes, lambda: watcher.states[-1:] == ["FLY"])
    assert nodes.stop(CONTROLLER) == 0
    log = nodes.log(CONTROLLER)
    assert "FLY -> LAND" in log
    assert "LAND -> IDLE" in log
    end = time.monotonic() + PATIENCE
    while watcher.diagnostics.get("failure") != "interrupted":  # its last messages wait in the queue
        rclpy.spin_once(watcher, timeout_sec=0.1)
        assert time.monotonic() < end


@pytest.mark.slow
def test_services(watcher: Watcher, nodes: Nodes) -> None:
    start_flight(nodes, controller=("auto:=false",))
    wait_for(watcher, nodes, lambda: watcher.states[-1:] == ["READY"])
    wait_for(watcher, nodes, watcher.takeoff.service_is_ready)
    refused = watcher.takeoff.call_async(Trigger.Request())
    wait_for(watcher, nodes, refused.done)
    assert not refused.result().success
    assert refused.result().message.endswith("arm it first")
    wait_for(watcher, nodes, watcher.emergency.service_is_ready)
    stopped = watcher.emergency.call_async(Empty.Request())
    wait_for(watcher, nodes, stopped.done)
    wait_for(watcher, nodes, lambda: watcher.states[-1] == "ESTOP")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (("rate:=1000.0",), "parameter 'rate'"),
        (("rate:=fast",), "parameter 'rate'"),
        (("policy:=no/such/checkpoint.safetensors",), "no/such/checkpoint.safetensors"),
        (("platform:=cf99", "policy:=straight-line"), "unknown platform 'cf99'"),
        (("uri:=udp://127.0.0.1:9", "connect_time:=0.1", "policy:=straight-line"), "no Crazyflie at udp://127.0.0.1:9"),
    ],
)
def test_bad_parameters_are_one_line_and_status_2(parameters: tuple[str, ...], message: str) -> None:
    done = subprocess.run(
        command(CONTROLLER, *parameters), capture_output=True, text=True, timeout=120, env=os.environ, check=False
    )
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in done.stderr
