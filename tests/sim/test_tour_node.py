"""The node that flies by hand, with a controller and a world that are played here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from deq_mpc_controller.ros_messages import (
    LATCHED,
    LATEST,
    RELIABLE,
    STATES,
    cloud_message,
    diagnostics_message,
    pose_message,
    truth_message,
    vector,
)
from deq_mpc_sim.tour import MINUTE
from deq_mpc_sim.tour_node import TourNode

START, GOAL = np.array([-1.5, 0.0, 1.0]), np.array([1.5, 0.0, 1.0])
LEVEL, REST = np.array([0.0, 0.0, 0.0, 1.0]), np.zeros(3)
MINUTES = 2.0


class Stage(Node):
    """Plays the controller, the world and the obstacles."""

    def __init__(self) -> None:
        super().__init__("stage")
        self.asked: list[str] = []
        self.goal = REST
        self._states = self.create_publisher(String, "/cf/flight_state", STATES)
        self._truths = self.create_publisher(Odometry, "/cf/truth", LATEST)
        self._clouds = self.create_publisher(PointCloud2, "/obstacles", LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        self._goals = self.create_publisher(PoseStamped, "/cf/goal", LATCHED)
        self._starts = self.create_publisher(PoseStamped, "/cf/start", LATCHED)
        self.create_subscription(PoseStamped, "/cf/goal", self._on_goal, LATCHED)
        for kind, name, state in ((SetBool, "arm", "ARMED"), (Trigger, "takeoff", "FLY"), (Trigger, "land", "IDLE")):
            self.create_service(kind, f"/cf/{name}", lambda _, answer, n=name, s=state: self._serve(n, s, answer))
        self._clouds.publish(cloud_message(0.0, "world", np.array([[0.0, 0.0, 1.0, 0.1, 0.0, 0.0, 0.0]])))
        self._starts.publish(pose_message(0.0, "world", START))
        self._goals.publish(pose_message(0.0, "world", GOAL))

    def say(self, state: str) -> None:
        self._states.publish(String(data=state))

    def diagnose(self, t: float, **changes: object) -> None:
        values = {"control_steps": 900, "deadline_misses": 7, "scheduler_stalls": 4, "policy_ms_p50": "0.5"}
        values |= {"policy_ms_p99": "nan", "memory_mb": "400.5", "failure": "", **changes}
        self._diagnostics.publish(diagnostics_message(t, "cf: flight", 0, "", values))

    def stand(self, t: float, pos: np.ndarray) -> None:
        self._truths.publish(truth_message(t, "world", "cf", pos, LEVEL, REST, REST))

    def _serve(self, name: str, state: str, answer: SetBool.Response | Trigger.Response) -> object:
        self.asked.append(name)
        self.say(state)
        answer.success = True
        return answer

    def _on_goal(self, message: PoseStamped) -> None:
        self.goal = vector(message.pose.position)


class Pair:
    """The node and its stage, spun in turn."""

    def __init__(self) -> None:
        self.node, self.stage = TourNode(), Stage()

    def spin(self, until: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
        end = time.monotonic() + 60.0
        while not until():
            assert time.monotonic() < end, f"mode {self.node.mode}, asked {self.stage.asked}"
            meanwhile()
            for node in (self.node, self.stage):
                rclpy.spin_once(node, timeout_sec=0.01)
            self.node.act(interrupted=False)

    def begin(self) -> None:
        self.stage.say("READY")
        self.spin(lambda: self.node.tour is not None)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    rclpy.init(args=["--ros-args", "-p", f"minutes:={MINUTES}", "-p", f"out:={tmp_path / 'tour.json'}"])
    pair = Pair()
    yield pair
    pair.node.destroy_node()
    pair.stage.destroy_node()
    rclpy.shutdown()


def test_a_tour_from_arming_to_the_landing(pair: Pair) -> None:
    stage, node = pair.stage, pair.node
    pair.begin()
    assert stage.asked == ["arm", "takeoff"]
    pair.spin(lambda: bool((stage.goal == START).all()), lambda: stage.stand(100.0, GOAL))
    pair.spin(lambda: bool((stage.goal == GOAL).all()), lambda: stage.stand(110.0, START))
    assert node.tour is not None
    assert node.tour.reached == 2
    pair.spin(lambda: node.summary().control_steps > 0, lambda: stage.diagnose(101.0))
    assert node.summary().memory_mb == ()  # what the warm-up takes is no growth
    for k in range(3):
        t, memory = 140.0 + 12.0 * k, f"{400.0 + 0.2 * k:.1f}"
        pair.spin(lambda k=k: len(node.summary().memory_mb) > k, lambda t=t, m=memory: stage.diagnose(t, memory_mb=m))
    pair.spin(lambda: node.over, lambda: stage.stand(100.0 + MINUTE * MINUTES, REST))
    assert stage.asked == ["arm", "takeoff", "land"]
    summary = node.summary()
    assert (summary.fault, summary.goals_reached, summary.goals_missed) == (None, 2, 0)
    assert (summary.control_steps, summary.deadline_misses, summary.scheduler_stalls) == (900, 7, 4)
    assert (summary.policy_ms.p50, summary.policy_ms.p99, summary.policy_ms.max) == (0.5, None, None)
    assert summary.minutes == pytest.approx(MINUTES)
    assert summary.memory_mb == (400.0, 400.2, 400.4)
    assert summary.memory_mb_per_min == pytest.approx(1.0)
    assert summary.min_clearance_m == pytest.approx(0.9)


def test_a_fault_ends_the_tour_and_is_told(pair: Pair) -> None:
    pair.begin()
    pair.stage.diagnose(1.0, failure="no mocap pose")
    pair.spin(lambda: pair.node.summary().control_steps > 0)
    pair.stage.say("FAULT")
    pair.spin(lambda: pair.node.over)
    assert pair.node.summary().fault == "no mocap pose"
    assert "land" not in pair.stage.asked


def test_without_a_flight_there_is_no_tour(pair: Pair) -> None:
    assert not pair.node.over
    assert pair.node.summary().fault == "no flight: the controller never flew"
