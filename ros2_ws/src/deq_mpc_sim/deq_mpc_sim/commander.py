"""Who commands the vehicle: the setpoint with the highest priority that arrived last, and the lock on thrust.

As in the firmware: 0 nobody yet, 1 the on-board high-level commander, 2 packets. Once a packet has commanded, the
high-level commander is heard again only after ``relax``, which cflib sends as ``send_notify_setpoint_stop``.
"""

from __future__ import annotations

import math
from enum import IntEnum

from deq_mpc_sim.targets import STOP, Target, rpyt_target

_COUNT = slice(12, 14)  # the thrust's bytes in an RPYT packet


class Priority(IntEnum):
    """Of a setpoint's source."""

    DISABLED = 0
    HIGH_LEVEL = 1
    PACKETS = 2


class Commander:
    """The setpoint that holds, its source and its age."""

    def __init__(self) -> None:
        self.target = STOP
        self.priority = Priority.DISABLED
        self._received = -math.inf
        self._thrust_locked = True

    def age(self, t: float) -> float:
        """Time since the setpoint arrived [s]."""
        return t - self._received

    def submit(self, target: Target, priority: Priority, t: float) -> bool:
        """Take a setpoint unless one of higher priority holds; says whether it was taken.

        One that is not finite stops the motors: the real controller would lose its mind.
        """
        if priority < self.priority:
            return False
        self.target = target if target.finite else STOP
        self.priority, self._received = priority, t
        return True

    def receive_rpyt(self, payload: bytes, t: float) -> bool:
        """A packet of port 3. Its thrust counts only after one with zero thrust."""
        if self.priority is Priority.DISABLED:
            self._thrust_locked = True
        if len(payload) >= _COUNT.stop and payload[_COUNT] == b"\0\0":
            self._thrust_locked = False
        target = rpyt_target(payload, unlocked=not self._thrust_locked)
        return target is not None and self.submit(target, Priority.PACKETS, t)

    def relax(self) -> None:
        """Let the next setpoint of any source take over."""
        self.priority = Priority.HIGH_LEVEL
