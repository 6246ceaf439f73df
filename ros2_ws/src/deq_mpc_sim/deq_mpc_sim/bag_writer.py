"""Flights recorded as rosbags (MCAP) without ROS, on the topics of ``docs/architecture.md``."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from deq_mpc_core.errors import UserError
from deq_mpc_core.obstacle_cloud import FIELDS, FLOAT32, POINT_STEP, pack_obstacles
from deq_mpc_core.policy.interface import Command
from deq_mpc_core.rotations import quat_from_rpy

FRAME = "world"
BAG_VERSION: Literal[9] = 9
MOVING_PERIOD_NS = 50_000_000
"""Moving obstacles are written at 20 Hz; they go on at their velocity in between."""
STATIC_PERIOD_NS = 1_000_000_000
"""Static ones are repeated every second, so that a part of a bag is complete, too."""
_TYPESTORE = get_typestore(Stores.ROS2_KILTED)
_TYPES = _TYPESTORE.types
_NO_VALUES = np.zeros(0)


def _offer(reliability: QosReliability, durability: QosDurability, depth: int) -> Qos:
    unlimited = QosTime(9_223_372_036, 854_775_807)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=depth,
        reliability=reliability,
        durability=durability,
        deadline=unlimited,
        lifespan=unlimited,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=unlimited,
        avoid_ros_namespace_conventions=False,
    )


VOLATILE = _offer(QosReliability.RELIABLE, QosDurability.VOLATILE, 10)
LATCHED = _offer(QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, 1)
"""For topics whose last message a late subscriber gets, also when the bag is played."""


class BagFile:
    """An MCAP bag of serialized messages under a hidden name; it gets its own when it is closed, never half-written."""

    def __init__(self, path: Path) -> None:
        """Open ``path``, which must not exist.

        Raises:
            UserError: if it exists or its folder cannot be written.
        """
        if path.exists():
            raise UserError(f"{path} exists; move it away or choose another name")
        self.path = path
        self._partial = path.parent / f".{path.name}.partial"
        try:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"{path.parent}: cannot be written ({error.strerror}); choose another folder") from error
        self._writer = Writer(self._partial / path.name, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._connections: dict[str, Connection] = {}

    def write(self, topic: str, msgtype: str, stamp_ns: int, data: bytes | memoryview, qos: Qos = VOLATILE) -> None:
        """Append one message, serialized as CDR; the topic's first message decides its ``qos`` when played."""
        connection = self._connections.get(topic)
        if connection is None:
            connection = self._writer.add_connection(topic, msgtype, typestore=_TYPESTORE, offered_qos_profiles=[qos])
            self._connections[topic] = connection
        self._writer.write(connection, stamp_ns, data)

    def close(self) -> None:
        """Complete the bag and give it its name."""
        self._writer.close()
        (self._partial / self.path.name).replace(self.path)
        self._partial.rmdir()

    def discard(self) -> None:
        """Leave nothing of the bag."""
        self._writer.abort()
        shutil.rmtree(self._partial, ignore_errors=True)


def _message(msgtype: str, *values: Any) -> Any:
    return _TYPES[msgtype](*values)


def _pose(pos: ArrayLike, quat: ArrayLike) -> Any:
    point = _message("geometry_msgs/msg/Point", *np.asarray(pos, dtype=np.float64).tolist())
    orientation = _message("geometry_msgs/msg/Quaternion", *np.asarray(quat, dtype=np.float64).tolist())
    return _message("geometry_msgs/msg/Pose", point, orientation)


_POINT_FIELDS = [_message("sensor_msgs/msg/PointField", name, 4 * i, FLOAT32, 1) for i, name in enumerate(FIELDS)]
_SETPOINT_NAMES = list(Command._fields)
_LEVEL = (0.0, 0.0, 0.0, 1.0)


class FlightBagWriter:
    """Records one flight, for simulations in lockstep. Times are seconds of the flight, all in its bag's header stamps.

    Use it as a context: the bag appears when the block ends well, and leaves nothing behind if it raises.
    """

    def __init__(self, path: Path, robot: str = "cf", start_s: float = 1.0) -> None:
        """Open the bag ``path`` for the robot; ``start_s`` is the stamp of time 0 (0 itself means unstamped in ROS)."""
        self._bag = BagFile(path)
        self._robot = robot
        self._start_ns = round(start_s * 1e9)
        self._obstacles_due = 0
        self._goal: NDArray[np.float64] | None = None

    def __enter__(self) -> FlightBagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._bag.discard()

    def close(self) -> None:
        """Complete the bag; it appears under its name."""
        self._bag.close()

    def write_pose(self, t: float, pos: ArrayLike, quat: ArrayLike) -> None:
        """The mocap's pose: position (3,) [m], quaternion xyzw."""
        self._write_pose_stamped(f"/{self._robot}/pose", t, pos, quat)

    def write_truth(self, t: float, pos: ArrayLike, quat: ArrayLike, vel: ArrayLike, ang_vel: ArrayLike) -> None:
        """The plant's state: velocity [m/s] and angular velocity [rad/s] in the world frame."""
        vector = _TYPES["geometry_msgs/msg/Vector3"]
        twist = _message("geometry_msgs/msg/Twist", vector(*map(float, vel)), vector(*map(float, ang_vel)))  # type: ignore[arg-type]
        unknown = np.zeros(36)
        message = (
            f"{self._robot}",
            _message("geometry_msgs/msg/PoseWithCovariance", _pose(pos, quat), unknown),
            _message("geometry_msgs/msg/TwistWithCovariance", twist, unknown),
        )
        self._write(f"/{self._robot}/truth", "nav_msgs/msg/Odometry", t, *message)

    def write_setpoint(self, t: float, command: Command) -> None:
        """The command that was sent."""
        values = (_SETPOINT_NAMES, np.asarray(command, dtype=np.float64), _NO_VALUES, _NO_VALUES)
        self._write(f"/{self._robot}/setpoint", "sensor_msgs/msg/JointState", t, *values)

    def write_obstacles(self, t: float, obstacles: ArrayLike) -> None:
        """Obstacles (K, 7); call it at every step, it writes when the topic's period is over."""
        array = np.asarray(obstacles, dtype=np.float64)
        if self._stamp(t) < self._obstacles_due:
            return
        period = MOVING_PERIOD_NS if array[:, 4:7].any() else STATIC_PERIOD_NS
        self._obstacles_due = self._stamp(t) + period
        data = np.frombuffer(pack_obstacles(array), dtype=np.uint8)
        row = POINT_STEP * len(array)
        layout = (1, len(array), _POINT_FIELDS, False, POINT_STEP, row, data, True)
        self._write("/obstacles", "sensor_msgs/msg/PointCloud2", t, *layout)

    def write_goal(self, t: float, goal: ArrayLike) -> None:
        """The goal (3,) [m]; written when it changes."""
        array = np.array(goal, dtype=np.float64)
        if self._goal is None or not np.array_equal(array, self._goal):
            self._goal = array
            self._write_pose_stamped(f"/{self._robot}/goal", t, array, _LEVEL)

    def write_expert_plan(self, t: float, plan: ArrayLike, dt: float) -> None:
        """The expert's plan from the state at ``t``: states (T, 13), or positions (T, 3), every ``dt`` [s]."""
        knots = np.asarray(plan, dtype=np.float64)
        quats = quat_from_rpy(knots[:, 6:9]) if knots.shape[1] >= 9 else np.tile(_LEVEL, (len(knots), 1))
        poses = [
            _message("geometry_msgs/msg/PoseStamped", self._header(t + k * dt), _pose(knot[:3], quat))
            for k, (knot, quat) in enumerate(zip(knots, quats, strict=True))
        ]
        self._write(f"/{self._robot}/expert_plan", "nav_msgs/msg/Path", t, poses)

    def copy(self, topic: str, msgtype: str, stamp_ns: int, data: bytes | memoryview) -> None:
        """Append a message of another bag, as it is."""
        self._bag.write(topic, msgtype, stamp_ns, data, self._qos(topic))

    def _write_pose_stamped(self, topic: str, t: float, pos: ArrayLike, quat: ArrayLike) -> None:
        self._write(topic, "geometry_msgs/msg/PoseStamped", t, _pose(pos, quat))

    def _stamp(self, t: float) -> int:
        return self._start_ns + round(t * 1e9)

    def _header(self, t: float) -> Any:
        sec, nanosec = divmod(self._stamp(t), 1_000_000_000)
        return _message("std_msgs/msg/Header", _message("builtin_interfaces/msg/Time", sec, nanosec), FRAME)

    def _write(self, topic: str, msgtype: str, t: float, *values: Any) -> None:
        message = _message(msgtype, self._header(t), *values)
        self._bag.write(topic, msgtype, self._stamp(t), _TYPESTORE.serialize_cdr(message, msgtype), self._qos(topic))

    def _qos(self, topic: str) -> Qos:
        return LATCHED if topic in (f"/{self._robot}/goal", "/obstacles") else VOLATILE
