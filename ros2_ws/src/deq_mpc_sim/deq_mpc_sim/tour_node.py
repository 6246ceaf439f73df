"""ROS node that keeps a vehicle in the air: arms, takes off, flies a tour between start and goal, lands, sums up.

It plays the human of a flight by hand: services for arming, take-off and landing, a new goal whenever one is reached.
Start and goal are those of the obstacle node. Exit status: 0 for a tour that landed when its time was up, else 1.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from deq_mpc_controller import ros_messages
from deq_mpc_controller.flight import FINAL, IN_FLIGHT, Mode
from deq_mpc_controller.ros_messages import LATCHED, LATEST, RELIABLE, STATES
from deq_mpc_controller.ros_node import Interrupts, declare_parameters, low_latency_executor, run_node, spin_until
from deq_mpc_core.errors import UserError
from deq_mpc_core.obstacle_cloud import unpack_obstacles
from deq_mpc_sim.diagnostics import number, policy_times
from deq_mpc_sim.node_parameters import TOUR_NODE
from deq_mpc_sim.tour import MINUTE, WARM_UP, MemoryTrack, Tour, TourSummary

Array = NDArray[np.float64]

PERIOD = 0.05  # s: between two looks at what to do next
ASK_PERIOD = 1.0  # s: a service that refused is asked again
LINGER = 0.5  # s: the last diagnostics of a flight have this time to come in


class TourNode(Node):
    """Sees what the nodes publish; ``act`` asks the controller for what comes next."""

    def __init__(self) -> None:
        super().__init__("tour_node")
        value = declare_parameters(self, TOUR_NODE)
        self.start_timeout: float = value["start_timeout"]
        self.out = Path(value["out"])
        self._minutes: float = value["minutes"]
        self._frame, self._robot = value["world_frame"], value["robot"]
        self.mode: Mode | None = None
        self.tour: Tour | None = None
        self._start: Array | None = None
        self._goal: Array | None = None
        self._obstacles = 0.0, np.zeros((0, 7))
        self._flying_since = self._flown_until = 0.0
        self._memory = MemoryTrack()
        self._values: dict[str, str] = {}
        self._asked = -math.inf
        self._connect(value["robot"])

    def _connect(self, robot: str) -> None:
        self.create_subscription(Odometry, f"/{robot}/truth", self._on_truth, LATEST)
        self.create_subscription(PointCloud2, "/obstacles", self._on_obstacles, LATCHED)
        self.create_subscription(PoseStamped, f"/{robot}/start", self._on_start, LATCHED)
        self.create_subscription(PoseStamped, f"/{robot}/goal", self._on_goal, LATCHED)
        self.create_subscription(String, f"/{robot}/flight_state", self._on_state, STATES)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)
        self._goals = self.create_publisher(PoseStamped, f"/{robot}/goal", LATCHED)
        self._arm: Any = self.create_client(SetBool, f"/{robot}/arm")
        self._takeoff: Any = self.create_client(Trigger, f"/{robot}/takeoff")
        self._land: Any = self.create_client(Trigger, f"/{robot}/land")

    @property
    def over(self) -> bool:
        """Whether the flight is."""
        return self.mode in FINAL or (self.tour is not None and self.mode not in IN_FLIGHT)

    def act(self, interrupted: bool) -> None:
        """Ask for the next thing, or send the vehicle to the next goal."""
        if self.over:
            return
        if self.mode is Mode.READY and self._start is not None and self._goal is not None:
            self._ask(self._arm, SetBool.Request(data=True))
        elif self.mode is Mode.ARMED:
            self._ask(self._takeoff, Trigger.Request())
        elif self.mode is Mode.FLY and self.tour is not None and (self.tour.over or interrupted):
            self._ask(self._land, Trigger.Request())

    def summary(self) -> TourSummary:
        """The flight so far."""
        tour, values = self.tour, self._values
        clearance = math.inf if tour is None else tour.min_clearance
        return TourSummary(
            fault=self._fault(),
            minutes=round((self._flown_until - self._flying_since) / MINUTE, 3),
            control_steps=int(values.get("control_steps", 0)),
            deadline_misses=int(values.get("deadline_misses", 0)),
            scheduler_stalls=int(values.get("scheduler_stalls", 0)),
            policy_ms=policy_times(values),
            goals_reached=0 if tour is None else tour.reached,
            goals_missed=0 if tour is None else tour.missed,
            collisions=0 if tour is None else tour.collisions,
            min_clearance_m=round(clearance, 4) if math.isfinite(clearance) else None,
            memory_mb=tuple(mb for _, mb in self._memory.samples),
            memory_mb_per_min=self._memory.slope(),
        )

    def _fault(self) -> str | None:
        """Why the tour is not complete; None if it is."""
        if self.tour is None:
            return f"no flight: {self._values.get('failure') or 'the controller never flew'}"
        if self.mode in FINAL or not self.tour.over:
            return self._values.get("failure") or "ended before its time"
        return None

    def _ask(self, client: Any, request: Any) -> None:
        """Call a service that is there, not too often; what it did shows in the flight state."""
        now = time.monotonic()
        if now - self._asked > ASK_PERIOD and client.service_is_ready():
            self._asked = now
            client.call_async(request)

    def _on_state(self, message: String) -> None:
        self.mode = Mode(message.data)
        self._asked = -math.inf
        if self.mode is Mode.FLY and self.tour is None and self._start is not None and self._goal is not None:
            self.tour = Tour((self._goal, self._start), self._minutes)
            self.tour.see_obstacles(*self._obstacles)

    def _on_start(self, message: PoseStamped) -> None:
        self._start = ros_messages.vector(message.pose.position)

    def _on_goal(self, message: PoseStamped) -> None:
        if self.tour is None:
            self._goal = ros_messages.vector(message.pose.position)

    def _on_obstacles(self, message: PointCloud2) -> None:
        self._obstacles = ros_messages.seconds(message.header.stamp), unpack_obstacles(message)
        if self.tour is not None:
            self.tour.see_obstacles(*self._obstacles)

    def _on_truth(self, message: Odometry) -> None:
        if self.tour is None or self.mode is not Mode.FLY:
            return
        t = ros_messages.seconds(message.header.stamp)
        self._flying_since = self._flying_since or t
        self._flown_until = t
        before = self.tour.goal
        vel = ros_messages.vector(message.twist.twist.linear)
        self.tour.see_vehicle(t, ros_messages.vector(message.pose.pose.position), vel)
        if self.tour.goal is not before:
            self._goals.publish(ros_messages.pose_message(t, self._frame, self.tour.goal))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {entry.key: entry.value for entry in status.values}
            if "control_steps" in values:
                self._values = values
                self._note_memory(ros_messages.seconds(message.header.stamp), number(values, "memory_mb"))

    def _note_memory(self, t: float, mb: float | None) -> None:
        if mb is not None and self.mode is Mode.FLY and self._flying_since and t - self._flying_since >= WARM_UP:
            self._memory.add(t, mb)


def _run(node: TourNode, interrupts: Interrupts) -> int:
    executor = low_latency_executor()
    executor.add_node(node)
    began = time.monotonic()
    while not node.over:
        spin_until(executor, time.monotonic() + PERIOD)
        node.act(interrupts.count > 0)
        if node.tour is None and (interrupts.count or time.monotonic() - began > node.start_timeout):
            break
    spin_until(executor, time.monotonic() + LINGER)
    summary = node.summary()
    try:
        node.out.write_text(summary.to_json() + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{node.out}: cannot be written ({error.strerror}); choose another file for out") from error
    return int(summary.fault is not None)


def main() -> None:
    """Entry point of the node."""
    run_node(TourNode, _run)
