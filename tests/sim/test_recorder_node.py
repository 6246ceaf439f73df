"""The recorder over real ROS: a bag, a picture and a verdict of a flight that fake publishers play."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import JointState, PointCloud2, PointField
from std_msgs.msg import String

from deq_mpc_core.config import load_config
from deq_mpc_core.learning.dataset import DatasetConfig, build_dataset
from deq_mpc_core.learning.sampling import SampleSpec
from deq_mpc_core.obstacle_cloud import FIELDS, FLOAT32, POINT_STEP, pack_obstacles
from deq_mpc_sim.flight_folder import read_verdict
from deq_mpc_sim.recorder_node import TimeLimits

RECORDER = "from deq_mpc_sim.recorder_node import main; main()"
LATCHED = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
DEPTH = 1000
"""More than is ever published: on a busy machine the recorder may come to it late."""
BEST_EFFORT = QoSProfile(depth=DEPTH, reliability=QoSReliabilityPolicy.BEST_EFFORT)
START, GOAL = np.array([-1.0, 0.0, 1.0]), np.array([1.0, 0.0, 1.0])
FLIGHT_S = 3.0
STEPS = 150


class FakeFlight(Node):
    """Plays a flight as the controller and the simulation would publish it, on a clock of its own."""

    def __init__(self) -> None:
        super().__init__("fake_flight")
        self.t = 100.0
        self.pose = self.create_publisher(PoseStamped, "/cf/pose", BEST_EFFORT)
        self.truth = self.create_publisher(Odometry, "/cf/truth", BEST_EFFORT)
        self.setpoint = self.create_publisher(JointState, "/cf/setpoint", DEPTH)
        self.goal = self.create_publisher(PoseStamped, "/cf/goal", LATCHED)
        self.obstacles = self.create_publisher(PointCloud2, "/obstacles", LATCHED)
        self.state = self.create_publisher(String, "/cf/flight_state", LATCHED)
        self.diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", DEPTH)

    def stamp(self, message: object) -> None:
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(round(self.t * 1e9), 10**9)

    def publish_scene(self, obstacles: np.ndarray) -> None:
        goal = PoseStamped()
        goal.pose.position.x, goal.pose.position.y, goal.pose.position.z = GOAL.tolist()
        fields = [PointField(name=name, offset=4 * i, datatype=FLOAT32, count=1) for i, name in enumerate(FIELDS)]
        cloud = PointCloud2(height=1, width=len(obstacles), point_step=POINT_STEP, fields=fields)
        cloud.row_step, cloud.data = POINT_STEP * len(obstacles), pack_obstacles(obstacles)
        for message, publisher in ((goal, self.goal), (cloud, self.obstacles)):
            self.stamp(message)
            publisher.publish(message)

    def publish_vehicle(self, pos: np.ndarray, vel: np.ndarray) -> None:
        self.t += FLIGHT_S / STEPS
        truth, pose = Odometry(), PoseStamped()
        for point, message in ((truth.pose.pose, truth), (pose.pose, pose)):
            point.position.x, point.position.y, point.position.z = pos.tolist()
            point.orientation.w = 1.0
            self.stamp(message)
        truth.twist.twist.linear.x, truth.twist.twist.linear.y, truth.twist.twist.linear.z = vel.tolist()
        self.truth.publish(truth)
        self.pose.publish(pose)

    def publish_setpoint(self) -> None:
        setpoint = JointState(name=["roll", "pitch", "yaw_rate", "thrust"], position=[0.0, 0.0, 0.0, 0.3])
        self.stamp(setpoint)
        self.setpoint.publish(setpoint)

    def publish_diagnostics(self) -> None:
        numbers = {"policy_ms_p50": "1.25", "policy_ms_p99": "2.5", "policy_ms_max": "3.75"}
        numbers |= {"deadline_misses": "1", "control_steps": "480"}
        values = [KeyValue(key=key, value=value) for key, value in numbers.items()]
        message = DiagnosticArray(
            status=[DiagnosticStatus(name="other"), DiagnosticStatus(name="policy", values=values)]
        )
        self.stamp(message)
        self.diagnostics.publish(message)

    def fly(self, recorder: Recorder) -> None:
        """From start to goal, until the recorder says that it is there; the topics are not ordered among each other."""
        self.state.publish(String(data="FLY"))
        recorder.await_line("FLY")
        for i in range(STEPS + 1):
            s = i / STEPS
            vel = 30 * s**2 * (1 - s) ** 2 / FLIGHT_S * (GOAL - START)
            self.publish_vehicle(START + (10 * s**3 - 15 * s**4 + 6 * s**5) * (GOAL - START), vel)
            self.publish_setpoint()
            rclpy.spin_once(self, timeout_sec=0.002)
        self.publish_diagnostics()
        recorder.await_line("FLY   0.00 m to the goal", lambda: self.publish_vehicle(GOAL, np.zeros(3)))


class Recorder:
    """A recorder in a process of its own, and the lines of its progress."""

    def __init__(self, out: Path, fake: FakeFlight, *parameters: str) -> None:
        """Start it and wait until it hears ``fake``."""
        options = [option for parameter in (f"out:={out}", "name:=one", *parameters) for option in ("-p", parameter)]
        self._fake = fake
        self._log = out.with_name(f"{out.name}.log")
        self._seen = 0
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([sys.executable, "-c", RECORDER, "--ros-args", *options], stderr=log)
        publishers = [fake.pose, fake.truth, fake.setpoint, fake.goal, fake.obstacles, fake.state, fake.diagnostics]
        while any(publisher.get_subscription_count() == 0 for publisher in publishers):
            self._pause()

    @property
    def lines(self) -> list[str]:
        return self._log.read_text().splitlines()

    def _pause(self) -> None:
        assert self.process.poll() is None, self.lines
        rclpy.spin_once(self._fake, timeout_sec=0.05)

    def await_line(self, text: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Until a new line of the progress contains ``text``; ``meanwhile`` is done again and again."""
        while not any(text in line for line in self.lines[self._seen :]):
            meanwhile()
            self._pause()
        self._seen = len(self.lines)

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait()


@pytest.fixture
def fake() -> Iterator[FakeFlight]:
    rclpy.init()
    node = FakeFlight()
    yield node
    node.destroy_node()
    rclpy.shutdown()


def test_a_flight_leaves_bag_picture_and_verdict(fake: FakeFlight, tmp_path: Path) -> None:
    fake.publish_scene(np.array([[0.0, 0.4, 1.0, 0.15, 0.0, 0.0, 0.0]]))
    recorder = Recorder(tmp_path, fake)
    fake.fly(recorder)
    for state in ("LAND", "IDLE"):
        fake.state.publish(String(data=state))
    assert recorder.wait() == 0, recorder.lines
    folder = tmp_path / "one"
    assert sorted(path.name for path in folder.iterdir()) == ["bag", "flight.png", "verdict.json"]
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["success"]
    assert verdict["min_clearance_m"] == pytest.approx(0.25, abs=0.01)
    assert verdict["policy_ms"] == {"p50": 1.25, "p99": 2.5, "max": 3.75}
    assert (verdict["deadline_misses"], verdict["control_steps"], verdict["fault"]) == (1, 480, None)
    assert "success" in recorder.lines[-1]
    with Reader(folder / "bag") as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
    assert counts["/cf/setpoint"] == STEPS + 1
    assert counts["/cf/flight_state"] == 3
    assert counts["/obstacles"] == counts["/cf/goal"] == 1
    assert counts["/cf/pose"] >= STEPS

    dataset, _ = build_dataset(
        [folder / "bag"], load_config("dataset", DatasetConfig), SampleSpec(0.05, 8, 0.01, 2), 0.05
    )
    assert len(dataset) > 10
    np.testing.assert_allclose(dataset.goal, np.tile(GOAL, (len(dataset), 1)))


def test_a_collision_and_a_fault_fail(fake: FakeFlight, tmp_path: Path) -> None:
    fake.publish_scene(np.array([[0.0, 0.0, 1.0, 0.15, 0.0, 0.0, 0.0]]))
    recorder = Recorder(tmp_path, fake)
    fake.fly(recorder)
    fake.state.publish(String(data="FAULT"))
    assert recorder.wait() == 1, recorder.lines
    verdict = read_verdict(tmp_path / "one")
    assert verdict is not None
    assert (verdict.success, verdict.collisions) == (False, 1)


def test_an_interrupt_in_flight_keeps_the_bag(fake: FakeFlight, tmp_path: Path) -> None:
    fake.publish_scene(np.zeros((0, 7)))
    recorder = Recorder(tmp_path, fake)
    fake.fly(recorder)
    recorder.process.send_signal(signal.SIGINT)
    assert recorder.wait() == 1, recorder.lines
    verdict = read_verdict(tmp_path / "one")
    assert verdict is not None
    assert not verdict.success
    with Reader(tmp_path / "one" / "bag") as reader:
        assert reader.message_count > 2 * STEPS


def test_an_interrupt_on_the_ground_leaves_nothing(fake: FakeFlight, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, fake)
    recorder.process.send_signal(signal.SIGINT)
    assert recorder.wait() == 1, recorder.lines
    assert recorder.lines[-1] == "no flight: interrupted"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_a_flight_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one" / "bag").mkdir(parents=True)
    command = [sys.executable, "-c", RECORDER, "--ros-args", "-p", f"out:={tmp_path}", "-p", "name:=one"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == f"error: {tmp_path / 'one' / 'bag'} exists; move it away or choose another name\n"


def test_a_flight_waits_for_its_take_off_and_then_has_its_time() -> None:
    by_hand, automatic = TimeLimits(inf, 60.0), TimeLimits(30.0, 60.0)
    for limits in (by_hand, automatic):
        assert limits.overdue(1000.0, False) is None
    assert by_hand.overdue(1e9, False) is None
    assert automatic.overdue(1031.0, False) == "not begun after 30 s"
    assert by_hand.overdue(1e9 + 1.0, True) is None
    assert by_hand.overdue(1e9 + 60.0, True) is None
    assert by_hand.overdue(1e9 + 62.0, True) == "not over 60 s after the take-off"


def test_a_flight_by_hand_is_not_given_up_on_the_ground(fake: FakeFlight, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, fake, "start_timeout:=1.0", "timeout:=1.0")
    fake.state.publish(String(data="READY"))
    recorder.await_line("READY")
    recorder.await_line("READY")  # two seconds later
    fake.state.publish(String(data="TAKEOFF"))
    assert recorder.wait() == 1, recorder.lines
    assert "not over 1 s after the take-off" in recorder.lines[-1]


def test_an_automatic_flight_that_does_not_begin_is_given_up(tmp_path: Path) -> None:
    options = ("-p", f"out:={tmp_path}", "-p", "auto:=true", "-p", "start_timeout:=1.0")
    command = [sys.executable, "-c", RECORDER, "--ros-args", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.splitlines()[-1]) == (1, "no flight: not begun after 1 s")
    assert not list(tmp_path.iterdir())
