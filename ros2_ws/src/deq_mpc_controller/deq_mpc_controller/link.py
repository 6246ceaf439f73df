"""The Crazyflie behind cflib: connect, arm, send setpoints at a steady rate, report. Only this module imports cflib.

A thread of its own sends: every new setpoint at once, and between them the last one again, so that the vehicle hears
at least 50 Hz whatever the controller does. A controller that falls silent is held, then levelled and sunk, then
stopped. On the ground the zero setpoints unlock the firmware's thrust. ``close`` never happens in the air: cflib's
``close_link`` cuts the motors.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable
from math import inf
from typing import Any

with warnings.catch_warnings():  # cflib turns every DeprecationWarning on while it is imported
    import cflib.crtp
    from cflib.crazyflie import Crazyflie
    from cflib.crazyflie.log import LogConfig

from deq_mpc_controller.conversions import ThrustMap, rpyt_from_command
from deq_mpc_controller.vehicle_io import OFF, LinkConfig, Setpoint, SetpointKind, VehicleStatus, due_setpoint
from deq_mpc_core.errors import UserError

logging.getLogger("cflib").setLevel(logging.CRITICAL)  # what it logs as errors comes back from here as a reason
warnings.filterwarnings("ignore", message="The supervisor subsystem requires", module="deq_mpc_controller")

ARMED, TUMBLED, LOCKED, CRASHED = 2, 32, 64, 128
"""Bits of the log variable ``supervisor.info``."""
_FAULTS = {LOCKED: "locked: reboot it", TUMBLED: "tumbled", CRASHED: "crashed"}
_NO_DONGLE = "Cannot find a Crazyradio"
_HOPELESS = ("No driver", _NO_DONGLE)
"""What cflib says where no second attempt will do."""
_CANCEL_PERIOD = 0.1  # s: between two looks at whether to go on waiting
_BATTERY, _SUPERVISOR = "pm.vbat", "supervisor.info"


class CrazyflieLink:
    """One Crazyflie. ``connect``, then ``send`` setpoints and read ``status``; ``close`` on the ground."""

    def __init__(self, uri: str, thrust_map: ThrustMap, config: LinkConfig) -> None:
        self._uri = uri
        self._thrust_map = thrust_map
        self._config = config
        self._changed = threading.Condition()
        self._last, self._last_time = OFF, -inf
        self._is_new = False
        self._stopping = False
        self._lost = ""
        self._emergencies = 0
        self._report_time, self._voltage, self._bits = -inf, 0.0, 0
        self._arm_time = -inf
        self._cf: Any = None
        self._thread = threading.Thread(target=self._run, name="crazyflie-setpoints", daemon=True)

    def connect(self, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Connect, start the reports and the setpoints (motors off); False if ``cancelled`` said to give up.

        Raises:
            UserError: if no Crazyflie answers at the URI, or its firmware cannot be flown with.
        """
        _init_drivers()
        until = time.monotonic() + self._config.connect_time
        while (reason := self._attempt(cancelled)) and not any(text in reason for text in _HOPELESS):
            if cancelled() or time.monotonic() + self._config.retry_pause > until:
                break
            time.sleep(self._config.retry_pause)
        if cancelled() and reason:
            return False
        if reason:
            advice = "plug the Crazyradio in" if _NO_DONGLE in reason else "switch it on and check the uri"
            raise UserError(f"no Crazyflie at {self._uri} ({reason}); {advice}")
        self._start_reports()
        self._thread.start()
        return True

    def send(self, setpoint: Setpoint) -> None:
        """Make this the setpoint, at once. An emergency stays one, whatever comes after it."""
        with self._changed:
            if self._last.kind is not SetpointKind.EMERGENCY:
                self._last, self._last_time = setpoint, time.monotonic()
            self._is_new = True
            self._changed.notify()

    def status(self) -> VehicleStatus:
        """What the vehicle last reported."""
        fault = next((text for bit, text in _FAULTS.items() if self._bits & bit), "")
        return VehicleStatus(
            armed=bool(self._bits & ARMED),
            voltage=self._voltage,
            age=time.monotonic() - self._report_time,
            fault=self._lost or fault,
        )

    def close(self) -> None:
        """Disconnect.

        Raises:
            RuntimeError: if the vehicle flies; nothing is done then.
        """
        with self._changed:
            if self._last.kind is SetpointKind.FLY and not self._lost:
                raise RuntimeError("the link is not closed while the vehicle flies: that would cut its motors")
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        if self._cf is not None:
            self._cf.close_link()

    def _attempt(self, cancelled: Callable[[], bool]) -> str:
        """One attempt to connect; why it failed, or ""."""
        self._cf = Crazyflie()
        outcome = threading.Event()
        failure: list[str] = []

        def fail(_uri: str, message: str) -> None:
            failure.append((message.strip().splitlines() or ["no reason given"])[0])
            outcome.set()

        self._cf.fully_connected.add_callback(lambda _uri: outcome.set())
        self._cf.connection_failed.add_callback(fail)
        self._cf.connection_lost.add_callback(fail)
        self._cf.open_link(self._uri)
        until = time.monotonic() + self._config.attempt_time
        while not outcome.wait(_CANCEL_PERIOD) and time.monotonic() < until and not cancelled():
            pass
        reason = "" if outcome.is_set() else "no answer"
        reason = failure[0] if failure else reason
        if reason:
            self._cf.close_link()
        return reason

    def _start_reports(self) -> None:
        """Battery and supervisor, periodically; their age tells whether the vehicle is still there."""
        self._cf.connection_lost.add_callback(self._on_lost)
        block = LogConfig("status", round(1000.0 * self._config.log_period))
        block.add_variable(_BATTERY, "float")
        block.add_variable(_SUPERVISOR, "uint16_t")
        try:
            self._cf.log.add_config(block)
        except KeyError as error:
            self._cf.close_link()
            raise UserError(f"the Crazyflie does not log {error.args[0]}; update its firmware") from error
        block.data_received_cb.add_callback(self._on_report)
        block.start()

    def _on_report(self, _timestamp: int, values: dict[str, float], _block: Any) -> None:
        self._voltage, self._bits = float(values[_BATTERY]), int(values[_SUPERVISOR])
        self._report_time = time.monotonic()

    def _on_lost(self, _uri: str, message: str) -> None:
        self._lost = f"link lost: {message.strip().splitlines()[0]}" if message.strip() else "link lost"

    def _run(self) -> None:
        """The sending thread: on every new setpoint, and whenever none has been sent for a period."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._is_new, self._config.send_period)
                if self._stopping:
                    return
                self._is_new = False
                last, since = self._last, self._last_time
            self._transmit(due_setpoint(last, time.monotonic() - since, self._config))

    def _transmit(self, setpoint: Setpoint) -> None:
        if setpoint.kind is SetpointKind.EMERGENCY:
            self._stop_for_ever()
            return
        self._keep_armed(setpoint.arm)
        if setpoint.kind is SetpointKind.FLY:
            self._cf.commander.send_setpoint(*rpyt_from_command(setpoint.command, self._thrust_map))
        else:
            self._cf.commander.send_setpoint(0.0, 0.0, 0.0, 0)

    def _stop_for_ever(self) -> None:
        if self._emergencies < self._config.emergency_repeats:
            self._emergencies += 1
            self._cf.supervisor.send_emergency_stop()
        else:
            self._cf.commander.send_stop_setpoint()

    def _keep_armed(self, wanted: bool) -> None:
        """Ask for armed motors until they are; a vehicle that arms by itself needs no request."""
        armed = bool(self._bits & ARMED)
        if wanted and not armed and time.monotonic() - self._arm_time > self._config.arm_period:
            self._arm_time = time.monotonic()
            self._cf.supervisor.send_arming_request(True)


def _init_drivers() -> None:
    """cflib's drivers, once a process."""
    if not cflib.crtp.CLASSES:
        cflib.crtp.init_drivers()
