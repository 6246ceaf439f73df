"""Poses from the vehicle's own topic and from ``/poses``, whose package is stood in for."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from std_msgs.msg import Header

from deq_mpc_controller import ros_mocap
from deq_mpc_controller.ros_messages import LATEST


class FakeNode:
    """Remembers its subscriptions."""

    def __init__(self) -> None:
        self.topics: dict[str, tuple[object, object, object]] = {}

    def create_subscription(self, kind: object, topic: str, callback: object, qos: object) -> None:
        self.topics[topic] = (kind, callback, qos)


class NamedPoseArray(SimpleNamespace):
    """As motion_capture_tracking_interfaces has it."""


def message(*names: str) -> NamedPoseArray:
    nan = float("nan")
    poses = [
        SimpleNamespace(
            name=name,
            pose=Pose(position=Point(x=float(k), y=0.0, z=0.0), orientation=Quaternion(x=nan, y=nan, z=nan, w=nan)),
        )
        for k, name in enumerate(names)
    ]
    return NamedPoseArray(header=Header(frame_id="world"), poses=poses)


def test_without_the_package_there_is_the_vehicles_own_topic() -> None:
    node, taken = FakeNode(), []
    ros_mocap.subscribe(node, "cf7", taken.append)
    assert set(node.topics) == {"/cf7/pose"}
    node.topics["/cf7/pose"][1](PoseStamped())
    assert taken == [PoseStamped()]


def test_with_it_the_robots_pose_is_picked_from_all(monkeypatch: pytest.MonkeyPatch) -> None:
    msg = ModuleType(ros_mocap.PACKAGE)
    msg.NamedPoseArray = NamedPoseArray
    monkeypatch.setitem(sys.modules, "motion_capture_tracking_interfaces", ModuleType("interfaces"))
    monkeypatch.setitem(sys.modules, ros_mocap.PACKAGE, msg)
    node, taken = FakeNode(), []
    ros_mocap.subscribe(node, "cf7", taken.append)
    kind, callback, qos = node.topics["/poses"]
    assert kind is NamedPoseArray
    assert qos is LATEST
    callback(message("cf1", "cf7", "cf9"))
    (pose,) = taken
    assert pose.header.frame_id == "world"
    assert pose.pose.position.x == 1.0
    assert pose.pose.orientation.w != pose.pose.orientation.w  # NaN: the position only
    callback(message("cf1"))
    callback(message())
    assert len(taken) == 1
