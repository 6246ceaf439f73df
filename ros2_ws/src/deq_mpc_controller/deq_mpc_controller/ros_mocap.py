"""Poses of a motion capture as ROS publishes them: the vehicle's own topic, or all bodies on ``/poses``.

``/poses`` is motion_capture_tracking_interfaces/NamedPoseArray, best effort, depth 1, and is read where that package is
installed. A NaN quaternion there means that only the position is known.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from geometry_msgs.msg import PoseStamped

from deq_mpc_controller.ros_messages import LATEST
from deq_mpc_core.errors import UserError

PACKAGE = "motion_capture_tracking_interfaces.msg"
TOPIC = "/poses"


def named_pose_type() -> Any | None:
    """The type of ``/poses``; None where its package is not installed."""
    try:
        return getattr(import_module(PACKAGE), "NamedPoseArray", None)
    except ImportError:
        return None


def pose_of(message: Any, name: str) -> PoseStamped | None:
    """The pose of the body ``name`` in a NamedPoseArray, as a stamped one; None if it is not there."""
    for named in message.poses:
        if named.name == name:
            return PoseStamped(header=message.header, pose=named.pose)
    return None


def subscribe(node: Any, robot: str, take: Callable[[PoseStamped], None], own_topic: bool = True) -> None:
    """Give ``take`` the robot's poses from wherever they come; without ``own_topic`` only those on ``/poses``.

    Raises:
        UserError: if there is nowhere that they could come from.
    """
    if own_topic:
        node.create_subscription(PoseStamped, f"/{robot}/pose", take, LATEST)
    if (kind := named_pose_type()) is None:
        if own_topic:
            return
        raise UserError("the poses are on /poses, whose package is missing; install motion_capture_tracking_interfaces")

    def pick(message: Any) -> None:
        if (pose := pose_of(message, robot)) is not None:
            take(pose)

    node.create_subscription(kind, TOPIC, pick, LATEST)
