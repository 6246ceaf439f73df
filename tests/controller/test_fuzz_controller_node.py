"""10,000 messages that nobody means at the controller node: it neither crashes nor hangs, on the ground no vehicle
moves, and none falls out of the air. Requests are of both kinds, of std_srvs' types and of Crazyswarm2's."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseArray, PoseStamped, Quaternion
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header
from std_srvs.srv import Empty, SetBool, Trigger

from deq_mpc_controller import (
    controller_node,
    preflight,
    ros_crazyswarm2,
    ros_messages,
    ros_mocap,
    ros_services,
    safety,
)
from deq_mpc_controller.controller_node import ControllerNode
from deq_mpc_controller.conversions import load_thrust_map
from deq_mpc_controller.flight import IN_FLIGHT, Mode
from deq_mpc_controller.flight_clock import FlightClock
from deq_mpc_controller.flight_statistics import FlightStatistics
from deq_mpc_controller.ros_messages import LATCHED, LATEST
from deq_mpc_controller.settings import controller_config
from deq_mpc_controller.steady_link import ARMED
from deq_mpc_controller.vehicle_io import Setpoint, SetpointKind, VehicleStatus
from deq_mpc_sim.vehicle import Vehicle

GROUND_MESSAGES, FLIGHT_MESSAGES, STATUS_MESSAGES, TOPIC_MESSAGES = 5_000, 4_000, 700, 300
STEP_EVERY = 20
A_STEP = 5
"""Messages between two control steps in flight."""
PERIOD, EPOCH = 0.01, 1.7e9
NUMBERS = (0.0, -0.0, 1.0, -3.0, 1e-300, 1e300, -1e300, float("nan"), float("inf"), float("-inf"), 0.5, 2.0**63)
FRAMES = ("world", "world", "world", "", "map", "World", "world ", "w\u00f6rld", "x" * 3000)
NAMES = ("x", "y", "z", "radius", "vx", "vy", "vz", "", "rgb", "X")


class StandIn:
    """A link whose vehicle is in the best of health and armed on request; remembers what it was sent."""

    def __init__(self, *_arguments: object) -> None:
        self.sent: list[Setpoint] = []
        self.poses: list[tuple[np.ndarray, np.ndarray]] = []

    def status(self) -> VehicleStatus:
        return VehicleStatus(armed=bool(self.sent) and self.sent[-1].arm, voltage=4.0, age=0.01)

    def send(self, setpoint: Setpoint) -> None:
        self.sent.append(setpoint)

    def send_pose(self, pos: np.ndarray, quat: np.ndarray) -> None:
        self.poses.append((pos, quat))


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[ControllerNode]:
    monkeypatch.setattr(controller_node, "CrazyflieLink", StandIn)
    mocap = ModuleType(ros_mocap.PACKAGE)
    mocap.NamedPoseArray = PoseArray
    monkeypatch.setitem(sys.modules, ros_mocap.PACKAGE.split(".")[0], ModuleType("interfaces"))
    monkeypatch.setitem(sys.modules, ros_mocap.PACKAGE, mocap)
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

    def named_poses(self) -> SimpleNamespace:
        """Of ``/poses``, as motion_capture_tracking_interfaces has it."""
        names = self.rng.choices(("cf", "cf", "cf2", "", "x" * 3000), k=self.rng.randint(0, 4))
        poses = [SimpleNamespace(name=name, pose=self.pose().pose) for name in names]
        return SimpleNamespace(header=self.header(), poses=poses)

    def order(self, name: str) -> object:
        """A request of Crazyswarm2's type, whose reply is empty."""
        rng = self.rng
        duration = SimpleNamespace(
            sec=rng.choice((0, 1, 3, -1, 2**31 - 1, -(2**31))), nanosec=rng.randint(0, 2**32 - 1)
        )
        common = {"group_mask": rng.randint(0, 255), "duration": duration}
        if name == "arm":
            return SimpleNamespace(arm=rng.random() < 0.5)
        if name == "go_to":
            goal = Point(**{axis: self.number() for axis in "xyz"})
            return SimpleNamespace(goal=goal, relative=rng.random() < 0.5, yaw=self.number(), **common)
        if name == "notify_setpoints_stop":
            return SimpleNamespace(group_mask=0, remain_valid_millisecs=rng.randint(0, 2**32 - 1))
        return SimpleNamespace(height=self.number(), **common)

    def _size(self) -> int:
        return self.rng.choice((0, 1, 2, 4, 28, 29, 255, 2**16, 2**31, 2**32 - 1))


def good_pose(node: ControllerNode) -> PoseStamped:
    return PoseStamped(header=Header(stamp=node.get_clock().now().to_msg(), frame_id="world"))


ORDERS = ("arm", "takeoff", "land", "go_to", "notify_setpoints_stop")


def send_one(node: ControllerNode, fuzzer: Fuzzer, orders: tuple[str, ...]) -> None:
    """One message to one of the callbacks, as the executor would hand it over."""
    kind = fuzzer.rng.choice(("pose", "poses", "goal", "start", "cloud", "standard", "crazyswarm"))
    if kind in ("standard", "crazyswarm"):
        name = fuzzer.rng.choice(orders)
        serve = ros_services._callback(name, node.take_order)
        if kind == "crazyswarm" or name == "go_to":
            serve(fuzzer.order(name), SimpleNamespace())
        elif name == "arm":
            serve(SetBool.Request(data=fuzzer.rng.random() < 0.5), SetBool.Response())
        else:
            serve(Trigger.Request(), Trigger.Response())
    elif kind == "poses":
        (pick,) = (sub.callback for sub in node.subscriptions if sub.topic_name == ros_mocap.TOPIC)
        pick(fuzzer.named_poses())
    elif kind == "cloud":
        node._on_obstacles(fuzzer.cloud())
    else:
        getattr(node, f"_on_{kind}")(fuzzer.pose())


def stands_still(node: ControllerNode) -> bool:
    assert isinstance(node.link, StandIn)
    sent = node.link.sent
    return all(setpoint.kind is SetpointKind.OFF and not setpoint.arm for setpoint in sent) and len(sent) > 0


@pytest.mark.parametrize("seed", range(2))
def test_on_the_ground_nothing_stops_the_node_or_moves_the_vehicle(node: ControllerNode, seed: int) -> None:
    """Everything but a request to arm, without which nothing may start the motors."""
    fuzzer = Fuzzer(seed, lambda: node.get_clock().now().to_msg())
    for number in range(GROUND_MESSAGES // 2):
        if number % STEP_EVERY == 0:
            node._on_pose(good_pose(node))
            node.control_step()
        send_one(node, fuzzer, ORDERS[1:])
    assert stands_still(node)
    assert node.mode in (Mode.IDLE, Mode.READY)
    assert isinstance(node.link, StandIn)
    assert all(np.isfinite(pos).all() and np.isfinite(quat).all() for pos, quat in node.link.poses)
    node._on_pose(good_pose(node))
    node.control_step()
    assert node._step is not None
    assert node._step.estimate is None or np.isfinite(node._step.estimate.x).all()


class Flown:
    """The node and a simulated vehicle taking turns, on a clock of their own."""

    def __init__(self, node: ControllerNode) -> None:
        self.node, self.vehicle = node, Vehicle()
        self.vehicle.reset(np.zeros(3))
        node._flight_clock = FlightClock(lambda: EPOCH + self.vehicle.t, lambda: self.vehicle.t)
        node._statistics = FlightStatistics(60.0)  # how busy this machine is does not count
        self.fall = 0.0
        """Speed of the hardest touch-down [m/s]."""

    def now(self) -> Time:
        return ros_messages.to_stamp(EPOCH + self.vehicle.t)

    def publish_obstacles(self) -> None:
        """A sphere that moves, far away, as long as somebody publishes it."""
        far = np.array([[-9.0, 9.0, 1.0, 0.2, 0.05, 0.0, 0.0]])
        self.node._on_obstacles(ros_messages.cloud_message(EPOCH + self.vehicle.t, "world", far))

    def step(self) -> None:
        """A pose that is right, a control step, and what the vehicle makes of it."""
        truth = self.vehicle.truth
        self.node._on_pose(ros_messages.pose_message(EPOCH + self.vehicle.t, "world", truth.pos, truth.quat))
        self.node.control_step()
        assert isinstance(self.node.link, StandIn)
        command = self.node.link.sent[-1].command
        assert np.isfinite(command).all()
        before = self.vehicle.truth
        self.vehicle.step(PERIOD, command)
        if before.pos[2] > 0.02 >= self.vehicle.truth.pos[2]:
            self.fall = max(self.fall, -before.vel[2])

    def until(self, mode: Mode) -> None:
        for _ in range(1500):
            if self.node.mode is mode:
                return
            self.publish_obstacles()
            self.step()
        raise AssertionError(f"{self.node.mode} instead of {mode}")

    def settle(self) -> None:
        """Let it come to rest with its motors off."""
        for _ in range(100):
            self.step()
        assert self.vehicle.truth.pos[2] < 0.02

    def ask(self, name: str) -> None:
        request = SetBool.Request(data=True) if name == "arm" else Trigger.Request()
        response = SetBool.Response() if name == "arm" else Trigger.Response()
        assert ros_services._callback(name, self.node.take_order)(request, response).success, response.message

    def take_off(self) -> None:
        self.until(Mode.READY)
        self.ask("arm")
        self.step()
        self.ask("takeoff")
        self.until(Mode.FLY)


def test_in_flight_it_flies_on_beside_those_who_mean_it(node: ControllerNode) -> None:
    """Motion capture and obstacles go on; no request to land is among the others."""
    flight = Flown(node)
    fuzzer = Fuzzer(11, flight.now)
    flight.take_off()
    for _ in range(FLIGHT_MESSAGES // 2 // A_STEP):
        for _ in range(A_STEP):
            send_one(node, fuzzer, tuple(name for name in ORDERS if name != "land"))
        flight.publish_obstacles()
        flight.step()
        assert node.mode is Mode.FLY, node._step.state.failure
        assert safety.beyond_fence(flight.vehicle.truth.pos, controller_config().safety) < 0.0
        assert flight.vehicle.truth.pos[2] > 0.1
    flight.ask("land")
    flight.until(Mode.IDLE)
    flight.settle()
    assert 0.0 < flight.fall < 0.7


def test_in_flight_among_nonsense_for_obstacles_it_lands_at_worst(node: ControllerNode) -> None:
    """Nobody publishes obstacles but the fuzzer, whose spheres may be anywhere and as large as they like."""
    flight = Flown(node)
    fuzzer = Fuzzer(12, flight.now)
    flight.take_off()
    for _ in range(FLIGHT_MESSAGES // 2 // A_STEP):
        for _ in range(A_STEP):
            send_one(node, fuzzer, tuple(name for name in ORDERS if name != "land"))
        flight.step()
        assert safety.beyond_fence(flight.vehicle.truth.pos, controller_config().safety) < 0.3
    if node.mode is Mode.FLY:
        flight.ask("land")
    for _ in range(1500):
        if node.mode not in IN_FLIGHT:
            break
        flight.step()
    flight.settle()
    assert node._step.state.failure in ("", "inside an obstacle", "no news of obstacles that move")
    assert 0.0 < flight.fall < 0.7


def test_reports_of_a_crazyswarm2_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they say, they can be asked for, and only one with the bit for it is armed."""
    types = SimpleNamespace(status=None, notify=Trigger, arm=SimpleNamespace(Request=SimpleNamespace))
    monkeypatch.setattr(ros_crazyswarm2, "interface_types", lambda: types)
    config = controller_config()
    link = ros_crazyswarm2.Crazyswarm2Link(
        MagicMock(), "cf", "cpp", load_thrust_map("cf21_plus", "2026.04"), config.link
    )
    fuzzer = Fuzzer(13, Time)
    for _ in range(STATUS_MESSAGES):
        bits = fuzzer.rng.choice((0, 2, 6, 0xFFFF, fuzzer.rng.randint(0, 0xFFFF)))
        link._on_status(SimpleNamespace(battery_voltage=fuzzer.number(), supervisor_info=bits))
        link._on_pose(fuzzer.pose())
        status = link.status()
        assert status.armed == bool(bits & ARMED)
        readiness = preflight.Readiness(vehicle=status, pos=np.zeros(3), rpy=np.zeros(3))
        lines = preflight.missing(readiness, config.preflight, config.safety)
        assert any("battery" in line for line in lines) == (not status.voltage >= config.preflight.battery_arm)


def test_what_was_fuzzed_still_flies_when_it_is_meant(node: ControllerNode) -> None:
    """The same node takes a good goal, good obstacles, and an emergency."""
    fuzzer = Fuzzer(7, lambda: node.get_clock().now().to_msg())
    for _ in range(500):
        send_one(node, fuzzer, ORDERS[1:])
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
