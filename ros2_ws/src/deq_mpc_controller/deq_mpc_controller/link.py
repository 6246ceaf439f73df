"""The Crazyflie behind cflib: connect, arm, send setpoints at a steady rate, report. Only this module imports cflib.

A thread of its own sends: every new setpoint at once, and what is due between them (``setpoint_stream``), so that the
vehicle hears at least 50 Hz whatever the controller does. On the ground the zero setpoints unlock the firmware's
thrust. ``close_link`` never happens in the air: cflib's cuts the motors. A link that is lost or mute while the setpoint
is OFF is made anew, by the same thread, as often as it takes; in the air that is the flight's business (``safety``).
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

with warnings.catch_warnings():  # cflib turns every DeprecationWarning on while it is imported
    import cflib.crtp
    from cflib.crazyflie import Crazyflie
    from cflib.crazyflie.log import LogConfig

from deq_mpc_controller.conversions import ThrustMap, rpyt_from_command
from deq_mpc_controller.setpoint_stream import due_setpoint
from deq_mpc_controller.uri import check_uri
from deq_mpc_controller.vehicle_io import OFF, LinkConfig, Setpoint, SetpointKind, VehicleStatus
from deq_mpc_core.errors import UserError

logging.getLogger("cflib").setLevel(logging.CRITICAL)  # what it logs as errors comes back from here as a reason
warnings.filterwarnings("ignore", message="The supervisor subsystem requires", module="deq_mpc_controller")

ARMED, FLYING, TUMBLED, LOCKED, CRASHED = 2, 16, 32, 64, 128
"""Bits of the log variable ``supervisor.info``."""
_FAULTS = {LOCKED: "locked: reboot it", TUMBLED: "tumbled", CRASHED: "crashed"}
_NOT_LOGGED = "does not log"
_HOPELESS = {
    "Cannot find a Crazyradio": "plug the Crazyradio in",
    "Cannot find Crazyradio": "plug the Crazyradio in",
    "Cannot find radio with serial": "plug that Crazyradio in, or write its number instead of the serial",
    "Could not open usb": "switch the Crazyflie on and plug its USB cable in",
    "ccess denied": "allow your user to open it: install Bitcraze's udev rules",
    "No backend": "install libusb",
    "Name or service not known": "check the host in the uri",
    _NOT_LOGGED: "update the firmware",
}
"""What a reason says where no second attempt will do, and what the user can do."""
_CANCEL_PERIOD = 0.1  # s: between two looks at whether to go on waiting
_BATTERY, _SUPERVISOR, _POSITION = "pm.vbat", "supervisor.info", tuple(f"stateEstimate.{axis}" for axis in "xyz")

Cancelled = Callable[[], bool]


class _Report(NamedTuple):
    """What the vehicle logs, and when that came."""

    time: float = -inf
    voltage: float = 0.0
    bits: int = 0
    pos: NDArray[np.float64] | None = None


class _Connection:
    """One link of cflib, from ``open`` to ``close``."""

    def __init__(self, uri: str, config: LinkConfig) -> None:
        self.cf = Crazyflie()
        self.report = _Report()
        self.lost = ""
        self.opened = inf
        self._uri = uri
        self._config = config

    def open(self, cancelled: Cancelled) -> str:
        """Connect and start the reports; why that failed, or ""."""
        reason = self._connect(cancelled) or self._start_reports()
        if reason:
            self.close()
        return reason

    def close(self) -> None:
        """Disconnect: cflib sends motors off."""
        self.cf.close_link()

    @property
    def trouble(self) -> str:
        """Why nothing is to be hoped of it any more, or ""."""
        silence = time.monotonic() - max(self.report.time, self.opened)
        return self.lost or (f"no word for {silence:.0f} s" if silence > self._config.mute_time else "")

    def _connect(self, cancelled: Cancelled) -> str:
        outcome = threading.Event()
        failure: list[str] = []

        def fail(_uri: str, message: str) -> None:
            failure.append((message.strip().splitlines() or ["no reason given"])[0])
            outcome.set()

        self.cf.fully_connected.add_callback(lambda _uri: outcome.set())
        self.cf.connection_failed.add_callback(fail)
        self.cf.connection_lost.add_callback(fail)
        self.cf.connection_lost.add_callback(self._on_lost)
        self.cf.open_link(self._uri)
        until = time.monotonic() + self._config.attempt_time
        while not outcome.wait(_CANCEL_PERIOD) and time.monotonic() < until and not cancelled():
            pass
        if failure:
            return failure[0]
        return "" if outcome.is_set() else "no answer"

    def _start_reports(self) -> str:
        """Battery, supervisor and position, periodically; their age tells whether the vehicle is still there."""
        block = LogConfig("status", round(1000.0 * self._config.log_period))
        block.add_variable(_BATTERY, "float")
        block.add_variable(_SUPERVISOR, "uint16_t")
        for name in _POSITION:
            block.add_variable(name, "float")
        try:
            self.cf.log.add_config(block)
        except KeyError as error:
            return f"it {_NOT_LOGGED} {error.args[0]}"
        block.data_received_cb.add_callback(self._on_report)
        block.start()
        self.opened = time.monotonic()
        return ""

    def _on_report(self, _timestamp: int, values: dict[str, float], _block: Any) -> None:
        pos = np.array([values[name] for name in _POSITION])
        self.report = _Report(time.monotonic(), float(values[_BATTERY]), int(values[_SUPERVISOR]), pos)

    def _on_lost(self, _uri: str, message: str) -> None:
        self.lost = f"link lost: {message.strip().splitlines()[0]}" if message.strip() else "link lost"


class CrazyflieLink:
    """One Crazyflie. ``connect``, then ``send`` setpoints and read ``status``; ``close`` on the ground."""

    def __init__(
        self,
        uri: str,
        thrust_map: ThrustMap,
        config: LinkConfig,
        on_sent: Callable[[float, Setpoint], None] = lambda _now, _setpoint: None,
    ) -> None:
        """A link that is not connected yet.

        Args:
            uri: of the vehicle.
            thrust_map: of its platform and firmware.
            config: constants.
            on_sent: for measurements: gets the monotonic time [s] and the setpoint of each packet that has been sent.
        """
        self._uri = uri
        self._thrust_map = thrust_map
        self._config = config
        self._on_sent = on_sent
        self._changed = threading.Condition()
        self._last, self._last_time = OFF, -inf
        self._is_new = False
        self._released = self._notify = False
        self._pose: tuple[ArrayLike, ArrayLike] | None = None
        self._pose_time = -inf
        self._stopping = False
        self._reconnecting = ""
        self._silent = False
        self._emergencies = 0
        self._arm_time = -inf
        self._connection: _Connection | None = None
        self._thread = threading.Thread(target=self._run, name="crazyflie-setpoints", daemon=True)

    def connect(self, cancelled: Cancelled = lambda: False) -> bool:
        """Connect, start the reports and the setpoints (motors off); False if ``cancelled`` said to give up.

        Raises:
            UserError: if no Crazyflie answers at the URI, or its firmware cannot be flown with.
        """
        check_uri(self._uri)
        _init_drivers()
        until = time.monotonic() + self._config.connect_time
        while reason := self._attempt(cancelled):
            if cancelled():
                return False
            advice = next((advice for text, advice in _HOPELESS.items() if text in reason), None)
            if advice is not None or time.monotonic() + self._config.retry_pause > until:
                raise UserError(f"no Crazyflie at {self._uri} ({reason}); {advice or 'switch it on and check the uri'}")
            time.sleep(self._config.retry_pause)
        self._thread.start()
        return True

    def send(self, setpoint: Setpoint) -> None:
        """Make this the setpoint, at once. An emergency stays one, whatever comes after it."""
        with self._changed:
            if self._last.kind is not SetpointKind.EMERGENCY:
                self._last, self._last_time = setpoint, time.monotonic()
            self._released = self._released and self._last == OFF
            self._is_new = True
            self._changed.notify()

    def send_pose(self, pos: ArrayLike, quat: ArrayLike) -> None:
        """Forward a pose, pos (3,) [m], quat (4,) xyzw, to the on-board estimator, the newest at ``extpose_rate``."""
        with self._changed:
            self._pose = (pos, quat)
            self._changed.notify()

    def notify_setpoints_stop(self) -> None:
        """Leave the vehicle to its high-level commander: nothing is sent until a setpoint asks for more than OFF."""
        with self._changed:
            if self._last.kind is SetpointKind.EMERGENCY:
                return
            self._last, self._last_time = OFF, time.monotonic()
            self._released = self._notify = True
            self._changed.notify()

    def status(self) -> VehicleStatus:
        """What the vehicle last reported."""
        if self._connection is None:
            return VehicleStatus(fault="not connected")
        report = self._connection.report
        fault = next((text for bit, text in _FAULTS.items() if report.bits & bit), "")
        return VehicleStatus(
            armed=bool(report.bits & ARMED),
            voltage=report.voltage,
            age=time.monotonic() - report.time,
            fault=self._reconnecting or self._connection.lost or fault,
            pos=report.pos,
        )

    def close(self) -> None:
        """Disconnect.

        Raises:
            RuntimeError: if the vehicle flies; nothing is done then.
        """
        with self._changed:
            if self._due().kind is SetpointKind.FLY and self._connection is not None and not self._connection.lost:
                raise RuntimeError("the link is not closed while the vehicle flies: that would cut its motors")
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        if self._connection is not None:
            self._connection.close()

    def _attempt(self, cancelled: Cancelled) -> str:
        """One attempt to connect; why it failed, or ""."""
        connection = _Connection(self._uri, self._config)
        reason = connection.open(cancelled)
        if not reason:
            self._connection = connection
        return reason

    def _due(self) -> Setpoint:
        """What to send now."""
        return due_setpoint(self._last, time.monotonic() - self._last_time, self._config)

    def _run(self) -> None:
        """The sending thread: on every new setpoint, and whenever none has been sent for a period."""
        sent = -inf
        while True:
            with self._changed:
                wait = max(0.0, sent + self._config.send_period - time.monotonic())
                self._changed.wait_for(self._has_work, wait)
                if self._stopping:
                    return
                is_new, self._is_new = self._is_new, False
                notify, self._notify = self._notify, False
                due, released, pose = self._due(), self._released, self._take_pose()
            if notify:
                self._cf.commander.send_notify_setpoint_stop()
            if is_new or time.monotonic() - sent >= self._config.send_period:
                self._transmit(due, released)
                sent = time.monotonic()
            if pose is not None:
                self._cf.loc.send_extpose(*pose)
            if due.kind is SetpointKind.OFF:
                self._keep_connected()

    def _has_work(self) -> bool:
        return self._stopping or self._is_new or self._notify or self._pose_is_due()

    @property
    def _cf(self) -> Any:
        assert self._connection is not None
        return self._connection.cf

    def _pose_is_due(self) -> bool:
        rate = self._config.extpose_rate
        return self._pose is not None and rate > 0.0 and time.monotonic() - self._pose_time >= 1.0 / rate

    def _take_pose(self) -> tuple[ArrayLike, ArrayLike] | None:
        if not self._pose_is_due():
            return None
        pose, self._pose, self._pose_time = self._pose, None, time.monotonic()
        return pose

    def _transmit(self, setpoint: Setpoint, released: bool) -> None:
        if setpoint.kind is SetpointKind.EMERGENCY:
            self._stop_for_ever()
        elif released:
            self._silent = True
        else:
            self._keep_armed(setpoint.arm)
            self._send_rpyt(setpoint)
            self._on_sent(time.monotonic(), setpoint)

    def _send_rpyt(self, setpoint: Setpoint) -> None:
        assert self._connection is not None
        commander, flying = self._cf.commander, self._connection.report.bits & FLYING
        if setpoint.kind is SetpointKind.OFF or (self._silent and not flying):  # the thrust has been locked meanwhile
            commander.send_setpoint(0.0, 0.0, 0.0, 0)
        if setpoint.kind is SetpointKind.FLY:
            commander.send_setpoint(*rpyt_from_command(setpoint.command, self._thrust_map))
        self._silent = False

    def _stop_for_ever(self) -> None:
        if self._emergencies < self._config.emergency_repeats:
            self._emergencies += 1
            self._cf.supervisor.send_emergency_stop()
        else:
            self._cf.commander.send_stop_setpoint()

    def _keep_armed(self, wanted: bool) -> None:
        """Ask for armed motors until they are; a vehicle that arms by itself needs no request."""
        assert self._connection is not None
        armed = bool(self._connection.report.bits & ARMED)
        if wanted and not armed and time.monotonic() - self._arm_time > self._config.arm_period:
            self._arm_time = time.monotonic()
            self._cf.supervisor.send_arming_request(True)

    def _keep_connected(self) -> None:
        """With the motors off, make a link that is lost or mute anew, as often as it takes."""
        assert self._connection is not None
        trouble = self._connection.trouble
        if not trouble:
            return
        self._reconnecting = f"{trouble}; reconnecting"
        self._connection.close()
        while (reason := self._attempt(lambda: self._stopping)) and not self._stopping:
            self._reconnecting = f"{trouble}; reconnecting ({reason})"
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, self._config.retry_pause)
        if not reason:
            self._reconnecting = ""


def _init_drivers() -> None:
    """cflib's drivers, once a process."""
    if not cflib.crtp.CLASSES:
        cflib.crtp.init_drivers()
