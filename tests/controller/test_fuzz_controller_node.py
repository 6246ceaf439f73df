"""10,000 messages that nobody means at the controller node: it neither crashes nor hangs, no vehicle moves."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header
from std_srvs.srv import Empty, SetBool, Trigger

from deq_mpc_controller import controller_node, ros_messages, ros_services
from deq_mpc_controller.controller_node import ControllerNode
from deq_mpc_controller.flight import Mode
from deq_mpc_controller.ros_messages import LATCHED, LATEST
from deq_mpc_controller.vehicle_io import Setpoint, SetpointKind, VehicleStatus

MESSAGES = 10_000
TOPIC_MESSAGES = 300
STEP_EVERY = 20
NUMBERS = (0.0, -0.0, 1.0, -3.0, 1e-300, 1e300, -1e300, float("nan"), float("inf"), float("-inf"), 0.5, 2.0**63)
FRAMES = ("world", "world", "world", "", "map", "World", "world ", "w\u00f6rld", "x" * 3000)
NAMES = ("x", "y", "z", "radius", "vx", "vy", "vz", "", "rgb", "X")


class StandIn:
    """A link whose vehicle is in the best of health; remembers what it was sent."""

    def __init__(self, *_arguments: object) -> None:
        self.sent: list[Setpoint] = []
        self.poses: list[tuple[np.ndarray, np.ndarray]] = []

    def status(self) -> VehicleStatus:
        return VehicleStatus(armed=True, voltage=4.0, age=0.01)

    def send(self, setpoint: Setpoint) -> None:
        self.sent.append(setpoint)

    def send_pose(self, pos: np.ndarray, quat: np.ndarray) -> None:
        self.poses.append((pos, quat))


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[ControllerNode]:
    monkeypatch.setattr(controller_node, "CrazyflieLink", StandIn)
    rclpy.init(args=["--ros-args", "-p", "policy:=straight-line", "--log-level", "fatal"])
    node = ControllerNode()
    yield node
    node.destroy_node()
    rclpy.shutdown()


class Fuzzer:
    """Seeded maker of messages."""

    def __init__(self, seed: int, now: Any) -> None:
        self.rng, self._now = random.Random(seed), now

    def number(self) -> float:
        return self.rng.choice(NUMBERS) if self.rng.random() < 0.5 else self.rng.uniform(-5.0, 5.0)

    def header(self) -> Header:
        wild = Time(sec=self.rng.randint(-(2**31), 2**31 - 1), nanosec=self.rng.randint(0, 2**32 - 1))
        stamp = wild if self.rng.random() < 0.5 else self._now()
        return Header(stamp=stamp, frame_id=self.rng.choice(FRAMES))

    def pose(self) -> PoseStamped:
        point, quat = [self.number() for _ in range(3)], [self.number() for _ in range(4)]
        if self.rng.random() < 0.3:
            quat = [0.0, 0.0, 0.0, 1.0]
        pose = Pose(position=Point(**dict(zip("xyz", point, strict=True))))
        pose.orientation = Quaternion(**dict(zip("xyzw", quat, strict=True)))
        return PoseStamped(header=self.header(), pose=pose)

    def cloud(self) -> PointCloud2:
        rng = self.rng
        if rng.random() < 0.4:
            return self._nearly_right()
        fields = [
            PointField(name=rng.choice(NAMES), offset=self._size(), datatype=rng.randint(0, 255), count=self._size())
            for _ in range(rng.randint(0, 9))
        ]
        cloud = PointCloud2(header=self.header(), height=self._size(), width=self._size(), fields=fields)
        cloud.point_step, cloud.row_step = self._size(), self._size()
        cloud.is_bigendian, cloud.is_dense = rng.random() < 0.5, rng.random() < 0.5
        cloud.data = rng.randbytes(rng.choice((0, 1, 27, 28, 56, 300)))
        return cloud

    def _nearly_right(self) -> PointCloud2:
        """A good cloud with one thing changed."""
        rng = self.rng
        values = [[self.number() for _ in range(7)] for _ in range(rng.choice((0, 1, 3, 40, 600)))]
        array = np.clip(np.array(values).reshape(-1, 7), -3e38, 3e38)
        cloud = ros_messages.cloud_message(0.0, "world", array)
        cloud.header = self.header()
        name = rng.choice(("height", "width", "point_step", "row_step", "data", "fields", "is_bigendian", "none"))
        if name == "data":
            cloud.data = bytes(cloud.data[: rng.randint(0, len(cloud.data))])
        elif name == "fields":
            field = rng.choice(cloud.fields)
            field.offset, field.datatype = self._size(), rng.choice((7, 7, 8, 0))
        elif name == "is_bigendian":
            cloud.is_bigendian = True
        elif name != "none":
            setattr(cloud, name, self._size())
        return cloud

    def _size(self) -> int:
        return self.rng.choice((0, 1, 2, 4, 28, 29, 255, 2**16, 2**31, 2**32 - 1))


def good_pose(node: ControllerNode) -> PoseStamped:
    return PoseStamped(header=Header(stamp=node.get_clock().now().to_msg(), frame_id="world"))


def send_one(node: ControllerNode, fuzzer: Fuzzer) -> None:
    """One message to one of the callbacks, as the executor would hand it over."""
    kind = fuzzer.rng.choice(("pose", "goal", "start", "cloud", "service"))
    if kind == "service":
        name = fuzzer.rng.choice(("takeoff", "land", "notify_setpoints_stop", "disarm"))
        serve = ros_services._callback("arm" if name == "disarm" else name, node.take_order)
        if name == "disarm":
            serve(SetBool.Request(data=False), SetBool.Response())
        else:
            assert not serve(Trigger.Request(), Trigger.Response()).success
    elif kind == "cloud":
        node._on_obstacles(fuzzer.cloud())
    else:
        getattr(node, f"_on_{kind}")(fuzzer.pose())


def stands_still(node: ControllerNode) -> bool:
    assert isinstance(node.link, StandIn)
    sent = node.link.sent
    return all(setpoint.kind is SetpointKind.OFF and not setpoint.arm for setpoint in sent) and len(sent) > 0


@pytest.mark.parametrize("seed", range(2))
def test_fuzzed_messages_neither_stop_the_node_nor_move_the_vehicle(node: ControllerNode, seed: int) -> None:
    fuzzer = Fuzzer(seed, lambda: node.get_clock().now().to_msg())
    for number in range(MESSAGES // 2):
        if number % STEP_EVERY == 0:
            node._on_pose(good_pose(node))
            node.control_step()
        send_one(node, fuzzer)
    assert stands_still(node)
    assert node.mode in (Mode.IDLE, Mode.READY)
    assert isinstance(node.link, StandIn)
    assert all(np.isfinite(pos).all() and np.isfinite(quat).all() for pos, quat in node.link.poses)
    node._on_pose(good_pose(node))
    node.control_step()
    assert node._step is not None
    assert node._step.estimate is None or np.isfinite(node._step.estimate.x).all()


def test_what_was_fuzzed_still_flies_when_it_is_meant(node: ControllerNode) -> None:
    """The same node takes a good goal, good obstacles, and an emergency."""
    fuzzer = Fuzzer(7, lambda: node.get_clock().now().to_msg())
    for _ in range(500):
        send_one(node, fuzzer)
    now = ros_messages.seconds(node.get_clock().now().to_msg())
    sphere = np.array([[1.0, 0.0, 1.0, 0.2, 0.0, 0.0, 0.0]])
    node._on_obstacles(ros_messages.cloud_message(now, "world", sphere))
    node._on_goal(ros_messages.pose_message(now, "world", np.array([0.5, 0.0, 1.0])))
    np.testing.assert_allclose(node._world.obstacles, sphere, atol=1e-6)
    np.testing.assert_array_equal(node._world.goal, [0.5, 0.0, 1.0])
    ros_services._callback("emergency", node.take_order)(Empty.Request(), Empty.Response())
    node.control_step()
    assert node.mode is Mode.ESTOP


def test_fuzzed_topics(node: ControllerNode) -> None:
    """Some of it over real topics, whose messages ROS has packed and unpacked."""
    sender = Node("fuzzer", parameter_overrides=[Parameter("use_sim_time", value=False)])
    publishers = {
        "pose": sender.create_publisher(PoseStamped, "/cf/pose", LATEST),
        "goal": sender.create_publisher(PoseStamped, "/cf/goal", LATCHED),
        "start": sender.create_publisher(PoseStamped, "/cf/start", LATCHED),
        "cloud": sender.create_publisher(PointCloud2, "/obstacles", LATCHED),
    }
    fuzzer = Fuzzer(3, lambda: node.get_clock().now().to_msg())
    until = time.monotonic() + 60.0
    while any(publisher.get_subscription_count() == 0 for publisher in publishers.values()):
        rclpy.spin_once(node, timeout_sec=0.05)
        assert time.monotonic() < until
    for number in range(TOPIC_MESSAGES):
        kind = fuzzer.rng.choice(tuple(publishers))
        publishers[kind].publish(fuzzer.cloud() if kind == "cloud" else fuzzer.pose())
        rclpy.spin_once(node, timeout_sec=0.01)
        if number % STEP_EVERY == 0:
            node.control_step()
    sender.destroy_node()
    assert stands_still(node)
    assert sum(node._pilot.estimator.gates.values()) > 0
