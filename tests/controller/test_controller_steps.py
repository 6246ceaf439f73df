"""The controller node's steps in process: what is said on /diagnostics, and a system clock that is set."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from math import inf
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PoseStamped

from deq_mpc_controller import controller_node, ros_messages
from deq_mpc_controller.controller_node import ControllerNode
from deq_mpc_controller.flight import Mode, Request, in_the_air
from deq_mpc_controller.flight_clock import FlightClock
from deq_mpc_controller.ros_services import Order
from deq_mpc_controller.vehicle_io import Setpoint, VehicleStatus


class StandIn:
    """A link whose vehicle is in the best of health."""

    def __init__(self, *_arguments: object) -> None:
        self.sent: list[Setpoint] = []
        self.stopped = False

    def status(self) -> VehicleStatus:
        return VehicleStatus(armed=True, voltage=4.0, age=0.01, stopped=self.stopped)

    def send(self, setpoint: Setpoint) -> None:
        self.sent.append(setpoint)

    def send_pose(self, pos: object, quat: object) -> None: ...


class Kept:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list = []

    def publish(self, message: object) -> None:
        self.messages.append(message)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[ControllerNode]:
    monkeypatch.setattr(controller_node, "CrazyflieLink", StandIn)
    rclpy.init(args=["--ros-args", "-p", "policy:=straight-line", "-p", "auto:=false", "--log-level", "fatal"])
    node = ControllerNode()
    yield node
    node.destroy_node()
    rclpy.shutdown()


class Time:
    """A steady clock that a test moves, and a system clock that it sets."""

    def __init__(self, node: ControllerNode) -> None:
        self.t, self.system = 0.0, 1.7e9
        self._node = node
        node._flight_clock = FlightClock(lambda: self.system + self.t, lambda: self.t)

    def run(self, seconds: float) -> None:
        """Poses and control steps at 100 Hz."""
        until = self.t + seconds
        while self.t < until:
            self.t += 0.01
            pose = PoseStamped(header=ros_messages.header(self.system + self.t, "world"))
            self._node._on_pose(pose)
            self._node.control_step()


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_a_system_clock_that_is_set_neither_ends_the_steps_nor_is_ignored(node: ControllerNode, jump: float) -> None:
    clock, node._odometry = Time(node), Kept()
    clock.run(1.5)
    assert node.mode is Mode.READY
    clock.system += jump
    clock.run(0.3)
    assert node.mode is Mode.READY
    assert node._step.estimate.age < 0.02
    stamps = [ros_messages.seconds(message.header.stamp) for message in node._odometry.messages]
    assert stamps[-1] == pytest.approx(clock.system + clock.t, abs=1e-3)


def test_diagnostics_say_what_should_be_known_before_a_flight(node: ControllerNode) -> None:
    clock, node._diagnostics = Time(node), Kept()
    clock.run(1.5)
    (status,) = node._diagnostics.messages[-1].status
    values = {value.key: value.value for value in status.values}
    assert values["preflight"] == ""
    assert values["advice"].startswith("nobody has published obstacles")
    assert (values["clock_set"], values["policy_error"], values["note"]) == ("0", "", "")


def test_its_time_is_the_systems(node: ControllerNode) -> None:
    before = time.time()
    node.control_step()
    assert before - 1e-3 <= node._step.t <= time.time() + 1e-3


class Failing:
    """Whatever it is asked for, it raises, ``times`` times."""

    def __init__(self, times: float = inf) -> None:
        self.times = times

    def publish(self, _message: object) -> None:
        self.fail()

    def fail(self, *_arguments: object) -> None:
        if self.times > 0:
            self.times -= 1
            raise ZeroDivisionError("of a bug")


def test_what_cannot_be_published_costs_nothing_else(node: ControllerNode) -> None:
    clock = Time(node)
    node._odometry = node._diagnostics = node._states = Failing()
    clock.run(1.5)
    assert node.mode is Mode.READY
    assert len(node.link.sent) == 150


def test_a_control_step_that_fails_sends_nothing_and_the_next_one_goes_on(
    node: ControllerNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.control_step()
    with monkeypatch.context() as patch:
        patch.setattr(node._pilot, "step", Failing().fail)
        node.request(Request.EMERGENCY)
        node.control_step()
        assert len(node.link.sent) == 1
    node.control_step()
    assert node.mode is Mode.ESTOP


def test_a_message_that_fails_is_followed_by_the_next(node: ControllerNode) -> None:
    failing, handled = Failing(times=2), []

    class Executor:
        def spin_once(self, timeout_sec: float) -> None:
            failing.fail()
            handled.append(timeout_sec)
            time.sleep(timeout_sec)

    due = time.monotonic() + 0.05
    controller_node._listen(node, Executor(), due)
    assert len(handled) > 0
    assert time.monotonic() >= due
    failing.times = inf
    controller_node._listen(node, Executor(), time.monotonic() - 1.0)


def test_an_interrupt_ends_a_flight_whose_steps_fail_once_the_link_has_stopped_the_motors(
    node: ControllerNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node._pilot.state = in_the_air(0.0, np.array([0.0, 0.0, 1.0]))
    failures = iter(range(20))

    def fail(*_arguments: object) -> None:
        node.link.stopped = next(failures) >= 10
        raise ZeroDivisionError("of a bug")

    monkeypatch.setattr(node._pilot, "step", fail)
    assert controller_node._fly(node, SimpleNamespace(count=1)) == 1
    assert next(failures) == 11
    gc.unfreeze()


def test_arming_before_the_first_step_is_refused_with_what_to_do(node: ControllerNode) -> None:
    assert "try again in a second" in node.take_order(Order(Request.ARM))
    Time(node).run(0.02)
    assert "mocap" in node.take_order(Order(Request.ARM))
