"""The flight's time: the system's, as long as nobody sets that clock, and never backwards.

Stamps of messages are read off the system's clock, which somebody, or a time service, may set in the air. A steady
clock does not follow; the difference of the two tells by how much it was set, and stamps of the clock that was set are
moved back by as much. A motion capture on another machine, whose clock was not set with this one's, then stamps its
poses wrongly: they are refused, and the flight ends as without motion capture.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_TOLERANCE = 0.01
"""Two clocks that differ by so much more than before were not read at once only: one was set [s]."""


class FlightClock:
    """Time since the epoch [s] when the flight side started, steady from there on.

    Attributes:
        settings: how often the system's clock was found set.
    """

    def __init__(self, system: Callable[[], float], steady: Callable[[], float] = time.monotonic) -> None:
        self._system, self._steady = system, steady
        self.settings = 0
        self._ahead, _ = self._read()
        self._origin = self._ahead

    def now(self) -> float:
        """The flight's time; looks whether the system's clock was set, too."""
        ahead, took = self._read()
        if abs(ahead - self._ahead) > _TOLERANCE + took:
            self._ahead = ahead
            self.settings += 1
        return self._steady() + self._origin

    def from_system(self, stamp: float) -> float:
        """The flight's time of a stamp of the system's clock."""
        return stamp - (self._ahead - self._origin)

    def to_system(self, t: float) -> float:
        """What the system's clock shows, or would have shown, at ``t`` of the flight."""
        return t + (self._ahead - self._origin)

    def _read(self) -> tuple[float, float]:
        """How far the system's clock is ahead of the steady one, and how long reading both took [s]."""
        before = self._steady()
        system = self._system()
        after = self._steady()
        return system - 0.5 * (before + after), after - before
