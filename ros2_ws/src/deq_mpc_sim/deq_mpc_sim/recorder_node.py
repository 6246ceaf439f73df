"""Records the flight as a rosbag, follows it and, when it is over, leaves its picture and its verdict.

Exit status: 0 for a successful flight, 1 for any other, 2 if the folder cannot be written.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState, PointCloud2
from std_msgs.msg import String

from deq_mpc_controller.ros_messages import seconds, vector
from deq_mpc_controller.ros_node import Interrupts, declare_parameters, run_node
from deq_mpc_core.errors import UserError
from deq_mpc_core.obstacle_cloud import unpack_obstacles
from deq_mpc_sim.bag_writer import LATCHED, VOLATILE
from deq_mpc_sim.diagnostics import policy_times
from deq_mpc_sim.flight_folder import FlightFolder
from deq_mpc_sim.flight_watch import FlightWatch
from deq_mpc_sim.node_parameters import RECORDER_NODE

SPIN_S = 0.1
PROGRESS_PERIOD_S = {True: 0.2, False: 2.0}
"""Between two progress lines, on a terminal (where they replace each other) and elsewhere."""
LINGER_S = 0.5
"""Messages on their way at the end of the flight have this time to come in."""
DEPTH = 200
"""Messages that may wait while the recorder is busy: two seconds of a 100 Hz topic."""

BEST_EFFORT = QoSProfile(depth=DEPTH, reliability=QoSReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=DEPTH, reliability=QoSReliabilityPolicy.RELIABLE)
TRANSIENT_LOCAL = QoSProfile(
    depth=DEPTH, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL
)

Watcher = Callable[[Any], None]


class _Topic(NamedTuple):
    """A topic to record, and who else wants its messages; ``{cf}`` stands for the robot."""

    name: str
    type: type
    qos: QoSProfile
    watcher: Watcher | None


def _caption(value: Mapping[str, Any]) -> str:
    """What was flown, for people."""
    if not value["virtual_scene"]:
        return f"own scene, policy {value['policy']}"
    radius = f", r = {value['radius']:g} m" if value["scene"] == "clutter" else ""  # the others choose it themselves
    return f"{value['scene']}{radius}, {value['obstacles']}, seed {value['seed']}, policy {value['policy']}"


def _folder_name(value: Mapping[str, Any]) -> str:
    """Where the flight goes if nobody names a folder."""
    scene = f"{value['scene']}-{value['obstacles']}-seed{value['seed']}" if value["virtual_scene"] else "own-scene"
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{scene}"


def _message_type(cls: type) -> str:
    """``geometry_msgs/msg/PoseStamped`` of the class."""
    return f"{cls.__module__.split('.')[0]}/msg/{cls.__name__}"


class RecorderNode(Node):
    """Subscribes to what the bag keeps, raw; decodes only what the verdict needs."""

    def __init__(self) -> None:
        super().__init__("recorder_node")
        value = declare_parameters(self, RECORDER_NODE)
        self.limits = TimeLimits(value["start_timeout"] if value["auto"] else math.inf, value["timeout"])
        self.caption = _caption(value)
        self.folder = FlightFolder(Path(value["out"]) / (value["name"] or _folder_name(value)))
        self.watch = FlightWatch()
        for topic in self._topics():
            self._record(topic._replace(name=topic.name.format(cf=value["robot"])))

    def _topics(self) -> list[_Topic]:
        return [
            _Topic("/{cf}/pose", PoseStamped, BEST_EFFORT, self._see_pose),
            _Topic("/{cf}/truth", Odometry, BEST_EFFORT, self._see_truth),
            _Topic("/{cf}/odom", Odometry, BEST_EFFORT, None),
            _Topic("/{cf}/setpoint", JointState, RELIABLE, None),
            _Topic("/{cf}/plan", PathMessage, RELIABLE, None),
            _Topic("/{cf}/goal", PoseStamped, TRANSIENT_LOCAL, self._see_goal),
            _Topic("/obstacles", PointCloud2, TRANSIENT_LOCAL, self._see_obstacles),
            _Topic("/{cf}/flight_state", String, TRANSIENT_LOCAL, self._see_state),
            _Topic("/diagnostics", DiagnosticArray, RELIABLE, self._see_diagnostics),
        ]

    def _record(self, topic: _Topic) -> None:
        msgtype = _message_type(topic.type)
        qos = LATCHED if topic.qos is TRANSIENT_LOCAL else VOLATILE

        def receive(raw: bytes) -> None:
            self.folder.bag.write(topic.name, msgtype, time.time_ns(), raw, qos)
            if topic.watcher is not None:
                topic.watcher(deserialize_message(raw, topic.type))

        self.create_subscription(topic.type, topic.name, receive, topic.qos, raw=True)

    def _see_pose(self, message: PoseStamped) -> None:
        if not self.watch.simulated:  # a real flight has the motion capture's word alone
            self.watch.see_vehicle(seconds(message.header.stamp), vector(message.pose.position))

    def _see_truth(self, message: Odometry) -> None:
        self.watch.simulated = True
        pos, vel = vector(message.pose.pose.position), vector(message.twist.twist.linear)
        self.watch.see_vehicle(seconds(message.header.stamp), pos, vel)

    def _see_goal(self, message: PoseStamped) -> None:
        self.watch.see_goal(vector(message.pose.position))

    def _see_obstacles(self, message: PointCloud2) -> None:
        try:
            self.watch.see_obstacles(seconds(message.header.stamp), unpack_obstacles(message))
        except UserError as error:
            self.get_logger().error(str(error), throttle_duration_sec=5.0)

    def _see_state(self, message: String) -> None:
        self.watch.see_state(message.data)

    def _see_diagnostics(self, message: DiagnosticArray) -> None:
        values = {entry.key: entry.value for status in message.status for entry in status.values}
        if "policy_ms_p50" in values:
            times = policy_times(values)
            self.watch.see_policy(seconds(message.header.stamp), times)
        if "control_steps" in values:
            self.watch.see_deadlines(int(values["deadline_misses"]), int(values["control_steps"]))
        if values.get("failure"):
            self.watch.see_failure(values["failure"])


class TimeLimits:
    """How long a flight may take to begin, and from its take-off to its end [s]."""

    def __init__(self, to_begin: float, to_end: float) -> None:
        self._to_begin, self._to_end = to_begin, to_end
        self._waiting_since: float | None = None
        self._flying_since: float | None = None

    def overdue(self, now: float, took_off: bool) -> str | None:
        """What has taken too long at ``now`` [s], None if nothing has."""
        if self._waiting_since is None:
            self._waiting_since = now
        if not took_off:
            return f"not begun after {self._to_begin:g} s" if now - self._waiting_since > self._to_begin else None
        if self._flying_since is None:
            self._flying_since = now
        too_long = now - self._flying_since > self._to_end
        return f"not over {self._to_end:g} s after the take-off" if too_long else None


class _Progress:
    """A line on stderr that is renewed on a terminal, and said again now and then elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._due = 0.0

    def show(self, watch: FlightWatch) -> None:
        """The flight's progress, if it is time for it."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + PROGRESS_PERIOD_S[self._terminal]
            self.say(watch.progress(), last=False)

    def say(self, line: str, last: bool = True) -> None:
        """A line now; the last one stays."""
        form = ("\r\x1b[K{}" + ("\n" if last else "")) if self._terminal else "{}\n"
        sys.stderr.write(form.format(line))
        sys.stderr.flush()


def _spin(node: RecorderNode, progress: _Progress, interrupts: Interrupts) -> None:
    """Record until the flight is over, or is given up."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while node.watch.end is None:
        executor.spin_once(timeout_sec=SPIN_S)
        progress.show(node.watch)
        overdue = node.limits.overdue(time.monotonic(), node.watch.took_off)
        if interrupts.count or overdue:
            node.watch.stop(overdue or "interrupted")
    end = time.monotonic() + LINGER_S
    while (left := end - time.monotonic()) > 0.0:
        executor.spin_once(timeout_sec=left)


def _run(node: RecorderNode, interrupts: Interrupts) -> int:
    progress = _Progress()
    try:
        _spin(node, progress, interrupts)
    except BaseException:
        node.folder.discard()
        raise
    if not node.watch.took_off:
        node.folder.discard()
        progress.say(f"no flight: {node.watch.cause}")
        return 1
    verdict = node.folder.keep(node.watch, node.caption)
    progress.say(f"{node.watch.progress()}  {node.watch.fault or 'success'}  {node.folder.path}")
    return 0 if verdict.success else 1


def main() -> None:
    """Entry point of the node."""
    run_node(RecorderNode, _run)
