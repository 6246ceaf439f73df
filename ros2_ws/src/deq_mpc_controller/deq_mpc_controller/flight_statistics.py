"""Running statistics of a flight's control steps: computing time of the policy, missed deadlines, whose fault they are.

Memory and time are constant, however long the flight.
"""

from __future__ import annotations

from deq_mpc_controller.log_histogram import LogHistogram
from deq_mpc_controller.process import Instant

_SHORTEST_MS, _LONGEST_MS = 1e-3, 1e5
"""Computing times that are told apart: from a microsecond to minutes."""


class FlightStatistics:
    """Counts steps; a deadline is missed by a step that starts or ends too late.

    Attributes:
        steps: control steps in flight; misses: those that missed their deadline.
        stalls: the misses that are the scheduler's: without the time in which the thread waited for a CPU, the step
            would have been in time.
        late: whether the last one missed its deadline.
    """

    def __init__(self, period: float) -> None:
        """``period`` [s] of the control."""
        self.steps = 0
        self.misses = 0
        self.stalls = 0
        self.late = False
        self._period = period
        self._began: Instant | None = None
        self._policy_ms = LogHistogram(_SHORTEST_MS, _LONGEST_MS)

    def add_step(self, began: Instant, ended: Instant, in_flight: bool, policy_seconds: float | None) -> None:
        """A control step that began and ended then.

        Late means: it began more than 1.5 periods after the one before, or took longer than a period.

        Args:
            began, ended: on the clocks of the thread that controls.
            in_flight: whether it counts.
            policy_seconds: computing time of the policy that flies to the goal; None if another flew.
        """
        before = began if self._began is None else self._began
        self._began = began
        gap, length = began.t - before.t, ended.t - began.t
        self.late = in_flight and self._is_late(gap, length)
        self.steps += in_flight
        self.misses += self.late
        self.stalls += self.late and not self._is_late(
            gap - (began.waited - before.waited), length - (ended.waited - began.waited)
        )
        if policy_seconds is not None:
            self._policy_ms.add(1e3 * policy_seconds)

    def policy_ms(self) -> tuple[float, float, float]:
        """Median, 99th percentile and maximum of the policy's computing time [ms]; NaN before its first step."""
        times = self._policy_ms
        return times.percentile(50.0), times.percentile(99.0), times.max

    def _is_late(self, gap: float, length: float) -> bool:
        """Whether a step of this length is late that began ``gap`` after the one before [s]."""
        return gap > 1.5 * self._period or length > self._period
