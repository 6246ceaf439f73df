"""ROS node of the flight side: poses, goal and obstacles in, setpoints to the Crazyflie, plan and diagnostics out.

Thin: what to do is decided in ``pilot.py``; this node moves messages and keeps time.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from rclpy.node import Node
from sensor_msgs.msg import JointState, PointCloud2
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from deq_mpc_controller import flight, ros_messages, ros_mocap, ros_services, safety
from deq_mpc_controller.conversions import ThrustMap, load_thrust_map
from deq_mpc_controller.crazyflies_yaml import choose_vehicle
from deq_mpc_controller.estimate import Gate
from deq_mpc_controller.flight import Mode, Request, Source
from deq_mpc_controller.flight_clock import FlightClock
from deq_mpc_controller.flight_statistics import FlightStatistics
from deq_mpc_controller.link import CrazyflieLink
from deq_mpc_controller.manoeuvres import Manoeuvre
from deq_mpc_controller.node_parameters import CONTROLLER_NODE, CRAZYSWARM2, check_backend
from deq_mpc_controller.pilot import Pilot, Step
from deq_mpc_controller.process import ThreadClock, resident_memory
from deq_mpc_controller.ros_crazyswarm2 import Crazyswarm2Link
from deq_mpc_controller.ros_emergency import EmergencyServices
from deq_mpc_controller.ros_messages import LATCHED, LATEST, RELIABLE, STATES
from deq_mpc_controller.ros_node import Interrupts, declare_parameters, low_latency_executor, run_node, spin_until
from deq_mpc_controller.ros_services import Order
from deq_mpc_controller.safety import Action
from deq_mpc_controller.settings import controller_config
from deq_mpc_controller.steady_link import SteadyLink
from deq_mpc_controller.surroundings import Surroundings
from deq_mpc_controller.vehicle_io import OFF, LinkConfig, Setpoint, SetpointKind
from deq_mpc_core.errors import UserError
from deq_mpc_core.obstacle_cloud import unpack_obstacles
from deq_mpc_core.policy import Policy, load_policy

PLAN_EVERY, MARKERS_EVERY, DIAGNOSTICS_EVERY = 5, 10, 20
"""Control steps between two messages: 20, 10 and 5 Hz at 100 Hz."""
_WARN_PERIOD = 2.0  # s: between two lines of the log about the same thing
_LEVELS = {Action.NONE: 0, Action.WARN: 1, Action.LAND: 2, Action.DESCEND: 2, Action.STOP: 2}


class ControllerNode(Node):
    """Loads the policy, connects, then does one control step whenever ``control_step`` is called."""

    def __init__(self) -> None:
        super().__init__("controller_node")
        value = declare_parameters(self, CONTROLLER_NODE)
        self.period = 1.0 / value["rate"]
        check_backend(value)
        self._beside_crazyswarm2 = value["backend"] == CRAZYSWARM2
        self._robot, self._frame, self._auto = value["robot"], value["world_frame"], value["auto"]
        self._policy: Policy = load_policy(value["policy"])
        vehicle = choose_vehicle(value)
        for key, reason in vehicle.ignored.items():
            self.get_logger().info(f"{value['crazyflies_yaml_file']}: {key} is ignored: {reason}")
        thrust_map = load_thrust_map(vehicle.platform, vehicle.firmware, value["mass"])
        self.link = self._make_link(value, vehicle.uri, thrust_map)
        place = None if vehicle.initial_position is None else np.array(vehicle.initial_position)
        hover_policy = load_policy("straight-line")
        self._pilot = Pilot(self._policy, hover_policy, controller_config(), thrust_map, self._auto, place=place)
        self._pilot.warm_up()
        self._statistics = FlightStatistics(self.period)
        self._thread_clock = ThreadClock()
        self._flight_clock = FlightClock(lambda: float(self.get_clock().now().nanoseconds * 1e-9))
        self._world = Surroundings(obstacles_known=False)
        self._requests: set[Request] = set()
        self._emergency = threading.Event()
        self._manoeuvre = Manoeuvre()
        self._step: Step | None = None
        self._overruled = 0
        self._mode: Mode | None = None
        self.interrupted = False
        """Whether a signal orders the landing."""
        self._count = 0
        self._subscribe()
        self._advertise()
        self._emergency_services = EmergencyServices(self, self._robot, self.take_order, self._service_namespace)

    def _make_link(self, value: dict[str, Any], uri: str, thrust_map: ThrustMap) -> SteadyLink:
        config = controller_config().link.model_copy(update={"connect_time": value["connect_time"]})
        if self._beside_crazyswarm2:
            return Crazyswarm2Link(self, self._robot, value["crazyswarm2_server"], thrust_map, config)
        return self._make_cflib_link(uri, thrust_map, config)

    def _make_cflib_link(self, uri: str, thrust_map: ThrustMap, config: LinkConfig) -> CrazyflieLink:
        """For subclasses that observe what it sends."""
        return CrazyflieLink(uri, thrust_map, config)

    @property
    def mode(self) -> Mode:
        """The flight state's."""
        return self._pilot.state.mode

    @property
    def _service_namespace(self) -> str:
        return ros_services.OWN_NAMESPACE if self._beside_crazyswarm2 else ""

    def destroy_node(self) -> None:
        """Leave the ROS graph."""
        self._emergency_services.close()
        super().destroy_node()

    @property
    def flies(self) -> bool:
        """Whether the vehicle is in the air, as far as it can be told; not once its motors have been stopped."""
        stopped = self._emergency.is_set() or self.link.status().stopped
        return self.mode in flight.IN_FLIGHT and not stopped

    def request(self, request: Request) -> None:
        """Hand a request to the next control step."""
        self._requests.add(request)

    def control_step(self) -> None:
        """Read, decide, send; then publish.

        One that raises sends nothing. If the next ones raise, too, the link levels the vehicle out, lets it sink, and
        stops its motors, which ends the flight. Publishing that fails ends nothing.
        """
        began = self._thread_clock.now()
        try:
            step = self._decide()
        except Exception as error:  # noqa: BLE001 - of whatever bug, the link has to go on sending
            text = f"a control step failed ({type(error).__name__}: {error})"
            self.get_logger().error(text, throttle_duration_sec=_WARN_PERIOD)
            return
        self.link.send(step.setpoint)
        self._step = step
        if step.policy_error:
            self.get_logger().error(f"the policy raised {step.policy_error}", throttle_duration_sec=_WARN_PERIOD)
        self._requests.clear()
        self._manoeuvre = Manoeuvre()
        self._overruled += step.filtered is not None and step.filtered.intervened
        policy_seconds = step.policy_seconds if step.source is Source.POLICY else None
        in_flight = step.state.mode in flight.IN_FLIGHT
        self._statistics.add_step(began, self._thread_clock.now(), in_flight, policy_seconds)
        try:
            self._publish(step)
        except Exception as error:  # noqa: BLE001 - nothing that is published is worth a vehicle
            text = f"publishing failed ({type(error).__name__}: {error})"
            self.get_logger().error(text, throttle_duration_sec=_WARN_PERIOD)
        self._count += 1

    def _decide(self) -> Step:
        return self._pilot.step(
            self._flight_clock.now(),
            self._world,
            self.link.status(),
            frozenset(self._requests | ({Request.EMERGENCY} if self._emergency.is_set() else set())),
            self._statistics.late,
            self._manoeuvre,
        )

    def _subscribe(self) -> None:
        robot = self._robot
        ros_mocap.subscribe(self, robot, self._on_pose, own_topic=not self._beside_crazyswarm2)
        self.create_subscription(PoseStamped, f"/{robot}/goal", self._on_goal, LATCHED)
        self.create_subscription(PoseStamped, f"/{robot}/start", self._on_start, LATCHED)
        self.create_subscription(PointCloud2, "/obstacles", self._on_obstacles, LATCHED)
        ros_services.offer(self, ros_services.step_types(), robot, self.take_order, self._service_namespace)

    def _advertise(self) -> None:
        robot = self._robot
        self._setpoints = self.create_publisher(JointState, f"/{robot}/setpoint", RELIABLE)
        self._odometry = self.create_publisher(Odometry, f"/{robot}/odom", LATEST)
        self._plans = self.create_publisher(Path, f"/{robot}/plan", RELIABLE)
        self._markers = self.create_publisher(MarkerArray, "/markers", LATCHED)
        self._states = self.create_publisher(String, f"/{robot}/flight_state", STATES)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)

    def _on_pose(self, message: PoseStamped) -> None:
        if not self._is_in_world_frame(message):
            return
        stamp, pos, quat = ros_messages.pose_arrays(message)
        now = self._flight_clock.now()
        gate = self._pilot.add_pose(self._flight_clock.from_system(stamp), pos, quat, now)
        if gate is Gate.ACCEPTED and np.isfinite(quat).all():
            self.link.send_pose(pos, quat)

    def _on_goal(self, message: PoseStamped) -> None:
        if self._is_in_world_frame(message) and (goal := self._usable_point(message)) is not None:
            self._fly_to(goal)

    def _on_start(self, message: PoseStamped) -> None:
        if self._is_in_world_frame(message) and (start := self._usable_point(message)) is not None:
            self._world = replace(self._world, start=start)

    def _fly_to(self, goal: np.ndarray) -> None:
        """From now on this is the goal, in whatever state the flight is; the latest counts."""
        self._world = replace(self._world, goal=goal)
        self.request(Request.GO_TO)

    def _on_obstacles(self, message: PointCloud2) -> None:
        if not self._is_in_world_frame(message):
            return
        try:
            with np.errstate(invalid="ignore"):  # a signalling NaN is refused below as any other
                obstacles = unpack_obstacles(message)
        except (UserError, ValueError) as error:  # ValueError: steps beyond what an array can have
            self.get_logger().error(f"the obstacles are ignored: {error}", throttle_duration_sec=_WARN_PERIOD)
            return
        if (wrong := safety.obstacles_refusal(obstacles)) != "":
            self.get_logger().error(f"the obstacles are ignored: {wrong}", throttle_duration_sec=_WARN_PERIOD)
            return
        now, tolerance = self._flight_clock.now(), controller_config().estimator.future_tolerance
        stamp = self._flight_clock.from_system(ros_messages.seconds(message.header.stamp))
        self._world = self._world.with_obstacles(obstacles, stamp, now, tolerance)

    def _usable_point(self, message: PoseStamped) -> np.ndarray | None:
        """The position of a goal or start; None if nobody can fly there."""
        position = ros_messages.vector(message.pose.position)
        refused = safety.goal_refusal(position, controller_config().safety)
        if not refused:
            return position
        self.get_logger().error(f"a goal or start is ignored: {refused}", throttle_duration_sec=_WARN_PERIOD)
        return None

    def _is_in_world_frame(self, message: Any) -> bool:
        frame = message.header.frame_id
        if frame == self._frame:
            return True
        self.get_logger().error(
            f"a message in frame {frame!r} is ignored; publish in {self._frame!r} or set world_frame",
            throttle_duration_sec=_WARN_PERIOD,
        )
        return False

    def take_order(self, order: Order) -> str:
        """Hand a service's order to the next control step; why it is refused, or "".

        An emergency stop leaves at once, whatever the control step does, and comes from a thread of its own.
        """
        if order.request is Request.EMERGENCY:
            self.link.send(Setpoint(SetpointKind.EMERGENCY))
            self._emergency.set()
            return ""
        refused = flight.refusal(self.mode, order.request) or self._unfit(order)
        if refused and order.request is Request.ARM:
            missing = ("it has only begun; try again in a second",) if self._step is None else self._step.missing
            refused = "; ".join((refused, *missing))
        if refused:
            self.get_logger().warning(f"{order.request.value} refused: {refused}")
            return refused
        if order.point is not None:
            self._fly_to(self._absolute(order))
        else:
            self._manoeuvre = order.manoeuvre
            self.request(order.request)
        return ""

    def _unfit(self, order: Order) -> str:
        """Why an order's point or height cannot be flown to; "" if it can, or has none."""
        step, height = self._step, order.manoeuvre.height
        if order.point is None and height is None:
            return ""
        if step is None or step.estimate is None:
            return "where it is is not known"
        goal = self._absolute(order) if height is None else np.array([*step.estimate.x[:2], height])
        return safety.goal_refusal(goal, controller_config().safety)

    def _absolute(self, order: Order) -> np.ndarray:
        """The order's point (3,) in the world frame."""
        assert order.point is not None
        assert self._step is not None
        assert self._step.estimate is not None
        return order.point + self._step.estimate.x[:3] if order.relative else order.point

    def _publish(self, step: Step) -> None:
        t = self._flight_clock.to_system(step.t)
        if step.state.mode is not self._mode:
            self._publish_mode(step)
        if step.setpoint.kind is SetpointKind.FLY:
            self._setpoints.publish(ros_messages.setpoint_message(t, step.setpoint.command))
        plan = None if step.info is None else step.info.plan
        if step.estimate is not None:
            x = step.estimate.x
            self._odometry.publish(ros_messages.odometry_message(t, self._frame, self._robot, x))
            if self._count % MARKERS_EVERY == 0:
                self._markers.publish(ros_messages.vehicle_markers(t, self._frame, x, plan))
        if plan is not None and self._count % PLAN_EVERY == 0:
            self._plans.publish(ros_messages.path_message(t, self._frame, plan, self._policy.dt))
        if self._count % DIAGNOSTICS_EVERY == 0:
            self._publish_diagnostics(step)

    def _publish_mode(self, step: Step) -> None:
        mode, before = step.state.mode, self._mode
        self._mode = mode
        self._publish_diagnostics(step)
        self._states.publish(String(data=mode.value))
        line, waiting = f"{before.value if before else 'start'} -> {mode.value}", {Mode.IDLE, Mode.READY}
        if step.state.failure:
            self.get_logger().error(f"{line}: {step.state.failure}")
        elif mode is Mode.IDLE and (why := "; ".join(step.missing) or step.state.note):
            self.get_logger().warning(f"{line}: {why}", throttle_duration_sec=_WARN_PERIOD)
        elif {before, mode} == waiting and step.advice:
            line = f"{line}; {'; '.join(step.advice)}"
            self.get_logger().warning(line, throttle_duration_sec=_WARN_PERIOD)
        elif {before, mode} == waiting:
            self.get_logger().info(line, throttle_duration_sec=_WARN_PERIOD)
        else:
            self.get_logger().info(line)

    def _publish_diagnostics(self, step: Step) -> None:
        p50, p99, largest = self._statistics.policy_ms()
        vehicle, memory = self.link.status(), resident_memory()
        values: dict[str, object] = {
            "flight_state": step.state.mode.value,
            "failure": step.state.failure or ("interrupted" if self.interrupted else ""),
            "note": step.state.note,
            "policy_ms_p50": f"{p50:.3f}",
            "policy_ms_p99": f"{p99:.3f}",
            "policy_ms_max": f"{largest:.3f}",
            "control_steps": self._statistics.steps,
            "deadline_misses": self._statistics.misses,
            "scheduler_stalls": self._statistics.stalls,
            "memory_mb": "" if memory is None else f"{memory:.2f}",
            "policy_error": step.policy_error,
            "solver_status": "" if step.info is None else step.info.status,
            "pose_age_ms": "" if step.estimate is None else f"{1e3 * step.estimate.age:.1f}",
            "disturbance": "" if step.estimate is None else " ".join(f"{d:.3f}" for d in step.estimate.disturbance),
            "preflight": "; ".join(step.missing),
            "advice": "; ".join(step.advice),
            "filter": "" if step.filtered is None else step.filtered.outcome.value,
            "filter_margin_m": "" if step.filtered is None else f"{step.filtered.margin:.3f}",
            "filter_interventions": self._overruled,
            "mocap_hz": f"{step.mocap.rate:.0f}",
            "mocap_latency_ms": f"{1e3 * step.mocap.latency:.1f}",
            "mocap_rejects": f"{step.mocap.rejects:.2f}",
            "thrust_factor": f"{step.thrust.value:.3f}",
            "battery_v": f"{vehicle.voltage:.2f}",
            "link_age_ms": f"{1e3 * vehicle.age:.0f}",
            "clock_set": self._flight_clock.settings,
            **{f"poses_{gate.name.lower()}": count for gate, count in self._pilot.estimator.gates.items()},
        }
        level, text = _LEVELS[step.verdict.action], vehicle.fault or step.verdict.reason.value
        t, name = self._flight_clock.to_system(step.t), f"{self._robot}: flight"
        self._diagnostics.publish(ros_messages.diagnostics_message(t, name, level, text, values))


def _listen(node: ControllerNode, executor: Any, due: float) -> None:
    """Take messages until ``due`` (of ``time.monotonic``); one whose callback raises costs itself, not the flight."""
    while True:
        try:
            spin_until(executor, due)
            return
        except Exception as error:  # noqa: BLE001 - see above
            text = f"a message failed ({type(error).__name__}: {error})"
            node.get_logger().error(text, throttle_duration_sec=_WARN_PERIOD)
        if time.monotonic() >= due:
            return


def _fly(node: ControllerNode, interrupts: Interrupts) -> int:
    """Control steps at the node's rate until interrupted; in the air an interrupt means: land. The exit status."""
    executor = low_latency_executor()
    executor.add_node(node)
    gc.collect()
    gc.freeze()  # the collector's pauses grow with what it has to look at
    due = time.monotonic()
    while not (interrupts.count and not node.flies):
        _listen(node, executor, due)
        if interrupts.count:
            node.interrupted = True
            node.request(Request.LAND)
        node.control_step()
        due = max(due + node.period, time.monotonic())
    return 1 if node.mode in flight.FINAL | flight.IN_FLIGHT else 0


def _run(node: ControllerNode, interrupts: Interrupts) -> int:
    if not node.link.connect(lambda: interrupts.count > 0):
        return 0
    try:
        return _fly(node, interrupts)
    finally:
        if not node.flies:
            node.link.send(OFF)
            node.link.close()


def main(make: Callable[[], ControllerNode] = ControllerNode) -> None:
    """Entry point of the node."""
    run_node(make, _run)
