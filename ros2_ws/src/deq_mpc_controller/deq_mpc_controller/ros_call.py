"""Calls a service of the controller, on a machine that has no ``ros2 service call``."""

from __future__ import annotations

from typing import Any

import rclpy
from rclpy.signals import SignalHandlerOptions

from deq_mpc_controller.robot_name import check_robot_name
from deq_mpc_controller.ros_services import service_types
from deq_mpc_core.errors import UserError

REQUESTS = ("arm", "disarm", "takeoff", "notify_setpoints_stop", "land", "emergency")
"""What can be asked for."""


def make_request(what: str) -> tuple[str, Any, Any]:
    """Name and type of the service that ``what`` is asked of, and the request."""
    name = "arm" if what == "disarm" else what
    kind = service_types()[name]
    request = kind.Request()
    if name == "arm":
        setattr(request, "arm" if hasattr(request, "arm") else "data", what == "arm")
    return name, kind, request


def call(what: str, robot: str, timeout: float) -> str | None:
    """Ask the controller of ``robot`` for one of `REQUESTS`; gives its reason if it refuses.

    Raises:
        UserError: if the request is unknown, the robot's name none, or no controller answers within ``timeout`` [s].
    """
    if what not in REQUESTS:
        raise UserError(f"the controller knows no {what!r}; ask for one of {', '.join(REQUESTS)}")
    check_robot_name(robot)
    name, kind, request = make_request(what)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("deq_mpc_call")
    try:
        client: Any = node.create_client(kind, f"/{robot}/{name}")
        if not client.wait_for_service(timeout):
            raise UserError(f"nobody offers /{robot}/{name}; start the controller, or name its robot with --robot")
        answer = client.call_async(request)
        rclpy.spin_until_future_complete(node, answer, timeout_sec=timeout)
        response = answer.result()
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    if response is None:
        raise UserError(f"/{robot}/{name} did not answer within {timeout:g} s; see what the controller says")
    return None if getattr(response, "success", True) else response.message
