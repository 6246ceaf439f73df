"""What the motion capture is worth: how long, how often and how late its poses come, and how many are refused."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf

from deq_mpc_controller.estimate import Gate

WINDOW = 1.0
"""Of rate, latency and refusals [s]."""
_FEWEST = 10
"""Poses of the window from which on a share of them says something."""


@dataclass(frozen=True)
class MocapReport:
    """The motion capture over the last `WINDOW`.

    Attributes:
        seen_for: how long usable poses have come without a gap [s].
        rate: of usable poses [Hz].
        latency: shortest time from stamp to arrival [s], with what the clocks differ by in it; infinity without poses.
        rejects: share of the poses that were refused; 0 while there are few.
    """

    seen_for: float = 0.0
    rate: float = 0.0
    latency: float = inf
    rejects: float = 0.0


class MocapMonitor:
    """Takes note of every pose; constant time and bounded memory."""

    def __init__(self, gap: float) -> None:
        """A monitor of no poses yet; a pause longer than ``gap`` [s] begins the time anew in which they are seen."""
        self._gap = gap
        self._poses: deque[tuple[float, float, bool]] = deque(maxlen=2000)
        self._usable = 0
        self._since = inf
        self._last = -inf

    def add(self, stamp: float, received: float, gate: Gate) -> None:
        """A pose of ``stamp``, here at ``received`` [s]. One that comes twice, or is overtaken, harms nothing."""
        if gate is Gate.OUT_OF_ORDER:
            return
        usable = gate is Gate.ACCEPTED
        if len(self._poses) == self._poses.maxlen:
            self._usable -= self._poses.popleft()[2]
        self._poses.append((received, received - stamp, usable))
        self._usable += usable
        if usable:
            if not received - self._last <= self._gap:
                self._since = received
            self._last = received

    def report(self, now: float) -> MocapReport:
        """The last `WINDOW` before ``now`` [s]."""
        while self._poses and self._poses[0][0] < now - WINDOW:
            self._usable -= self._poses.popleft()[2]
        count = len(self._poses)
        if now - self._last > self._gap:
            self._since = inf
        return MocapReport(
            seen_for=max(now - self._since, 0.0),
            rate=self._usable / WINDOW,
            latency=min((latency for _, latency, usable in self._poses if usable), default=inf),
            rejects=1.0 - self._usable / count if count >= _FEWEST else 0.0,
        )
