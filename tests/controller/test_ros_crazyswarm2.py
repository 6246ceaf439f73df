"""The link through a Crazyswarm2 server, against a double of that server which records what it is told."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import rclpy
from cflib.crazyflie.commander import Commander
from geometry_msgs.msg import Point, Pose, PoseArray, PoseStamped, Twist
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import BatteryState
from std_srvs.srv import Empty, SetBool, Trigger

from deq_mpc_controller import ros_crazyswarm2, ros_mocap
from deq_mpc_controller.controller_node import ControllerNode
from deq_mpc_controller.conversions import (
    CRAZYSWARM2_SERVERS,
    SETPOINT_PACKET,
    LegacyTwist,
    command_from_packet,
    command_from_twist,
    load_thrust_map,
    twist_from_command,
)
from deq_mpc_controller.node_parameters import CONTROLLER_NODE, check_backend
from deq_mpc_controller.ros_crazyswarm2 import Crazyswarm2Link
from deq_mpc_controller.settings import controller_config
from deq_mpc_controller.steady_link import ARMED, AUTO_ARM, FLYING, LOCKED
from deq_mpc_controller.vehicle_io import OFF, LinkConfig, Setpoint, SetpointKind
from deq_mpc_core.errors import UserError
from deq_mpc_core.policy.interface import Command

CONFIG = controller_config().link.model_copy(update={"connect_time": 10.0, "handover_time": 0.1})
THRUST_MAP = load_thrust_map("cf21_legacy_props", "2026.04")
TILTED = Command(0.1, 0.2, -0.3, 0.3)
FLY = Setpoint(SetpointKind.FLY, TILTED, arm=True)
ARM = Setpoint(SetpointKind.OFF, arm=True)
ZERO = LegacyTwist(0.0, 0.0, 0.0, 0.0)


class Server(Node):
    """A double of Crazyswarm2's server with one vehicle. Types of ROS stand in for those of its interface package."""

    def __init__(self, robot: str = "cf7", period: float = 0.02, services: tuple[str, ...] = ("arm", "notify")) -> None:
        super().__init__("crazyflie_server")
        self.told: list[LegacyTwist | str] = []
        self.bits = 0
        self._status = self.create_publisher(BatteryState, f"/{robot}/status", 10)
        self._pose = self.create_publisher(PoseStamped, f"/{robot}/pose", 10)
        self.create_subscription(Twist, f"/{robot}/cmd_vel_legacy", self._on_twist, 100)
        self.create_service(Empty, f"/{robot}/emergency", self._on_emergency)
        if "arm" in services:
            self.create_service(SetBool, f"/{robot}/arm", self._on_arm)
        if "notify" in services:
            self.create_service(Trigger, f"/{robot}/notify_setpoints_stop", self._on_notify)
        self.create_timer(period, self._report)

    def twists(self) -> list[LegacyTwist]:
        return [entry for entry in list(self.told) if isinstance(entry, LegacyTwist)]

    def calls(self) -> list[str]:
        return [entry for entry in list(self.told) if isinstance(entry, str)]

    def _on_twist(self, message: Twist) -> None:
        linear = message.linear
        self.told.append(LegacyTwist(linear.x, linear.y, linear.z, message.angular.z))

    def _on_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.told.append(f"arm {request.data}")
        self.bits = self.bits | ARMED if request.data else self.bits & ~ARMED
        return response

    def _on_emergency(self, _request: Empty.Request, response: Empty.Response) -> Empty.Response:
        self.told.append("emergency")
        self.bits |= LOCKED
        return response

    def _on_notify(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.told.append("notify_setpoints_stop")
        return response

    def _report(self) -> None:
        self._status.publish(BatteryState(voltage=3.9, capacity=float(self.bits)))
        self._pose.publish(PoseStamped(pose=Pose(position=Point(x=1.0, y=2.0, z=3.0))))


@pytest.fixture
def interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for crazyflie_interfaces and motion_capture_tracking_interfaces: types of ROS under their names."""
    monkeypatch.setattr(BatteryState, "battery_voltage", property(lambda self: self.voltage), raising=False)
    monkeypatch.setattr(BatteryState, "supervisor_info", property(lambda self: int(self.capacity)), raising=False)
    arm = property(lambda self: self.data, lambda self, value: setattr(self, "data", value))
    monkeypatch.setattr(SetBool.Request, "arm", arm, raising=False)
    modules = {
        "msg": SimpleNamespace(Status=BatteryState),
        "srv": SimpleNamespace(Arm=SetBool, NotifySetpointsStop=Trigger),
    }
    for name, types in modules.items():
        module = ModuleType(f"{ros_crazyswarm2.PACKAGE}.{name}")
        vars(module).update(vars(types))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, ros_crazyswarm2.PACKAGE, ModuleType(ros_crazyswarm2.PACKAGE))
    mocap = ModuleType(ros_mocap.PACKAGE)
    mocap.NamedPoseArray = PoseArray
    monkeypatch.setitem(sys.modules, ros_mocap.PACKAGE.split(".")[0], ModuleType("interfaces"))
    monkeypatch.setitem(sys.modules, ros_mocap.PACKAGE, mocap)


@pytest.fixture
def ros() -> Iterator[None]:
    rclpy.init(args=["--ros-args", "--log-level", "fatal"])
    yield
    rclpy.shutdown()


class Served:
    """A server that runs, and the node beside it."""

    def __init__(self, **options: object) -> None:
        self.server, self.node = Server(**options), rclpy.create_node("controller")
        self._executor, self._stop = SingleThreadedExecutor(), threading.Event()
        self._executor.add_node(self.server)
        self._thread = threading.Thread(target=self._spin)

    def link(self, config: LinkConfig = CONFIG) -> Crazyswarm2Link:
        return Crazyswarm2Link(self.node, "cf7", "cpp", THRUST_MAP, config)

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._executor.shutdown()
        self.server.destroy_node()
        self.node.destroy_node()

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.05)

    def wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10.0
        while not condition():
            assert time.monotonic() < end, f"the condition did not come true; the server was told {self.server.told}"
            rclpy.spin_once(self.node, timeout_sec=0.01)


@pytest.fixture
def served(ros: None, interfaces: None) -> Iterator[Served]:
    with Served() as served:
        yield served


@pytest.fixture
def link(served: Served) -> Iterator[Crazyswarm2Link]:
    link = served.link()
    assert link.connect()
    yield link
    link.send(OFF)
    link.close()


def test_it_reports_what_the_server_says(served: Served, link: Crazyswarm2Link) -> None:
    served.wait(lambda: link.status().pos is not None)
    status = link.status()
    assert (status.armed, status.fault) == (False, "")
    assert status.voltage == pytest.approx(3.9)
    assert status.age < 5.0
    np.testing.assert_array_equal(status.pos, [1.0, 2.0, 3.0])
    assert status.arms_itself is False
    served.server.bits = ARMED | LOCKED | AUTO_ARM
    served.wait(lambda: link.status().armed and link.status().fault.startswith("locked"))
    assert link.status().arms_itself is True


def test_nothing_is_published_while_nobody_flies(served: Served, link: Crazyswarm2Link) -> None:
    reports = []
    served.node.create_subscription(BatteryState, "/cf7/status", reports.append, 10)

    def twenty_reports() -> bool:
        link.send(OFF)
        link.send_pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
        return len(reports) >= 20

    served.wait(twenty_reports)
    assert served.server.told == []


def test_a_flight_from_arming_to_the_hand_over(served: Served, link: Crazyswarm2Link) -> None:
    server, wanted = served.server, twist_from_command(TILTED, THRUST_MAP, "cpp")
    link.send(ARM)
    served.wait(lambda: link.status().armed and len(server.twists()) > 5)
    assert set(server.twists()) == {ZERO}
    assert "arm True" in server.calls()
    link.send(FLY)
    served.wait(lambda: wanted in server.twists())
    link.send(OFF)
    served.wait(lambda: "notify_setpoints_stop" in server.calls())
    last = server.told.index("notify_setpoints_stop")
    link.send(OFF)
    link.close()
    flown = [entry for entry in server.told if isinstance(entry, LegacyTwist)]
    begin, end = flown.index(wanted), len(flown) - flown[::-1].index(wanted)
    assert set(flown[:begin]) == {ZERO}
    assert set(flown[begin:end]) == {wanted}
    assert set(flown[end:]) == {ZERO}
    assert len(flown[end:]) >= 3
    assert server.calls().count("notify_setpoints_stop") == 1
    assert all(entry == ZERO for entry in server.told[last + 1 :])  # what was already under way


def test_what_was_armed_is_disarmed(served: Served, link: Crazyswarm2Link) -> None:
    link.send(ARM)
    served.wait(lambda: link.status().armed)
    link.send(OFF)
    served.wait(lambda: not link.status().armed)
    assert served.server.calls()[-1] == "arm False"


def test_a_vehicle_that_was_handed_over_is_not_disarmed_from_here(served: Served) -> None:
    """Somebody else arms it after that, and the time comes at which this controller would disarm it."""
    link = served.link(CONFIG.model_copy(update={"down_time": 0.8, "arm_period": 0.05}))
    link.connect()
    link.send(ARM)
    served.wait(lambda: link.status().armed)
    link.send(FLY)
    served.wait(lambda: len(served.server.twists()) > 5)
    link.send(OFF)
    served.wait(lambda: "notify_setpoints_stop" in served.server.calls())
    served.server.bits = ARMED
    served.wait(link._is_down)
    reports = link._report.time
    served.wait(lambda: link._report.time - reports > 0.3)
    assert "arm False" not in served.server.calls()
    link.close()


def test_setpoints_go_on_when_the_controller_falls_silent_until_the_motors_are_off(
    served: Served, link: Crazyswarm2Link
) -> None:
    link.send(FLY)
    served.wait(lambda: "notify_setpoints_stop" in served.server.calls())
    thrusts = [twist.z for twist in served.server.twists()]
    held = twist_from_command(TILTED, THRUST_MAP, "cpp").z
    levelled = [z for z in thrusts if z not in (0.0, held)]
    assert thrusts[0] == 0.0  # unlocks
    assert thrusts.count(held) > 5
    assert len(set(levelled)) == 1
    assert thrusts[-1] == 0.0


def test_an_emergency_is_one_for_ever(served: Served, link: Crazyswarm2Link) -> None:
    link.send(FLY)
    link.send(Setpoint(SetpointKind.EMERGENCY))
    served.wait(lambda: served.server.calls().count("emergency") == CONFIG.emergency_repeats)
    link.send(FLY)
    served.wait(lambda: link.status().fault.startswith("locked") and served.server.twists()[-3:] == [ZERO] * 3)
    link.close()
    assert "notify_setpoints_stop" not in served.server.calls()


def test_a_vehicle_that_a_script_flies_is_not_ready(served: Served, link: Crazyswarm2Link) -> None:
    served.server.bits = FLYING
    served.wait(lambda: "somebody else" in link.status().fault)
    served.server.bits = 0
    served.wait(lambda: link.status().fault == "")
    link.send(FLY)
    served.wait(lambda: len(served.server.twists()) > 1)
    served.server.bits = FLYING | ARMED
    link.send(FLY)
    served.wait(lambda: link.status().armed)
    link.send(FLY)
    assert link.status().fault == ""


def test_it_is_not_closed_in_the_air(served: Served, link: Crazyswarm2Link) -> None:
    link.send(FLY)
    with pytest.raises(RuntimeError, match="flies"):
        link.close()


def test_closing_after_a_landing_hands_over_at_once(served: Served) -> None:
    link = served.link()
    link.connect()
    link.send(FLY)
    served.wait(lambda: len(served.server.twists()) > 1)
    link.send(OFF)
    link.close()
    served.wait(lambda: served.server.calls()[-1:] == ["notify_setpoints_stop"])


IMPATIENT = CONFIG.model_copy(update={"connect_time": 0.3})


def test_no_server_is_said_with_what_to_do(ros: None, interfaces: None) -> None:
    with Served(robot="cf8") as served:
        with pytest.raises(UserError, match=r"no status on /cf7/status; start .* firmware_logging"):
            served.link(IMPATIENT).connect()
        assert not served.link().connect(cancelled=lambda: True)


def test_a_server_without_a_needed_service(ros: None, interfaces: None) -> None:
    with Served(services=("arm",)) as served, pytest.raises(UserError, match="offers /cf7/notify_setpoints_stop"):
        served.link(CONFIG.model_copy(update={"connect_time": 1.0})).connect()


def test_a_status_that_comes_too_rarely(ros: None, interfaces: None) -> None:
    with (
        Served(period=0.4) as served,
        pytest.raises(UserError, match=r"every 0\.\d s, .*set firmware_logging.default_topics.status.frequency"),
    ):
        served.link().connect()


def test_without_the_interface_package_one_error() -> None:
    with pytest.raises(UserError, match="needs crazyflie_interfaces, which is not installed; source the workspace"):
        ros_crazyswarm2.interface_types()


def test_an_interface_package_without_arming(interfaces: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["crazyflie_interfaces.srv"], "Arm")
    with pytest.raises(UserError, match=r"too old .*Arm.*; update Crazyswarm2"):
        ros_crazyswarm2.interface_types()


VEHICLE = ("platform:=cf21_plus", "firmware:='2026.04'")


class TestControllerNode:
    """Chosen by the parameter ``backend``."""

    @pytest.fixture
    def arguments(self) -> Iterator[Callable[[str], None]]:
        def start(*parameters: str) -> None:
            options = [option for parameter in parameters for option in ("-p", parameter)]
            rclpy.init(args=["--ros-args", "-p", "policy:=straight-line", "--log-level", "fatal", *options])

        yield start
        rclpy.shutdown()

    def test_it_leaves_the_servers_names_alone(self, arguments: Callable[..., None], interfaces: None) -> None:
        arguments("backend:=crazyswarm2", "crazyswarm2_server:=cflib", "robot:=cf7", *VEHICLE)
        node = ControllerNode()
        assert isinstance(node.link, Crazyswarm2Link)
        name, namespace = node.get_name(), node.get_namespace()
        nodes = (name, f"{name}_emergency")
        offered = [node.get_service_names_and_types_by_node(each, namespace) for each in nodes]
        services = {service for each in offered for service, _ in each}
        ours = {service for service in services if service.startswith(("/cf7/", "/all/"))}
        names = {"arm", "takeoff", "land", "notify_setpoints_stop", "emergency"}
        assert ours >= {f"/{prefix}/deq_mpc/{name}" for prefix in ("cf7", "all") for name in names - {"takeoff"}}
        assert all("/deq_mpc/" in service for service in ours)
        topics = {topic for topic, _ in node.get_subscriber_names_and_types_by_node(name, namespace)}
        assert {"/poses", "/cf7/status"} <= topics
        assert [s.topic_name for s in node.subscriptions].count("/cf7/pose") == 1  # the link's, not the motion capture
        node.destroy_node()

    def test_it_needs_the_interfaces(self, arguments: Callable[..., None]) -> None:
        arguments("backend:=crazyswarm2", *VEHICLE)
        with pytest.raises(UserError, match="needs crazyflie_interfaces"):
            ControllerNode()

    def test_a_simulated_vehicle_is_not_behind_a_server(self) -> None:
        values = {parameter.name: parameter.default for parameter in CONTROLLER_NODE}
        check_backend(values | {"sim": True})
        check_backend(values | {"backend": "crazyswarm2"})
        with pytest.raises(UserError, match="add sim:=false"):
            check_backend(values | {"backend": "crazyswarm2", "sim": True})


angle = st.floats(-0.6, 0.6)
commands = st.builds(Command, angle, angle, st.floats(-2.0, 2.0), st.floats(0.05, 0.4))


def packet_of(twist: LegacyTwist, server: str) -> bytes:
    """The setpoint packet that a server sends for a Twist, as its source does it."""
    if server == "cpp":
        return SETPOINT_PACKET.pack(twist.y, -twist.x, twist.yaw_rate, int(min(max(twist.z, 0.0), 60000)))
    sent: list[bytes] = []
    wire = SimpleNamespace(send_packet=lambda packet: sent.append(bytes(packet.data)))
    Commander(wire).send_setpoint(twist.y, -twist.x, twist.yaw_rate, int(min(max(twist.z, 0), 60000)))
    return sent[0]


@pytest.mark.parametrize("server", CRAZYSWARM2_SERVERS)
@settings(max_examples=50, deadline=None)
@given(command=commands)
def test_a_command_survives_either_server(server: str, command: Command) -> None:
    twist = twist_from_command(command, THRUST_MAP, server)
    expected = pytest.approx(command, abs=1e-4)
    assert command_from_packet(packet_of(twist, server), THRUST_MAP) == expected
    assert command_from_twist(twist, THRUST_MAP, server) == expected


def test_the_signs_of_a_twist() -> None:
    forward = Command(0.0, np.radians(5.0), 0.0, 0.3)
    assert twist_from_command(forward, THRUST_MAP, "cpp").x == pytest.approx(5.0)
    assert twist_from_command(forward, THRUST_MAP, "cflib").x == pytest.approx(-5.0)
    turn = Command(np.radians(3.0), 0.0, np.radians(10.0), 0.3)
    for server in CRAZYSWARM2_SERVERS:
        twist = twist_from_command(turn, THRUST_MAP, server)
        assert (twist.y, twist.yaw_rate) == pytest.approx((3.0, -10.0))
