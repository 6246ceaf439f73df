"""Running statistics of a flight's control steps: computing time of the policy and missed deadlines."""

from __future__ import annotations

import numpy as np


class FlightStatistics:
    """Counts steps; a deadline is missed by a step that starts or ends too late.

    Attributes:
        steps: control steps in flight; misses: those that missed their deadline.
        late: whether the last one did.
    """

    def __init__(self, period: float) -> None:
        """``period`` [s] of the control."""
        self.steps = 0
        self.misses = 0
        self.late = False
        self._period = period
        self._began: float | None = None
        self._policy_ms: list[float] = []

    def add_step(self, began: float, ended: float, in_flight: bool, policy_seconds: float | None) -> None:
        """A control step that began and ended at these times [s].

        Late means: it began more than 1.5 periods after the one before, or took longer than a period.

        Args:
            began, ended: on one monotonic clock.
            in_flight: whether it counts.
            policy_seconds: computing time of the policy that flies to the goal; None if another flew.
        """
        gap = 0.0 if self._began is None else began - self._began
        self._began = began
        self.late = in_flight and (gap > 1.5 * self._period or ended - began > self._period)
        self.steps += in_flight
        self.misses += self.late
        if policy_seconds is not None:
            self._policy_ms.append(1e3 * policy_seconds)

    def policy_ms(self) -> tuple[float, float, float]:
        """Median, 99th percentile and maximum of the policy's computing time [ms]; NaN before its first step."""
        if not self._policy_ms:
            return float("nan"), float("nan"), float("nan")
        p50, p99 = np.percentile(self._policy_ms, [50, 99])
        return float(p50), float(p99), max(self._policy_ms)
