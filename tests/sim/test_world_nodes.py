"""The world's nodes: addresses, exposure times, outages, and a scene that waits for the flight to begin."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import rclpy
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from deq_mpc_controller.ros_messages import LATCHED, LATEST, STATES, truth_message
from deq_mpc_core.errors import UserError
from deq_mpc_core.obstacle_cloud import unpack_obstacles
from deq_mpc_core.policy.interface import Command
from deq_mpc_sim.obstacle_node import ObstacleNode
from deq_mpc_sim.scenes import make_scene
from deq_mpc_sim.vehicle import Vehicle
from deq_mpc_sim.world_node import Outage, WorldNode, parse_uri, rewind

LEVEL = np.array([0.0, 0.0, 0.0, 1.0])


@pytest.mark.parametrize("uri", ["radio://0/80/2M", "udp://localhost", "udp://:1", "udp://a:b", "127.0.0.1:1", ""])
def test_addresses_that_are_none(uri: str) -> None:
    with pytest.raises(UserError, match="write it as udp://"):
        parse_uri(uri)


def test_an_address() -> None:
    assert parse_uri("udp://127.0.0.1:19850") == ("127.0.0.1", 19850)


def test_a_frame_shows_the_vehicle_at_its_exposure() -> None:
    vehicle = Vehicle()
    vehicle.reset(np.array([0.0, 0.0, 1.0]))
    vehicle.hover()
    vehicle.step(0.2, Command(0.3, 0.4, 1.0, 0.35))
    before = vehicle.truth
    vehicle.step(0.005, Command(0.3, 0.4, 1.0, 0.35))
    after = vehicle.truth
    pos, quat = rewind(after, before.t)
    np.testing.assert_allclose(pos, before.pos, atol=1e-4)
    np.testing.assert_allclose(quat, before.quat, atol=1e-4)
    assert np.abs(after.quat - before.quat).max() > 1e-3


def test_an_outage_hides_its_frames_alone() -> None:
    outage = Outage(after=1.0, duration=0.5)
    assert not outage.hides(1e9)
    outage.begin(10.0)
    outage.begin(20.0)
    assert [outage.hides(t) for t in (10.9, 11.0, 11.4, 11.5)] == [False, True, True, False]


class Listener(Node):
    """Hears the obstacles and plays the controller and the world."""

    def __init__(self) -> None:
        super().__init__("listener")
        self.obstacles = np.zeros((0, 7))
        self.create_subscription(PointCloud2, "/obstacles", self._hear, LATCHED)
        self.state = self.create_publisher(String, "/cf/flight_state", STATES)
        self.truth = self.create_publisher(Odometry, "/cf/truth", LATEST)

    def _hear(self, message: PointCloud2) -> None:
        self.obstacles = unpack_obstacles(message)


@pytest.fixture
def pair() -> Iterator[tuple[ObstacleNode, Listener]]:
    rclpy.init(args=["--ros-args", "-p", "obstacles:=moving", "-p", "seed:=4"])
    obstacle_node, listener = ObstacleNode(), Listener()
    yield obstacle_node, listener
    obstacle_node.destroy_node()
    listener.destroy_node()
    rclpy.shutdown()


def spin(pair: tuple[ObstacleNode, Listener], until: Callable[[], bool]) -> None:
    end = time.monotonic() + 20.0
    while not until():
        assert time.monotonic() < end
        pair[0].tick()
        for node in pair:
            rclpy.spin_once(node, timeout_sec=0.01)


def test_obstacles_wait_for_the_flight_then_move_and_collide(pair: tuple[ObstacleNode, Listener]) -> None:
    obstacle_node, listener = pair
    scene = make_scene("clutter", "moving", 0.15, 4, 0)
    spin(pair, lambda: len(listener.obstacles) == 40)
    np.testing.assert_allclose(listener.obstacles[:, :4], scene.obstacles[:, :4], rtol=1e-6)
    np.testing.assert_array_equal(listener.obstacles[:, 4:], 0.0)

    listener.state.publish(String(data="FLY"))
    spin(pair, lambda: bool(np.abs(listener.obstacles[:, :3] - scene.obstacles[:, :3]).max() > 0.05))
    np.testing.assert_allclose(np.linalg.norm(listener.obstacles[:, 4:], axis=1).max(), scene.speed, rtol=0.1)
    assert obstacle_node.collisions == 0

    def meet_a_sphere() -> bool:
        pos, rest = listener.obstacles[0, :3], np.zeros(3)
        listener.truth.publish(truth_message(0.0, "world", "cf", pos, LEVEL, rest, rest))
        return obstacle_node.collisions == 1

    spin(pair, meet_a_sphere)


def test_a_smaller_battery_empties_sooner() -> None:
    """On the ground the vehicle draws 0.1 A: 1 A s lose 0.075 V a second, the real battery 0.08 mV."""
    rclpy.init(args=["--ros-args", "-p", "uri:=udp://127.0.0.1:0", "-p", "battery:=1.0"])
    node = WorldNode()
    full = node.server.truth().voltage
    with node.server as server:
        while (truth := server.truth()).t < 0.5:
            time.sleep(0.02)
    node.destroy_node()
    rclpy.shutdown()
    assert full - truth.voltage == pytest.approx(0.075 * truth.t, rel=0.05)


def test_a_port_in_use_is_one_line_and_status_2() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        command = [sys.executable, "-c", "from deq_mpc_sim.world_node import main; main()"]
        command += ["--ros-args", "-p", f"uri:=udp://127.0.0.1:{port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    message = f"error: UDP port {port} is in use; stop what uses it or choose another port"
    assert done.stderr.strip().splitlines()[-1] == message
