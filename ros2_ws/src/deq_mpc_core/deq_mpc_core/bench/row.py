"""One line of a measurement, and what steers a suite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BenchOptions:
    """Options of a run; a suite is ``def suite(options: BenchOptions) -> Iterator[Row]``.

    Attributes:
        quick: fewer sizes, fewer rounds and no peers that are compiled for the run.
        minutes: how long the suite ``flight`` flies.
    """

    quick: bool = False
    minutes: float = 10.0


@dataclass(frozen=True)
class Row:
    """What one engine took for one work.

    Attributes:
        work: what was computed; rows of the same work, batch and horizon are the same computation.
        engine: who computed it.
        batch, threads, horizon: samples at once, threads allowed, knots.
        median_ms, p99_ms: over the rounds that count, for the whole batch; None where none does.
        ratio: median over the median of this project's engine in the same rounds, measured side by side.
        note: what the reader must know: differing algorithms, results that were not reached, why it is missing.
        details: further figures of a suite of its own, for the JSON.
    """

    work: str
    engine: str
    batch: int
    threads: int
    horizon: int
    median_ms: float | None
    p99_ms: float | None
    ratio: float | None
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """The part of a row that all candidates share; ``cases`` different problems are taken in turn."""

    name: str
    batch: int
    horizon: int
    cases: int = 1

    def row(self, engine: str, threads: int, times: NDArray[np.float64], baseline: float, note: str = "") -> Row:
        """The row of measured times [ms] beside the baseline's median [ms]; without times, without figures."""
        if not times.size:
            return Row(self.name, engine, self.batch, threads, self.horizon, None, None, None, note)
        median, p99 = float(np.median(times)), float(np.percentile(times, 99))
        return Row(self.name, engine, self.batch, threads, self.horizon, median, p99, median / baseline, note)

    def missing(self, engine: str, threads: int, reason: str) -> Row:
        """The row of a candidate that could not run."""
        return Row(self.name, engine, self.batch, threads, self.horizon, None, None, None, f"missing: {reason}")
