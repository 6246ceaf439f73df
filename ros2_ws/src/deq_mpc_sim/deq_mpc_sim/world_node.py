"""ROS node of the simulated world: a Crazyflie behind a UDP port, and the motion capture that sees it.

The controller knows neither: it connects to the port with cflib and hears the poses. The vehicle stands on the ground
under the scene's start when the node begins, or in the middle of the arena if there is no virtual scene.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.node import Node
from std_msgs.msg import String

from deq_mpc_controller import ros_messages
from deq_mpc_controller.conversions import load_thrust_map
from deq_mpc_controller.crazyflies_yaml import simulated_vehicle
from deq_mpc_controller.flight import Mode
from deq_mpc_controller.ros_messages import LATEST, STATES
from deq_mpc_controller.ros_node import Interrupts, declare_parameters, low_latency_executor, run_node, spin_until
from deq_mpc_core.errors import UserError
from deq_mpc_core.rotations import rotate
from deq_mpc_sim.faults import read_faults
from deq_mpc_sim.faulty_crazyflie import FaultyCrazyflie
from deq_mpc_sim.gusts import GustForce
from deq_mpc_sim.mocap import Mocap, MocapPose
from deq_mpc_sim.node_parameters import WORLD_NODE
from deq_mpc_sim.parameters import HEADING, draw_vehicle, platform_parameters, world_config
from deq_mpc_sim.scenes import make_scene
from deq_mpc_sim.udp_server import UdpServer
from deq_mpc_sim.vehicle import Truth, Vehicle
from deq_mpc_sim.virtual_crazyflie import VirtualCrazyflie

Array = NDArray[np.float64]

_STREAM = 0x0F17  # keeps these random numbers apart from the scene's
_CLOCK_WINDOW = 50
"""Readings of both clocks that are remembered: a late one among them does no harm, and a pause is forgotten."""


class WorldNode(Node):
    """Owns the virtual Crazyflie; ``tick`` exposes and delivers what is due."""

    def __init__(self) -> None:
        super().__init__("world_node")
        value = declare_parameters(self, WORLD_NODE)
        keys = ("scene", "obstacles", "radius", "seed", "index", "speed")
        scene = make_scene(*(value[key] for key in keys))
        vehicle_rng, mocap_rng, gust_rng = (
            np.random.default_rng(s) for s in np.random.SeedSequence([value["seed"], value["index"], _STREAM]).spawn(3)
        )
        platform, firmware = simulated_vehicle(value)
        nominal = platform_parameters(platform, firmware, value["mass"])
        parameters = draw_vehicle(vehicle_rng, nominal=nominal) if value["disturb"] else nominal
        vehicle = Vehicle(parameters._replace(capacity=value["battery"]))
        x, y = scene.start[:2] if value["virtual_scene"] else (0.0, 0.0)
        vehicle.reset(np.array([x, y, 0.0]), float(vehicle_rng.uniform(-HEADING, HEADING)))
        gusts = GustForce(world_config().disturbances, gust_rng) if value["disturb"] else None
        host, port = parse_uri(value["uri"])
        auto_arm = bool(load_thrust_map(platform, firmware).arms_itself)
        crazyflie = VirtualCrazyflie(vehicle, auto_arm, force=gusts, toc=value["toc"])
        faults = read_faults(value["faults"])
        self.server = UdpServer(FaultyCrazyflie(crazyflie, faults, value["seed"]) if faults else crazyflie, port, host)
        self.period = 1.0 / value["mocap_rate"]
        self._offset = value["delay"] % self.period
        noise = ("position_noise", "rotation_noise", "delay", "dropout_rate", "dropout_max")
        changes = {"rate": value["mocap_rate"], **{key: value[key] for key in noise}}
        self._mocap = Mocap(world_config().mocap.model_copy(update=changes), mocap_rng)
        self._outage = Outage(value["outage_after"], value["outage_duration"])
        self._frame, self._robot = value["world_frame"], value["robot"]
        self._epochs: deque[float] = deque(maxlen=_CLOCK_WINDOW)
        self._poses = self.create_publisher(PoseStamped, f"/{self._robot}/pose", LATEST)
        self._truths = self.create_publisher(Odometry, f"/{self._robot}/truth", LATEST)
        self.create_subscription(String, f"/{self._robot}/flight_state", self._on_state, STATES)

    def next_due(self, t: float) -> float:
        """The next exposure or delivery after simulation time ``t`` [s]."""
        begin = math.floor(t / self.period + 1e-6) * self.period
        instants = (begin + self._offset, begin + self.period, begin + self.period + self._offset)
        return min(instant for instant in instants if instant > t + 1e-6)

    def tick(self, t: float) -> None:
        """Expose or deliver at simulation time ``t``, which has just passed."""
        truth = self.server.truth()
        self._follow_clock(truth.t)
        pos, quat = rewind(truth, t)
        for pose in self._mocap.step(t, pos, quat):
            self._publish(pose)
        if abs(t / self.period - round(t / self.period)) < 1e-6:
            self._publish_truth(truth)

    def _wall_time(self, t: float) -> float:
        """Wall time [s] of simulation time ``t``."""
        return min(self._epochs) + t

    def _follow_clock(self, t: float) -> None:
        """Keep the wall time of simulation time 0: the smallest recent difference, as the simulation is never ahead."""
        self._epochs.append(time.time() - t)

    def _on_state(self, message: String) -> None:
        if message.data == Mode.FLY.value:
            self._outage.begin(self.server.truth().t)

    def _publish(self, pose: MocapPose) -> None:
        if not self._outage.hides(pose.stamp):
            self._poses.publish(
                ros_messages.pose_message(self._wall_time(pose.stamp), self._frame, pose.pos, pose.quat)
            )

    def _publish_truth(self, truth: Truth) -> None:
        ang_vel = rotate(truth.quat, truth.ang_vel)
        message = ros_messages.truth_message(
            self._wall_time(truth.t), self._frame, self._robot, truth.pos, truth.quat, truth.vel, ang_vel
        )
        self._truths.publish(message)


class Outage:
    """A planned outage of the motion capture, ``after`` seconds into the flight, ``duration`` long."""

    def __init__(self, after: float, duration: float) -> None:
        self._after, self._duration = after, duration
        self._from = math.inf

    def begin(self, t: float) -> None:
        """The flight begins at ``t``."""
        self._from = min(self._from, t + self._after)

    def hides(self, t: float) -> bool:
        """Whether a frame exposed at ``t`` is lost."""
        return self._from <= t < self._from + self._duration


def parse_uri(uri: str) -> tuple[str, int]:
    """Host and port of ``udp://host:port``.

    Raises:
        UserError: for any other form.
    """
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None or not uri.startswith("udp://"):
        raise UserError(f"{uri!r} is no address for a simulated Crazyflie; write it as udp://127.0.0.1:19850")
    return host, port


def rewind(truth: Truth, t: float) -> tuple[Array, Array]:
    """Pose at ``t``, shortly before ``truth``."""
    back = truth.t - t
    half = -0.5 * back * rotate(truth.quat, truth.ang_vel)
    u, w = truth.quat[:3], truth.quat[3]
    quat = truth.quat + np.array([*(w * half + np.cross(half, u)), -half @ u])  # (half, 1) truth.quat
    return truth.pos - back * truth.vel, quat / np.linalg.norm(quat)


def _run(node: WorldNode, interrupts: Interrupts) -> int:
    executor = low_latency_executor()
    executor.add_node(node)
    with node.server as server:
        t = server.truth().t
        while not interrupts.count:
            spin_until(executor, time.monotonic() + t - server.truth().t)
            if server.truth().t >= t:
                node.tick(t)
                t = node.next_due(max(t, server.truth().t - node.period))
    return 0


def main(make: Callable[[], WorldNode] = WorldNode) -> None:
    """Entry point of the node."""
    run_node(make, _run)
