"""What every link to a vehicle shares: a thread that sends what is due at a steady rate, whatever the controller does.

Every new setpoint goes out at once, and between two of them what ``setpoint_stream`` says is due, so that the vehicle
hears at least 50 Hz. A subclass knows how to send. Without the thread, ``serve`` called by somebody in lockstep with
simulated time does the same.

Nothing that sending raises ends the thread, because nobody else speaks to the vehicle. Setpoints that do not leave for
``stall_time``, for an error or because the thread hangs, are a link that is lost.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from math import inf

from numpy.typing import ArrayLike

from deq_mpc_controller.setpoint_stream import Stream
from deq_mpc_controller.vehicle_io import LinkConfig, Setpoint, SetpointKind, VehicleStatus

ARMED, AUTO_ARM, FLYING, TUMBLED, LOCKED, CRASHED = 2, 4, 16, 32, 64, 128
"""Bits of the log variable ``supervisor.info``."""
_FAULTS = {LOCKED: "locked: reboot it", TUMBLED: "tumbled", CRASHED: "crashed"}

Cancelled = Callable[[], bool]
_LOG = logging.getLogger(__name__)


def supervisor_fault(bits: int) -> str:
    """Why a vehicle whose supervisor reports these bits cannot fly, or ""."""
    return next((text for bit, text in _FAULTS.items() if bits & bit), "")


class SteadyLink(ABC):
    """One vehicle. ``connect``, then ``send`` setpoints and read ``status``; ``close`` on the ground."""

    def __init__(self, config: LinkConfig, clock: Callable[[], float] = time.monotonic) -> None:
        """A link that sends nothing yet; ``clock`` [s] never goes back."""
        self._config = config
        self._clock = clock
        self._changed = threading.Condition()
        self._given = Stream()
        self._is_new = False
        self._pose: tuple[ArrayLike, ArrayLike] | None = None
        self._pose_time = -inf
        self._sent_time = -inf
        self._stopping = False
        self._arm_time = -inf
        self._fly_time = -inf
        self._disarm_owed = self._disarm_asked = False
        self._emergencies = 0
        self._waiting_since: float | None = None
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="setpoints", daemon=True)

    @abstractmethod
    def connect(self, cancelled: Cancelled = lambda: False) -> bool:
        """Connect and start to send; False if ``cancelled`` said to give up.

        Raises:
            UserError: if there is nobody to connect to, or nobody to fly with.
        """

    def status(self) -> VehicleStatus:
        """What the vehicle last reported, and what has become of the link."""
        with self._changed:
            now = self._clock()
            stopped = self._given.has_ended(now, self._config)
            stalled = self._waiting_since is not None and now - self._waiting_since > self._config.stall_time
            flying = self._due().kind is SetpointKind.FLY
        vehicle = self._vehicle_status()
        trouble = (self._trouble or "setpoints wait to be sent") if stalled else "" if flying else self._trouble
        return replace(vehicle, stopped=stopped, lost=vehicle.lost or stalled, fault=vehicle.fault or trouble)

    def send(self, setpoint: Setpoint) -> None:
        """Make this the setpoint, at once. An emergency stays one, whatever comes after it; see ``Stream``."""
        with self._changed:
            self._given = self._given.add(setpoint, self._clock(), self._config)
            self._is_new = True
            self._waiting_since = self._clock() if self._waiting_since is None else self._waiting_since
            self._changed.notify()

    def send_pose(self, pos: ArrayLike, quat: ArrayLike) -> None:
        """Forward a pose, pos (3,) [m], quat (4,) xyzw, to the on-board estimator, the newest at ``extpose_rate``."""
        with self._changed:
            self._pose = (pos, quat)
            self._changed.notify()

    def close(self) -> None:
        """Disconnect; an emergency stop is sent as often as it is to be sent before that.

        Raises:
            RuntimeError: if the vehicle flies; nothing is done then.
        """
        with self._changed:
            if self._due().kind is SetpointKind.FLY and self._reaches_vehicle():
                raise RuntimeError("the link is not closed while the vehicle flies: that would cut its motors")
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._disconnect()

    @abstractmethod
    def _vehicle_status(self) -> VehicleStatus:
        """What the vehicle last reported."""

    @abstractmethod
    def _reaches_vehicle(self) -> bool:
        """Whether what is sent may still arrive."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Let go of the vehicle, on the ground; the sending thread has ended."""

    @abstractmethod
    def _bits(self) -> int:
        """``supervisor.info`` as the vehicle last reported it; 0 before that."""

    @abstractmethod
    def _request_arming(self, arm: bool) -> None:
        """Ask for armed, or disarmed, motors."""

    @abstractmethod
    def _request_emergency(self) -> None:
        """Ask for the emergency stop."""

    @abstractmethod
    def _send_stop(self) -> None:
        """Send motors off once more after the emergency requests."""

    @abstractmethod
    def _send_setpoint(self, setpoint: Setpoint) -> None:
        """Send a setpoint OFF or FLY."""

    @abstractmethod
    def _forward_pose(self, pos: ArrayLike, quat: ArrayLike) -> None:
        """Send a pose."""

    @abstractmethod
    def _tend(self) -> None:
        """Called by the sending thread whenever the motors are to be off."""

    def _due(self) -> Setpoint:
        """What to send now."""
        return self._given.due(self._clock(), self._config)

    def _run(self) -> None:
        """The sending thread: on every new setpoint, and whenever none has been sent for a period."""
        while True:
            with self._changed:
                wait = max(0.0, self._sent_time + self._config.send_period - self._clock())
                self._changed.wait_for(self._has_work, wait)
                if self._has_finished():
                    break
            self._guard(self.serve)
        self._guard(self._leave)

    def _guard(self, act: Callable[[], None]) -> None:
        """Send something; an error is kept for ``status`` until a setpoint leaves without one."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever cflib or ROS raise, the vehicle needs its next setpoint
            trouble = f"sending fails ({type(error).__name__}: {error})"
            if trouble != self._trouble:
                _LOG.error("%s", trouble)
            self._trouble = trouble
        else:
            self._trouble = self._trouble if self._waiting_since is not None else ""

    def _leave(self) -> None:
        """The last word to the vehicle. No time to repeat it: the firmware's own limit is there."""
        if self._reaches_vehicle() and self._may_disarm():
            self._request_arming(False)

    def serve(self) -> None:
        """Send what is due now: a new setpoint, or once a period the one that the stream has come to; and poses."""
        with self._changed:
            is_new, self._is_new = self._is_new, False
            due, pose = self._due(), self._take_pose()
        if is_new or self._clock() - self._sent_time >= self._config.send_period:
            self._sent_time = self._clock()  # of an attempt that fails, too: the next one is due a period later
            self._transmit(due)
            self._waiting_since = None
        if pose is not None:
            self._forward_pose(*pose)
        if due.kind is SetpointKind.OFF:
            self._tend()

    def _has_work(self) -> bool:
        return self._has_finished() or self._is_new or self._pose_is_due()

    def _has_finished(self) -> bool:
        """Whether the link is to be closed, and nothing is left that has to be sent before."""
        is_emergency = self._given.last.kind is SetpointKind.EMERGENCY
        return self._stopping and not (is_emergency and self._emergencies < self._config.emergency_repeats)

    def _pose_is_due(self) -> bool:
        rate = self._config.extpose_rate
        return self._pose is not None and rate > 0.0 and self._clock() - self._pose_time >= 1.0 / rate

    def _take_pose(self) -> tuple[ArrayLike, ArrayLike] | None:
        if not self._pose_is_due():
            return None
        pose, self._pose, self._pose_time = self._pose, None, self._clock()
        return pose

    def _transmit(self, setpoint: Setpoint) -> None:
        if setpoint.kind is SetpointKind.EMERGENCY:
            self._stop_for_ever()
            return
        if setpoint.kind is SetpointKind.FLY:
            self._fly_time = self._clock()
        self._keep_armed(setpoint.arm)
        self._send_setpoint(setpoint)

    def _stop_for_ever(self) -> None:
        if self._emergencies < self._config.emergency_repeats:
            self._emergencies += 1
            self._request_emergency()
        else:
            self._send_stop()

    def _is_armed(self) -> bool:
        return bool(self._bits() & ARMED)

    def _is_down(self) -> bool:
        """Whether the vehicle stands on the ground whatever became of the last setpoint of a flight."""
        return self._clock() - self._fly_time > self._config.down_time

    def _may_disarm(self) -> bool:
        """Whether the motors are to be disarmed: those that were armed from here, and never in the air."""
        return self._disarm_owed and self._is_down() and not self._bits() & (AUTO_ARM | FLYING)

    def _keep_armed(self, wanted: bool) -> None:
        """Ask for armed motors until they are; then, once they are not wanted, for disarmed ones, at least once.

        A vehicle that arms by itself is asked for neither.
        """
        if wanted:
            self._disarm_owed, self._disarm_asked = True, False
        elif self._disarm_asked and not self._is_armed():
            self._disarm_owed = False
        due = not self._is_armed() if wanted else self._may_disarm()
        if not due or not self._clock() - self._arm_time > self._config.arm_period:
            return
        self._arm_time, self._disarm_asked = self._clock(), not wanted
        self._request_arming(wanted)
