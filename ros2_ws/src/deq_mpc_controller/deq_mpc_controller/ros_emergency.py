"""The emergency stop's services: on a node of their own, which a thread of its own serves.

The controller's other services have their turn between two control steps. The emergency stop waits for no step: it is
for the moments in which one takes too long.
"""

from __future__ import annotations

import threading

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from deq_mpc_controller import ros_services
from deq_mpc_controller.ros_services import Handler


class EmergencyServices:
    """Offered until ``close``."""

    def __init__(self, beside: Node, robot: str, handler: Handler, namespace: str = "") -> None:
        """Offer them; their calls go to ``handler`` in another thread.

        Args:
            beside: the controller's node, after which theirs is named.
            robot, namespace: see ``ros_services.offer``.
            handler: takes the order.
        """
        name = f"{beside.get_name()}_emergency"
        self._node = rclpy.create_node(
            name,
            cli_args=["--ros-args", "-r", f"__node:={name}"],  # a name that the process was given is the controller's
            enable_rosout=False,
            start_parameter_services=False,
        )
        ros_services.offer(self._node, ros_services.EMERGENCY_TYPES, robot, handler, namespace)
        self._closing = False
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._serve, name="emergency", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No longer offer them."""
        self._closing = True
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()

    def _serve(self) -> None:
        while not self._closing:
            try:
                self._executor.spin()
            except ExternalShutdownException:
                return
            except Exception as error:  # noqa: BLE001 - one call that fails must not be the last
                self._node.get_logger().error(f"an emergency call failed: {error}")
