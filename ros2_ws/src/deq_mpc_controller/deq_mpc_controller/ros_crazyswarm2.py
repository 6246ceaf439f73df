"""The Crazyflie behind a running Crazyswarm2 server: setpoints on ``cmd_vel_legacy``, the rest through its services.

The vehicle is shared with whatever else drives that server, crazyflie_py's scripts above all. While this controller
does not fly, nothing is published, so that the server's high-level commander has the vehicle; the stream begins with
the arming, with the zero setpoints that unlock the firmware's thrust. After the flight come zero setpoints for
``handover_time``, then ``notify_setpoints_stop``, then silence. A vehicle that somebody else flies is not armed.

Poses go to the on-board estimator through the server itself. Its ``<robot>/pose`` is that estimator's, not the motion
capture's.
"""

from __future__ import annotations

import time
from importlib import import_module
from math import inf
from typing import Any, NamedTuple

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, Twist, Vector3
from numpy.typing import ArrayLike, NDArray
from std_srvs.srv import Empty

from deq_mpc_controller.conversions import LegacyTwist, ThrustMap, twist_from_command
from deq_mpc_controller.ros_messages import LATEST, RELIABLE, vector
from deq_mpc_controller.steady_link import AUTO_ARM, FLYING, Cancelled, SteadyLink, supervisor_fault
from deq_mpc_controller.vehicle_io import LinkConfig, Setpoint, SetpointKind, VehicleStatus
from deq_mpc_core.errors import UserError

PACKAGE = "crazyflie_interfaces"
_ZERO = LegacyTwist(0.0, 0.0, 0.0, 0.0)
_SPIN_PERIOD = 0.1  # s: between two looks at whether to go on waiting
_REPORTS = 3  # the first may have waited in a queue: the time between the other two counts


class InterfaceTypes(NamedTuple):
    """The types of Crazyswarm2's interface package that are needed."""

    status: Any
    arm: Any
    notify: Any


def interface_types() -> InterfaceTypes:
    """The types, imported only here.

    Raises:
        UserError: without the package, or with one that lacks them.
    """
    try:
        msg, srv = import_module(f"{PACKAGE}.msg"), import_module(f"{PACKAGE}.srv")
        return InterfaceTypes(msg.Status, srv.Arm, srv.NotifySetpointsStop)
    except ImportError as error:
        raise UserError(
            f"backend crazyswarm2 needs {PACKAGE}, which is not installed; source the workspace of Crazyswarm2"
        ) from error
    except AttributeError as error:
        raise UserError(f"{PACKAGE} is too old ({error}); update Crazyswarm2") from error


class _Report(NamedTuple):
    """The latest status, and when it came."""

    time: float = -inf
    voltage: float = 0.0
    bits: int = 0


class Crazyswarm2Link(SteadyLink):
    """One Crazyflie of a Crazyswarm2 server."""

    def __init__(self, node: Any, robot: str, server: str, thrust_map: ThrustMap, config: LinkConfig) -> None:
        """A link that is not connected yet.

        Args:
            node: whose topics and services it uses; its executor brings the status.
            robot: its name at the server.
            server: one of `conversions.CRAZYSWARM2_SERVERS`.
            thrust_map: of its platform and firmware.
            config: constants.

        Raises:
            UserError: without Crazyswarm2's interface package.
        """
        super().__init__(config)
        types = interface_types()
        self._node, self._robot, self._server, self._thrust_map = node, robot, server, thrust_map
        self._report = _Report()
        self._arrivals: list[float] = []
        self._pos: NDArray[np.float64] | None = None
        self._silent = True
        self._off_since: float | None = None
        self._setpoints = node.create_publisher(Twist, f"/{robot}/cmd_vel_legacy", RELIABLE)
        node.create_subscription(types.status, f"/{robot}/status", self._on_status, LATEST)
        node.create_subscription(PoseStamped, f"/{robot}/pose", self._on_pose, LATEST)
        self._clients = {
            "arm": node.create_client(types.arm, f"/{robot}/arm"),
            "emergency": node.create_client(Empty, f"/{robot}/emergency"),
            "notify_setpoints_stop": node.create_client(types.notify, f"/{robot}/notify_setpoints_stop"),
        }
        self._arm_requests = {wanted: _arm_request(types.arm, wanted) for wanted in (False, True)}
        self._notify_request = types.notify.Request()

    def connect(self, cancelled: Cancelled = lambda: False) -> bool:
        """Wait for the server's reports and services; False if ``cancelled`` said to give up.

        Raises:
            UserError: if they do not come, or the reports come too rarely to fly with.
        """
        until = time.monotonic() + self._config.connect_time
        while reason := self._missing():
            if cancelled():
                return False
            if time.monotonic() > until:
                raise UserError(reason)
            rclpy.spin_once(self._node, timeout_sec=_SPIN_PERIOD)
        self._check_rate()
        self._thread.start()
        return True

    def _vehicle_status(self) -> VehicleStatus:
        """What the server last reported of the vehicle."""
        report = self._report
        foreign = "flown by somebody else: land it first" if self._silent and report.bits & FLYING else ""
        return VehicleStatus(
            armed=self._is_armed(),
            voltage=report.voltage,
            age=time.monotonic() - report.time,
            fault=supervisor_fault(report.bits) or foreign,
            arms_itself=bool(report.bits & AUTO_ARM),
            pos=self._pos,
        )

    def _missing(self) -> str:
        """What of the server is not there, and what to do; "" if nothing."""
        robot = self._robot
        if len(self._arrivals) < _REPORTS:
            return (
                f"no status on /{robot}/status; start Crazyswarm2's server with {robot!r} enabled and "
                "firmware_logging.default_topics.status in its crazyflies.yaml"
            )
        absent = [name for name, client in self._clients.items() if not client.service_is_ready()]
        return f"nobody offers /{robot}/{absent[0]}; update Crazyswarm2 or restart its server" if absent else ""

    def _check_rate(self) -> None:
        period = self._arrivals[-1] - self._arrivals[-2]
        if period > self._config.status_period:
            raise UserError(
                f"/{self._robot}/status comes every {period:.1f} s, which says too late that a vehicle is lost; set "
                "firmware_logging.default_topics.status.frequency to 10 in Crazyswarm2's crazyflies.yaml"
            )

    def _on_status(self, message: Any) -> None:
        now = time.monotonic()
        self._arrivals = [*self._arrivals[1 - _REPORTS :], now]
        self._report = _Report(now, float(message.battery_voltage), int(message.supervisor_info))

    def _on_pose(self, message: PoseStamped) -> None:
        self._pos = vector(message.pose.position)

    def _reaches_vehicle(self) -> bool:
        return self._thread.is_alive()

    def _disconnect(self) -> None:
        if not self._silent and self._given.last.kind is not SetpointKind.EMERGENCY:
            self._hand_over()

    def _bits(self) -> int:
        return self._report.bits

    def _request_arming(self, arm: bool) -> None:
        self._clients["arm"].call_async(self._arm_requests[arm])

    def _request_emergency(self) -> None:
        self._clients["emergency"].call_async(Empty.Request())

    def _send_stop(self) -> None:
        self._publish(_ZERO)

    def _forward_pose(self, pos: ArrayLike, quat: ArrayLike) -> None:
        """The server forwards what it gets from the motion capture."""

    def _tend(self) -> None:
        """The server keeps its connection itself."""

    def _send_setpoint(self, setpoint: Setpoint) -> None:
        if setpoint.kind is SetpointKind.OFF and not setpoint.arm:
            self._fall_silent()
        else:
            self._stream(setpoint)

    def _stream(self, setpoint: Setpoint) -> None:
        self._off_since = None
        if setpoint.kind is SetpointKind.OFF or (self._silent and not self._report.bits & FLYING):
            self._publish(_ZERO)  # unlocks the firmware's thrust
        if setpoint.kind is SetpointKind.FLY:
            self._publish(twist_from_command(setpoint.command, self._thrust_map, self._server))
        self._silent = False

    def _fall_silent(self) -> None:
        """Motors off for a while, in case a packet is lost, then the high-level commander's turn.

        What was armed for a flight that did not take place is disarmed first.
        """
        if self._silent:
            return
        now = time.monotonic()
        self._off_since = now if self._off_since is None else self._off_since
        if now - self._off_since < self._config.handover_time or self._may_disarm():
            self._publish(_ZERO)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        self._publish(_ZERO)
        self._clients["notify_setpoints_stop"].call_async(self._notify_request)
        self._silent, self._off_since = True, None
        self._disarm_owed = False  # who has the vehicle now arms and disarms it

    def _publish(self, twist: LegacyTwist) -> None:
        angular = Vector3(x=0.0, y=0.0, z=twist.yaw_rate)
        self._setpoints.publish(Twist(linear=Vector3(x=twist.x, y=twist.y, z=twist.z), angular=angular))


def _arm_request(kind: Any, wanted: bool) -> Any:
    """A request of Crazyswarm2's type to arm or disarm."""
    request = kind.Request()
    request.arm = wanted
    return request
