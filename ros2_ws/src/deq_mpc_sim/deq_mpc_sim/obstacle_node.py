"""ROS node of the virtual obstacles: publishes a scene's spheres, start and goal, moves the spheres, counts collisions.

Nothing moves before the controller's flight state is FLY: then the scene's clock starts, so that the flight meets the
scene that a campaign would, however long the take-off took.
"""

from __future__ import annotations

import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from deq_mpc_controller import ros_messages
from deq_mpc_controller.flight import Mode
from deq_mpc_controller.ros_messages import GREY, LATCHED, LATEST, RED, RELIABLE, STATES
from deq_mpc_controller.ros_node import Interrupts, declare_parameters, low_latency_executor, run_node, spin_until
from deq_mpc_sim.node_parameters import OBSTACLE_NODE
from deq_mpc_sim.obstacles import clearance
from deq_mpc_sim.referee import Rules
from deq_mpc_sim.scenes import Scene, advance_adversarial, make_scene, positions

Array = NDArray[np.float64]

MOVING_PERIOD, STATIC_PERIOD = 0.02, 1.0
"""Between two messages [s]: 50 Hz for moving obstacles, whose receivers move them on in between."""
MARKERS_PERIOD = 0.1
_INTERRUPT_PERIOD = 0.1  # s: an interrupt is noticed within


class ObstacleNode(Node):
    """Publishes the scene; ``tick`` moves it on."""

    def __init__(self) -> None:
        super().__init__("obstacle_node")
        value = declare_parameters(self, OBSTACLE_NODE)
        self.scene: Scene = make_scene(
            *(value[key] for key in ("scene", "obstacles", "radius", "seed", "index", "speed"))
        )
        self.period = STATIC_PERIOD if self.scene.motion == "static" else MOVING_PERIOD
        self._frame, robot = value["world_frame"], value["robot"]
        self._obstacles = _at_rest(self.scene.obstacles)
        self._flying_since: float | None = None
        self._moved = 0.0
        self._landing = False
        self._vehicle: tuple[Array, Array] | None = None
        self._hit = np.zeros(len(self._obstacles), dtype=bool)
        self.collisions = 0
        self._inside = False
        self._markers_due = 0.0
        self._warm_up()
        self._clouds = self.create_publisher(PointCloud2, "/obstacles", LATCHED)
        self._goals = self.create_publisher(PoseStamped, f"/{robot}/goal", LATCHED)
        self._starts = self.create_publisher(PoseStamped, f"/{robot}/start", LATCHED)
        self._markers = self.create_publisher(MarkerArray, "/markers", LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        self.create_subscription(String, f"/{robot}/flight_state", self._on_state, STATES)
        self.create_subscription(Odometry, f"/{robot}/truth", self._on_truth, LATEST)
        now = self._now()
        self._goals.publish(ros_messages.pose_message(now, self._frame, self.scene.goal))
        self._starts.publish(ros_messages.pose_message(now, self._frame, self.scene.start))
        start, goal = (" ".join(f"{value:.2f}" for value in place) for place in (self.scene.start, self.scene.goal))
        self.get_logger().info(f"the scene's start is at x y z = {start} m, its goal at {goal} m")

    def _warm_up(self) -> None:
        """Read the machine code from the disk, half a second, now rather than when the flight to the goal begins."""
        advance_adversarial(self.scene, self._obstacles, np.zeros(3), np.zeros(3), MOVING_PERIOD)
        positions(self.scene, MOVING_PERIOD)

    def tick(self) -> None:
        """Move the obstacles to the present and publish them."""
        now = self._now()
        self._move(now)
        self._clouds.publish(ros_messages.cloud_message(now, self._frame, self._obstacles))
        if now >= self._markers_due:
            self._markers_due = now + MARKERS_PERIOD
            self._publish_markers(now)

    def _now(self) -> float:
        return float(self.get_clock().now().nanoseconds * 1e-9)

    def _move(self, now: float) -> None:
        if self._flying_since is None:
            return
        t = now - self._flying_since
        if self.scene.motion != "adversarial":
            self._obstacles = positions(self.scene, t)
        elif self._vehicle is not None and t > self._moved:
            self._obstacles = advance_adversarial(self.scene, self._obstacles, *self._vehicle, t - self._moved)
        self._moved = t

    def _on_state(self, message: String) -> None:
        if message.data == Mode.FLY.value and self._flying_since is None:
            self._flying_since = self._now()
        self._landing = self._flying_since is not None and message.data != Mode.FLY.value

    def _on_truth(self, message: Odometry) -> None:
        """Where the vehicle is; entering a sphere while it flies to the goal is a collision."""
        pos = ros_messages.vector(message.pose.pose.position)
        self._vehicle = pos, ros_messages.vector(message.twist.twist.linear)
        if self._flying_since is None or self._landing:
            return
        self._move(self._now())
        was_inside, self._inside = self._inside, clearance(pos, self._obstacles) < 0.0
        if self._inside and not was_inside:
            self.collisions += 1
            self._hit |= np.linalg.norm(self._obstacles[:, :3] - pos, axis=1) < self._obstacles[:, 3]
            self.get_logger().warning(f"collision {self.collisions} at {np.round(pos, 2).tolist()}")

    def _publish_markers(self, now: float) -> None:
        colours = [RED if hit else GREY for hit in self._hit]
        array = ros_messages.sphere_markers(now, self._frame, self._obstacles, colours)
        array.markers.append(ros_messages.goal_marker(now, self._frame, self.scene.goal, Rules().goal_radius))
        self._markers.publish(array)
        text = f"{self.collisions} collisions" if self.collisions else "no collision"
        values: dict[str, object] = {"collisions": self.collisions}
        level = 2 if self.collisions else 0
        self._diagnostics.publish(ros_messages.diagnostics_message(now, "obstacles", level, text, values))


def _at_rest(obstacles: Array) -> Array:
    """The same obstacles, not moving."""
    resting = obstacles.copy()
    resting[:, 4:7] = 0.0
    return resting


def _run(node: ObstacleNode, interrupts: Interrupts) -> int:
    executor = low_latency_executor()
    executor.add_node(node)
    due = time.monotonic()
    while not interrupts.count:
        spin_until(executor, min(due, time.monotonic() + _INTERRUPT_PERIOD))
        if time.monotonic() >= due:
            node.tick()
            due = max(due + node.period, time.monotonic())
    return 0


def main() -> None:
    """Entry point of the node."""
    run_node(ObstacleNode, _run)
