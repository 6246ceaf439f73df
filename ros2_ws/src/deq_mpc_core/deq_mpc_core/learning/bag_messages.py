"""The messages of a rosbag by what they say, from this stack's topics and from those of a Crazyswarm2 system.

| role | type | topic, for the robot cf | needed |
|---|---|---|---|
| pose | geometry_msgs/PoseStamped | /cf/pose | this or `named_poses` |
| named_poses | motion_capture_tracking_interfaces/NamedPoseArray | /poses | goes before `pose` if it has the attitude |
| setpoint | sensor_msgs/JointState | /cf/setpoint | |
| legacy_setpoint | geometry_msgs/Twist | /cf/cmd_vel_legacy | |
| status | crazyflie_interfaces/Status | /cf/status | |
| obstacles, goal | sensor_msgs/PointCloud2, geometry_msgs/PoseStamped | /obstacles, /cf/goal | if `setpoint` is |
| expert_plan, flight_state | nav_msgs/Path, std_msgs/String | /cf/expert_plan, /cf/flight_state | |

A bag with `setpoint` is this stack's and read strictly; `legacy_setpoint` and `status` do not count in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from deq_mpc_core.config import Config
from deq_mpc_core.errors import UserError
from deq_mpc_core.obstacle_cloud import unpack_obstacles

SETPOINT_FIELDS = ("roll", "pitch", "yaw_rate", "thrust")
_BASE = get_typestore(Stores.ROS2_KILTED)
_POSES, _STATUS = "motion_capture_tracking_interfaces/msg/NamedPoseArray", "crazyflie_interfaces/msg/Status"
_FOREIGN = {
    "motion_capture_tracking_interfaces/msg/NamedPose": "string name\ngeometry_msgs/Pose pose",
    _POSES: "std_msgs/Header header\nmotion_capture_tracking_interfaces/NamedPose[] poses",
    _STATUS: "std_msgs/Header header\nuint16 supervisor_info\nfloat32 battery_voltage\nuint8 pm_state\nuint8 rssi\n"
    "uint32 num_rx_broadcast\nuint32 num_tx_broadcast\nuint32 num_rx_unicast\nuint32 num_tx_unicast\n"
    "uint16 latency_unicast",
}
"""Fields of types that a bag may use without defining them, as sqlite3 bags of ROS 2 Humble do; Crazyswarm2 1.0's."""
_IS_FLYING = 16
"""Bit of ``supervisor_info``."""
_UNSTAMPED = ("legacy_setpoint", "flight_state")
"""Roles whose messages have no stamp."""
_NS = 1e-9
_SAME_CLOCK_NS = 100_000_000
"""Poses that come later than this after their stamps were stamped by another clock than the recorder's."""


class Topics(Config):
    """Topic of each role."""

    pose: str
    named_poses: str
    setpoint: str
    legacy_setpoint: str
    status: str
    obstacles: str
    goal: str
    expert_plan: str
    flight_state: str

    def of_robot(self, name: str, before: str) -> Topics:
        """These topics with the robot ``before`` in their first place replaced by ``name``."""
        prefix = f"/{before}/"
        return Topics(
            **{
                role: f"/{name}/{topic.removeprefix(prefix)}" if topic.startswith(prefix) else topic
                for role, topic in self.model_dump().items()
            }
        )

    def remapped(self, remaps: Sequence[str]) -> Topics:
        """These topics with ``role=/topic`` remaps, e.g. ``["pose=/cf231/pose"]``.

        Raises:
            UserError: if a remap has another form or names no role.
        """
        names = self.model_dump()
        for remap in remaps:
            role, equals, topic = remap.partition("=")
            if not equals or role not in names or not topic.startswith("/"):
                raise UserError(f"remap {remap!r} is not role=/topic with one of the roles {', '.join(names)}")
            names[role] = topic
        return Topics(**names)


class BagProblem(Exception):
    """Why a bag cannot be used; becomes a line of the report."""


@dataclass
class Messages:
    """Decoded messages of one bag by role: header stamps [ns], log times [ns], values."""

    stamps: dict[str, list[int]] = field(default_factory=dict)
    log_times: dict[str, list[int]] = field(default_factory=dict)
    values: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, role: str, stamp: int, log_time: int, value: Any) -> None:
        """Append a message."""
        self.stamps.setdefault(role, []).append(stamp)
        self.log_times.setdefault(role, []).append(log_time)
        self.values.setdefault(role, []).append(value)

    @property
    def start_ns(self) -> int:
        """The stamp of the first pose [ns]."""
        return self.stamps["pose"][0]

    def seconds(self, stamps: Sequence[int]) -> NDArray[np.float64]:
        """Stamps (n,) [ns] in seconds from the first pose's."""
        return np.asarray(np.asarray(stamps, dtype=np.int64) - self.start_ns, dtype=np.float64) * _NS

    def times(self, role: str) -> NDArray[np.float64]:
        """When a role's messages (n,) were stamped, or recorded if they have no stamp [s].

        Times of recording are moved to the poses' clock if the recorder's is another one.
        """
        if role not in _UNSTAMPED:
            return self.seconds(self.stamps[role])
        offset = int(np.median(np.subtract(self.stamps["pose"], self.log_times["pose"])))
        return self.seconds(np.add(self.log_times[role], offset if abs(offset) > _SAME_CLOCK_NS else 0).tolist())

    def __contains__(self, role: str) -> bool:
        return role in self.values


def read_messages(bag: Path, topics: Topics, robot: str) -> Messages:
    """All messages of ``bag`` that have a role; the poses under the role ``pose``, wherever they come from.

    Raises:
        BagProblem: if it cannot be read, or lacks what training needs.
    """
    messages = Messages()
    try:
        with Reader(bag) as reader:
            roles = _choose_topics(reader.connections, topics)
            connections = [connection for connection in reader.connections if connection.topic in roles]
            typestore = _typestore(connections)
            for connection, log_time, raw in reader.messages(connections):
                role = roles[connection.topic]
                message = typestore.deserialize_cdr(raw, connection.msgtype)
                stamp = _stamp_ns(message) if hasattr(message, "header") else log_time
                value = _DECODERS[role][1](message, robot)
                if value is not None:
                    # an all-zero stamp means that the publisher did not stamp: the recorder's time is the best there is
                    messages.add(role, stamp or log_time, log_time, value)
    except BagProblem:
        raise
    except Exception as error:  # a damaged file makes the reader fail in its storage, compression or message layer
        detail = " ".join(str(error).split()) or type(error).__name__
        raise BagProblem(f"damaged or truncated ({detail})") from error
    _choose_poses(messages)
    if "pose" not in messages and topics.named_poses in roles:
        raise BagProblem(f"no {robot!r} on {topics.named_poses}; name another with --robot")
    for role in _required(set(roles.values())):
        if role not in messages:
            raise BagProblem(f"no message on {getattr(topics, role)} ({role})")
    return messages


def _decode_pose(message: Any, _robot: str = "") -> list[float]:
    p, q = message.pose.position, message.pose.orientation
    return [p.x, p.y, p.z, q.x, q.y, q.z, q.w]


def _decode_named_poses(message: Any, robot: str) -> list[float] | None:
    return next((_decode_pose(named) for named in message.poses if named.name == robot), None)


def _decode_setpoint(message: Any, _robot: str) -> list[float]:
    by_name = dict(zip(message.name, message.position, strict=False))
    missing = [name for name in SETPOINT_FIELDS if name not in by_name]
    if missing:
        raise BagProblem(f"the setpoint has no {missing[0]!r}")
    return [by_name[name] for name in SETPOINT_FIELDS]


def _decode_legacy_setpoint(message: Any, _robot: str) -> float | None:
    """The integer of the thrust; None if the motors are off, as before and after a flight."""
    integer = float(message.linear.z)
    return integer if integer > 0.0 else None


def _decode_obstacles(message: Any, _robot: str) -> NDArray[np.float64]:
    try:
        return unpack_obstacles(message)
    except UserError as error:
        raise BagProblem(str(error)) from error


def _decode_plan(message: Any, _robot: str) -> tuple[list[int], list[list[float]]]:
    return [_stamp_ns(pose) for pose in message.poses], [_decode_pose(pose)[:3] for pose in message.poses]


_DECODERS: Mapping[str, tuple[str, Callable[[Any, str], Any]]] = {
    "pose": ("geometry_msgs/msg/PoseStamped", _decode_pose),
    "named_poses": (_POSES, _decode_named_poses),
    "setpoint": ("sensor_msgs/msg/JointState", _decode_setpoint),
    "legacy_setpoint": ("geometry_msgs/msg/Twist", _decode_legacy_setpoint),
    "status": (_STATUS, lambda message, _robot: bool(message.supervisor_info & _IS_FLYING)),
    "obstacles": ("sensor_msgs/msg/PointCloud2", _decode_obstacles),
    "goal": ("geometry_msgs/msg/PoseStamped", _decode_pose),
    "expert_plan": ("nav_msgs/msg/Path", _decode_plan),
    "flight_state": ("std_msgs/msg/String", lambda message, _robot: message.data),
}
CRAZYSWARM2_ROLES = ("named_poses", "legacy_setpoint", "status")
"""Roles of a Crazyswarm2 system, whose topics may be anything else in bags of other systems."""


def _stamp_ns(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _choose_topics(connections: Sequence[Connection], topics: Topics) -> dict[str, str]:
    """Role of each topic that is read, after checking names and types."""
    present = {connection.topic: connection.msgtype for connection in connections}
    roles: dict[str, str] = {}
    for role, topic in topics.model_dump().items():
        expected = _DECODERS[role][0]
        if present.get(topic) == expected:
            roles[role] = topic
        elif topic in present and role not in CRAZYSWARM2_ROLES:
            raise BagProblem(f"{topic} is {present[topic]}, not {expected}")
    for role in _required(set(roles)):
        if role not in roles:
            others = ", ".join(sorted(present)) or "nothing"
            topic = getattr(topics, role)
            raise BagProblem(
                f"no topic {topic} ({role}); the bag has {others}; name the robot, or remap {role} if it is one of them"
            )
    if "setpoint" in roles:
        roles = {role: topic for role, topic in roles.items() if role not in ("legacy_setpoint", "status")}
    return {topic: role for role, topic in roles.items()}


def _required(roles: set[str]) -> Iterator[str]:
    """The roles that a bag with ``roles`` has to have."""
    if "named_poses" not in roles:
        yield "pose"
    if "setpoint" in roles:
        yield from ("setpoint", "obstacles", "goal")


def _choose_poses(messages: Messages) -> None:
    """Make the named poses the poses if they have the attitude, which single markers have not; else drop them."""
    if "named_poses" not in messages:
        return
    if "pose" in messages and not np.isfinite(messages.values["named_poses"]).all(axis=1).any():
        del messages.values["named_poses"]
        return
    by_roles: tuple[dict[str, list[Any]], ...] = (messages.values, messages.stamps, messages.log_times)
    for by_role in by_roles:
        by_role["pose"] = by_role["named_poses"]


def _typestore(connections: Sequence[Connection]) -> Typestore:
    """A store of the connections' types; a type that ROS does not have is as the bag says, if it does."""
    foreign = [connection for connection in connections if connection.msgtype not in _BASE.types]
    if not foreign:
        return _BASE
    return _extended_typestore(tuple((connection.msgtype, *connection.msgdef) for connection in foreign))


@cache
def _extended_typestore(definitions: tuple[tuple[str, MessageDefinitionFormat, str], ...]) -> Typestore:
    typestore = get_typestore(Stores.ROS2_KILTED)
    types = {}
    for name, text in _FOREIGN.items():
        types.update(get_types_from_msg(text, name))
    for name, form, text in definitions:
        if form is MessageDefinitionFormat.MSG:
            types.update(get_types_from_msg(text, name))
        elif form is MessageDefinitionFormat.IDL:
            types.update(get_types_from_idl(text))
    typestore.register({name: fields for name, fields in types.items() if name not in typestore.types})
    return typestore
