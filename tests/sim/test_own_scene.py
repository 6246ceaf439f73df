"""The example of a scene of one's own is heard by whoever comes after it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import PointCloud2

from deq_mpc_controller.ros_messages import LATCHED, vector
from deq_mpc_core.obstacle_cloud import unpack_obstacles

SCRIPT = Path(__file__).parents[2] / "scripts/own_scene.py"


def test_the_example_publishes_spheres_and_a_goal() -> None:
    heard: dict[str, object] = {}
    rclpy.init()
    node = rclpy.create_node("listener")
    script = subprocess.Popen([sys.executable, SCRIPT])
    try:
        node.create_subscription(PointCloud2, "/obstacles", lambda m: heard.update(obstacles=m), LATCHED)
        node.create_subscription(PoseStamped, "/cf/goal", lambda m: heard.update(goal=m), LATCHED)
        while len(heard) < 2:
            assert script.poll() is None
            rclpy.spin_once(node, timeout_sec=0.1)
        script.send_signal(signal.SIGINT)
        assert script.wait() == 0
    finally:
        script.kill()
        node.destroy_node()
        rclpy.shutdown()
    obstacles, goal = unpack_obstacles(heard["obstacles"]), vector(heard["goal"].pose.position)
    assert heard["obstacles"].header.frame_id == heard["goal"].header.frame_id == "world"
    distance = np.linalg.norm(obstacles[:, :3] - goal, axis=1) - obstacles[:, 3]
    assert obstacles.shape == (3, 7)
    assert (distance > 0.15).all()
