"""``deq-mpc call``: what it asks a controller for, and what it says when it is refused or there is none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import rclpy
from rclpy.node import Node
from std_srvs.srv import Empty, SetBool, Trigger

CALL = "from deq_mpc_core.cli import main; main()"


class FakeController(Node):
    """Remembers what it was asked for; it refuses to take off."""

    def __init__(self) -> None:
        super().__init__("fake_controller")
        self.asked: list[object] = []
        self.create_service(SetBool, "/cf7/arm", self._arm)
        self.create_service(Trigger, "/cf7/takeoff", self._refuse)
        self.create_service(Empty, "/cf7/emergency", self._stop)

    def _arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.asked.append(request.data)
        response.success = True
        return response

    def _refuse(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message = "READY: arm it first"
        return response

    def _stop(self, _request: Empty.Request, response: Empty.Response) -> Empty.Response:
        self.asked.append("emergency")
        return response


@pytest.fixture
def controller() -> Iterator[FakeController]:
    rclpy.init()
    node = FakeController()
    yield node
    node.destroy_node()
    rclpy.shutdown()


def call(controller: FakeController | None, *arguments: str) -> tuple[int, str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CALL, "call", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while controller is not None and process.poll() is None:
        rclpy.spin_once(controller, timeout_sec=0.05)
    output, errors = process.communicate()
    assert output == ""
    return process.returncode, errors


def test_the_controller_is_asked(controller: FakeController) -> None:
    for what in ("arm", "disarm", "emergency"):
        assert call(controller, what, "--robot", "cf7", "--timeout", "60") == (0, "")
    assert controller.asked == [True, False, "emergency"]


def test_a_refusal_is_said(controller: FakeController) -> None:
    answer = call(controller, "takeoff", "--robot", "cf7", "--timeout", "60")
    assert answer == (1, "refused: READY: arm it first\n")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ("fry",),
            "the controller knows no 'fry'; "
            "ask for one of arm, disarm, takeoff, notify_setpoints_stop, land, emergency",
        ),
        (
            ("arm", "--robot", "9"),
            "'9' is no name of a robot; use letters, digits and underscores, not beginning with a digit, as cf231",
        ),
        (("land", "--timeout", "0.1"), "nobody offers /cf/land; start the controller, or name its robot with --robot"),
    ],
)
def test_what_cannot_be_asked_is_one_line(arguments: tuple[str, ...], problem: str) -> None:
    assert call(None, *arguments) == (2, f"error: {problem}\n")
