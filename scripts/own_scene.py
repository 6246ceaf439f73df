"""An example of a scene of one's own: publishes spheres and a goal until interrupted. Copy it and change the numbers.

.venv/bin/deq-mpc launch fly virtual_scene:=false
.venv/bin/python scripts/own_scene.py

The flight begins above the vehicle, which in simulation stands in the middle of the arena.
"""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np

from deq_mpc_controller.ros_launch import use_workspace

SPHERES = np.array(
    [  # x, y, z [m], radius [m], velocity [m/s]; controllers move them on at it between two messages
        [0.7, 0.1, 1.0, 0.25, 0.0, 0.0, 0.0],
        [0.9, -0.5, 1.2, 0.20, 0.0, 0.0, 0.0],
        [1.1, 0.5, 0.8, 0.20, 0.0, 0.0, 0.0],
    ]
)
GOAL = np.array([1.6, 0.0, 1.0])
FRAME, ROBOT = "world", "cf"


def main() -> None:
    """Publish the scene once; whoever comes later still gets it."""
    use_workspace()

    import rclpy
    from geometry_msgs.msg import PoseStamped
    from sensor_msgs.msg import PointCloud2

    from deq_mpc_controller.ros_messages import LATCHED, cloud_message, pose_message

    rclpy.init()
    node = rclpy.create_node("own_scene")
    obstacles = node.create_publisher(PointCloud2, "/obstacles", LATCHED)
    goal = node.create_publisher(PoseStamped, f"/{ROBOT}/goal", LATCHED)
    with suppress(KeyboardInterrupt):
        obstacles.publish(cloud_message(time.time(), FRAME, SPHERES))
        goal.publish(pose_message(time.time(), FRAME, GOAL))
        rclpy.spin(node)


if __name__ == "__main__":
    main()
