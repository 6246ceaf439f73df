"""ROS messages to arrays and back, and the QoS of the project's topics. Times are float seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, Vector3
from nav_msgs.msg import Odometry, Path
from numpy.typing import NDArray
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import JointState, PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from deq_mpc_controller.conversions import body_rates_from_rpy_rate
from deq_mpc_core import obstacle_cloud
from deq_mpc_core.errors import UserError
from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.policy.interface import Command
from deq_mpc_core.rotations import quat_from_rpy, rotate

Array = NDArray[np.float64]
Colour = tuple[float, float, float, float]

LATEST = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
"""Poses, odometry: the newest counts, a lost one is not sent again."""
RELIABLE = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
"""Goal, obstacles, markers: who comes late gets the last one."""
STATES = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
"""Flight states: none of them is overwritten by the next before it is delivered."""

SETPOINT_NAMES = list(Command._fields)
GREEN, RED, BLUE = (0.2, 0.7, 0.3, 0.8), (0.9, 0.1, 0.1, 0.9), (0.1, 0.4, 0.9, 0.9)
GREY: Colour = (0.6, 0.6, 0.6, 0.6)
_NANO = 1_000_000_000
_LINE_WIDTH = 0.03  # m: width of a line in RViz


def seconds(stamp: Time) -> float:
    """Stamp to float seconds."""
    return float(stamp.sec + 1e-9 * stamp.nanosec)


def to_stamp(t: float) -> Time:
    """Float seconds to a stamp."""
    sec, nanosec = divmod(round(t * _NANO), _NANO)
    return Time(sec=int(sec), nanosec=int(nanosec))


def header(t: float, frame: str) -> Header:
    """Header of time and frame."""
    return Header(stamp=to_stamp(t), frame_id=frame)


def point(pos: Array) -> Point:
    """Position (3,) as a Point."""
    return Point(x=float(pos[0]), y=float(pos[1]), z=float(pos[2]))


def quaternion(quat: Array) -> Quaternion:
    """Quaternion (4,) xyzw as a message."""
    return Quaternion(x=float(quat[0]), y=float(quat[1]), z=float(quat[2]), w=float(quat[3]))


def vector(message: Point | Vector3) -> Array:
    """Point or Vector3 as (3,)."""
    return np.array([message.x, message.y, message.z])


def pose_message(t: float, frame: str, pos: Array, quat: Array | None = None) -> PoseStamped:
    """Pose of position (3,) and quaternion (4,) xyzw, default level."""
    orientation = Quaternion() if quat is None else quaternion(quat)
    return PoseStamped(header=header(t, frame), pose=Pose(position=point(pos), orientation=orientation))


def pose_arrays(message: PoseStamped) -> tuple[float, Array, Array]:
    """Stamp [s], position (3,) and quaternion (4,) xyzw of a pose."""
    q = message.pose.orientation
    return seconds(message.header.stamp), vector(message.pose.position), np.array([q.x, q.y, q.z, q.w])


def setpoint_message(t: float, command: Command) -> JointState:
    """A command, SI values under its fields' names."""
    return JointState(header=header(t, ""), name=SETPOINT_NAMES, position=[float(value) for value in command])


def command_from_setpoint(message: JointState) -> Command:
    """The command of a setpoint message, whatever the order of its names.

    Raises:
        UserError: if a name is missing.
    """
    values = dict(zip(message.name, message.position, strict=True))
    try:
        return Command(*(values[name] for name in SETPOINT_NAMES))
    except KeyError as error:
        raise UserError(f"the setpoint message lacks {error.args[0]!r}; it needs {SETPOINT_NAMES}") from error


def odometry_message(t: float, frame: str, child: str, x: Array) -> Odometry:
    """State (13,) as odometry; the twist is in the world frame."""
    quat = quat_from_rpy(x[cf.RPY])
    rates = rotate(quat, body_rates_from_rpy_rate(x[cf.RPY], x[cf.RPY_RATE]))
    return truth_message(t, frame, child, x[cf.POS], quat, x[cf.VEL], rates)


def truth_message(t: float, frame: str, child: str, pos: Array, quat: Array, vel: Array, ang_vel: Array) -> Odometry:
    """Odometry of position, attitude (xyzw), velocity and angular velocity, both in the world frame."""
    message = Odometry(header=header(t, frame), child_frame_id=child)
    message.pose.pose = Pose(position=point(pos), orientation=quaternion(quat))
    message.twist.twist.linear = Vector3(x=float(vel[0]), y=float(vel[1]), z=float(vel[2]))
    message.twist.twist.angular = Vector3(x=float(ang_vel[0]), y=float(ang_vel[1]), z=float(ang_vel[2]))
    return message


def path_message(t: float, frame: str, plan: Array, dt: float) -> Path:
    """Plan (T, 13) of knots every ``dt`` [s] from ``t`` as stamped poses."""
    quats = quat_from_rpy(plan[:, cf.RPY])
    poses = [
        pose_message(t + k * dt, frame, knot[cf.POS], quat)
        for k, (knot, quat) in enumerate(zip(plan, quats, strict=True))
    ]
    return Path(header=header(t, frame), poses=poses)


def cloud_message(t: float, frame: str, obstacles: Array) -> PointCloud2:
    """Obstacles (K, 7) as a point cloud, see ``deq_mpc_core.obstacle_cloud``."""
    fields = [
        PointField(name=name, offset=4 * i, datatype=obstacle_cloud.FLOAT32, count=1)
        for i, name in enumerate(obstacle_cloud.FIELDS)
    ]
    return PointCloud2(
        header=header(t, frame),
        height=1,
        width=len(obstacles),
        fields=fields,
        is_bigendian=False,
        point_step=obstacle_cloud.POINT_STEP,
        row_step=obstacle_cloud.POINT_STEP * len(obstacles),
        data=obstacle_cloud.pack_obstacles(obstacles),
        is_dense=True,
    )


def sphere_markers(t: float, frame: str, obstacles: Array, colours: Sequence[Colour]) -> MarkerArray:
    """Obstacles (K, 7) as spheres, one colour each."""
    markers = []
    for k, (sphere, colour) in enumerate(zip(obstacles, colours, strict=True)):
        marker = _marker(t, frame, "obstacles", k, Marker.SPHERE, colour)
        marker.pose.position = point(sphere)
        marker.scale = Vector3(x=2.0 * sphere[3], y=2.0 * sphere[3], z=2.0 * sphere[3])
        markers.append(marker)
    return MarkerArray(markers=markers)


def vehicle_markers(t: float, frame: str, x: Array, plan: Array | None) -> MarkerArray:
    """The vehicle, state (13,), as a flat box, and its plan (T, 13) as a line."""
    body = _marker(t, frame, "vehicle", 0, Marker.CUBE, BLUE)
    body.pose = Pose(position=point(x[cf.POS]), orientation=quaternion(quat_from_rpy(x[cf.RPY])))
    body.scale = Vector3(x=0.1, y=0.1, z=0.03)
    line = _marker(t, frame, "plan", 0, Marker.LINE_STRIP, GREEN)
    line.scale = Vector3(x=_LINE_WIDTH, y=0.0, z=0.0)
    line.points = [] if plan is None else [point(knot) for knot in plan]
    line.action = Marker.DELETE if plan is None else Marker.ADD
    return MarkerArray(markers=[body, line])


def goal_marker(t: float, frame: str, goal: Array, radius: float) -> Marker:
    """The goal (3,) as a sphere of its tolerance."""
    marker = _marker(t, frame, "goal", 0, Marker.SPHERE, GREEN)
    marker.pose.position = point(goal)
    marker.scale = Vector3(x=2.0 * radius, y=2.0 * radius, z=2.0 * radius)
    return marker


def diagnostics_message(t: float, name: str, level: int, message: str, values: dict[str, object]) -> DiagnosticArray:
    """One status of ``level`` 0 (ok), 1 (warning) or 2 (error)."""
    status = DiagnosticStatus(name=name, hardware_id="", level=bytes([level]), message=message)
    status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticArray(header=header(t, ""), status=[status])


def _marker(t: float, frame: str, namespace: str, number: int, kind: int, colour: Colour) -> Marker:
    r, g, b, a = colour
    marker = Marker(header=header(t, frame), ns=namespace, id=number, type=kind, action=Marker.ADD)
    marker.color = ColorRGBA(r=r, g=g, b=b, a=a)
    marker.lifetime = Duration()
    return marker
