"""The emergency stop's services are served whatever the control step does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import rclpy
from rclpy.node import Node
from std_srvs.srv import Empty
from witness import wait_for

from deq_mpc_controller import controller_node
from deq_mpc_controller.controller_node import ControllerNode
from deq_mpc_controller.flight import Mode
from deq_mpc_controller.ros_emergency import EmergencyServices
from deq_mpc_controller.ros_services import Order
from deq_mpc_controller.vehicle_io import Setpoint, SetpointKind, VehicleStatus

NODE_NAME = "-r __node:=renamed"


class StandIn:
    """A link that remembers what it was sent."""

    def __init__(self, *_arguments: object) -> None:
        self.sent: list[Setpoint] = []

    def status(self) -> VehicleStatus:
        return VehicleStatus(armed=True, voltage=4.0, age=0.01)

    def send(self, setpoint: Setpoint) -> None:
        self.sent.append(setpoint)


@pytest.fixture
def ros() -> Iterator[None]:
    arguments = f"--ros-args -p policy:=straight-line --log-level fatal {NODE_NAME}"
    rclpy.init(args=arguments.split())
    yield
    rclpy.shutdown()


@pytest.fixture
def caller(ros: None) -> Iterator[Node]:
    node = rclpy.create_node("caller", use_global_arguments=False)
    yield node
    node.destroy_node()


def call(caller: Node, name: str = "/cf/emergency") -> None:
    client = caller.create_client(Empty, name)
    wait_for(client.service_is_ready)
    answer = client.call_async(Empty.Request())

    def answered() -> bool:
        rclpy.spin_once(caller, timeout_sec=0.05)
        return bool(answer.done())

    wait_for(answered)


def test_a_control_step_that_hangs_does_not_keep_it_waiting(caller: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_node, "CrazyflieLink", StandIn)
    node = ControllerNode()
    begun, end, step = threading.Event(), threading.Event(), node._pilot.step

    def hang(*arguments: Any) -> Any:
        begun.set()
        end.wait()
        return step(*arguments)

    node._pilot.step = hang
    hung = threading.Thread(target=node.control_step)
    hung.start()
    begun.wait()
    call(caller)
    assert hung.is_alive()
    assert [setpoint.kind for setpoint in node.link.sent] == [SetpointKind.EMERGENCY]
    end.set()
    hung.join()
    node.control_step()
    assert node.mode is Mode.ESTOP
    assert node.link.sent[-1].kind is SetpointKind.EMERGENCY
    node.destroy_node()


def test_it_is_served_again_after_a_call_that_failed(caller: Node) -> None:
    calls: list[Order] = []

    def handle(order: Order) -> str:
        calls.append(order)
        if len(calls) == 1:
            raise ZeroDivisionError("of a bug")
        return ""

    services = EmergencyServices(caller, "cf7", handle, "deq_mpc")
    client = caller.create_client(Empty, "/cf7/deq_mpc/emergency")
    wait_for(client.service_is_ready)
    client.call_async(Empty.Request())
    wait_for(lambda: len(calls) == 1)
    call(caller, "/all/deq_mpc/emergency")
    services.close()
    assert len(calls) == 2


def test_its_node_keeps_its_name(caller: Node) -> None:
    services = EmergencyServices(caller, "cf", lambda order: "")
    wait_for(lambda: "caller_emergency" in caller.get_node_names())
    services.close()


def test_it_ends_with_ros(caller: Node) -> None:
    services = EmergencyServices(caller, "cf", lambda order: "")
    rclpy.shutdown()
    wait_for(lambda: not services._thread.is_alive())
    services.close()
    rclpy.init()
