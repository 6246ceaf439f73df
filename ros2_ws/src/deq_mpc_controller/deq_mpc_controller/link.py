"""The Crazyflie behind cflib: connect, arm, send setpoints, report. Only this module imports cflib.

When something is sent is ``steady_link``'s. On the ground the zero setpoints unlock the firmware's thrust.
``close_link`` never happens in the air: cflib's cuts the motors. A link that is lost or mute while the setpoint is OFF
is made anew, by the sending thread, as often as it takes; in the air that is the flight's business (``safety``).

A link that cflib gives up in the air is not made anew before the vehicle is on the ground, ``down_time`` after the
last setpoint of the flight. The firmware levels out 0.5 s after that setpoint and stops the motors 1.5 s later. To
connect takes about as long, and every way to do so can only make that worse: an attempt that fails ends in the zero
setpoint of ``close_link``, as a link that is back begins with the one that unlocks the thrust, and either cuts the
motors at flight height. A link that is only mute stays open: whatever comes through then goes on with the landing.
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
from deq_mpc_controller.steady_link import AUTO_ARM, FLYING, Cancelled, SteadyLink, supervisor_fault
from deq_mpc_controller.uri import check_uri
from deq_mpc_controller.vehicle_io import LinkConfig, Setpoint, SetpointKind, VehicleStatus
from deq_mpc_core.errors import UserError

logging.getLogger("cflib").setLevel(logging.CRITICAL)  # what it logs as errors comes back from here as a reason
warnings.filterwarnings("ignore", message="The supervisor subsystem requires", module="deq_mpc_controller")

_NOT_LOGGED, _NO_PARAMETER = "does not log", "has no parameter"
_HOPELESS = {
    "Cannot find a Crazyradio": "plug the Crazyradio in",
    "Cannot find Crazyradio": "plug the Crazyradio in",
    "Cannot find radio with serial": "plug that Crazyradio in, or write its number instead of the serial",
    "Could not open usb": "switch the Crazyflie on and plug its USB cable in",
    "ccess denied": "allow your user to open it: install Bitcraze's udev rules",
    "No backend": "install libusb",
    "Name or service not known": "check the host in the uri",
    _NOT_LOGGED: "update the firmware",
    _NO_PARAMETER: "update the firmware",
}
"""What a reason says where no second attempt will do, and what the user can do."""
_CANCEL_PERIOD = 0.1  # s: between two looks at whether to go on waiting
_ESTIMATOR, _KALMAN, _RESET = "stabilizer.estimator", 2, "kalman.resetEstimation"
_RESET_TIME = 0.1  # s: between the two values of the parameter that resets
_BATTERY, _SUPERVISOR, _POSITION = "pm.vbat", "supervisor.info", tuple(f"stateEstimate.{axis}" for axis in "xyz")


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
        self._reset_time: float | None = None
        self._is_reset = config.extpose_rate == 0.0
        self._uri = uri
        self._config = config

    def open(self, cancelled: Cancelled) -> str:
        """Connect and start the reports; why that failed, or ""."""
        reason = self._connect(cancelled) or self._find_parameters() or self._start_reports()
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

    def prepare_estimator(self) -> None:
        """Begin the on-board Kalman filter anew, which alone takes external poses; called again until it is done.

        Only for a vehicle that has reported that it does not fly.
        """
        now = time.monotonic()
        if self._is_reset or self.report.time == -inf or self.report.bits & FLYING:
            return
        if self._reset_time is None:
            self.cf.param.set_value(_ESTIMATOR, _KALMAN)
            self.cf.param.set_value(_RESET, 1)
            self._reset_time = now
        elif now - self._reset_time > _RESET_TIME:
            self.cf.param.set_value(_RESET, 0)
            self._is_reset = True

    def _find_parameters(self) -> str:
        """Which parameter is needed and not there, or ""."""
        absent = (name for name in (_ESTIMATOR, _RESET) if self.cf.param.toc.get_element_by_complete_name(name) is None)
        name = None if self._is_reset else next(absent, None)
        return f"it {_NO_PARAMETER} {name}" if name else ""

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


class CrazyflieLink(SteadyLink):
    """One Crazyflie behind cflib."""

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
        super().__init__(config)
        self._uri = uri
        self._thrust_map = thrust_map
        self._on_sent = on_sent
        self._reconnecting = ""
        self._connection: _Connection | None = None

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

    def _vehicle_status(self) -> VehicleStatus:
        """What the vehicle last reported."""
        if self._connection is None:
            return VehicleStatus(fault="not connected")
        report = self._connection.report
        return VehicleStatus(
            armed=self._is_armed(),
            voltage=report.voltage,
            age=time.monotonic() - report.time,
            fault=self._reconnecting or self._connection.lost or supervisor_fault(report.bits),
            arms_itself=bool(report.bits & AUTO_ARM),
            pos=report.pos,
            lost=bool(self._connection.lost),
        )

    def _attempt(self, cancelled: Cancelled) -> str:
        """One attempt to connect; why it failed, or ""."""
        connection = _Connection(self._uri, self._config)
        reason = connection.open(cancelled)
        if not reason:
            self._connection = connection
        return reason

    @property
    def _cf(self) -> Any:
        assert self._connection is not None
        return self._connection.cf

    def _reaches_vehicle(self) -> bool:
        return self._connection is not None and not self._connection.lost

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _bits(self) -> int:
        assert self._connection is not None
        return self._connection.report.bits

    def _request_arming(self, arm: bool) -> None:
        self._cf.supervisor.send_arming_request(arm)

    def _request_emergency(self) -> None:
        self._cf.supervisor.send_emergency_stop()

    def _send_stop(self) -> None:
        self._cf.commander.send_stop_setpoint()

    def _forward_pose(self, pos: ArrayLike, quat: ArrayLike) -> None:
        self._cf.loc.send_extpose(pos, quat)

    def _send_setpoint(self, setpoint: Setpoint) -> None:
        fly = setpoint.kind is SetpointKind.FLY
        rpyt = rpyt_from_command(setpoint.command, self._thrust_map) if fly else (0.0, 0.0, 0.0, 0)
        self._cf.commander.send_setpoint(*rpyt)
        self._on_sent(time.monotonic(), setpoint)

    def _tend(self) -> None:
        """With the motors off: prepare the estimator; make a lost or mute link anew, as often as it takes."""
        assert self._connection is not None
        trouble = self._connection.trouble
        if not trouble:
            self._connection.prepare_estimator()
        if not trouble or (self._connection.lost and not self._is_down()):
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
