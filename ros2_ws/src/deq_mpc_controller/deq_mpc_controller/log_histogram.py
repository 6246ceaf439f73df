"""Percentiles of any number of values in a constant amount of memory and time."""

from __future__ import annotations

import math

import numpy as np

RESOLUTION = 0.01
"""Width of a bin: this share of the values in it."""


class LogHistogram:
    """Counts values in bins between ``low`` and ``high`` whose edges are a geometric sequence.

    A percentile is off by half a bin at most, 0.5 %. Values outside count as the bound that they are beyond.

    Attributes:
        max: the largest value so far; NaN before the first.
    """

    def __init__(self, low: float, high: float) -> None:
        """An empty one; 0 < ``low`` < ``high``."""
        self.max = math.nan
        self._low = low
        self._step = math.log1p(RESOLUTION)
        self._counts = np.zeros(math.ceil(math.log(high / low) / self._step), dtype=np.int64)

    def add(self, value: float) -> None:
        """Count a value."""
        self.max = value if math.isnan(self.max) else max(self.max, value)
        number = int(math.log(max(value, self._low) / self._low) / self._step)
        self._counts[min(number, len(self._counts) - 1)] += 1

    def percentile(self, q: float) -> float:
        """The value that ``q`` per cent of the values do not exceed, 0 < ``q`` <= 100; NaN before the first."""
        below = np.cumsum(self._counts)
        if below[-1] == 0:
            return math.nan
        number = int(np.searchsorted(below, q / 100.0 * below[-1]))
        return min(self._low * math.exp((number + 0.5) * self._step), self.max)
