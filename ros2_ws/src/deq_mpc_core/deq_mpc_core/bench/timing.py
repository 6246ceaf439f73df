"""Side-by-side timing: every round runs every candidate once, so that a busy moment of the machine hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.bench.row import Row, Work


@dataclass(frozen=True)
class Candidate:
    """One way to do a work.

    Attributes:
        engine: its name in the row.
        run: does the work of a round; the round's number lets all candidates take the same problem of several.
        threads: how many it may use.
        note: goes into its row.
        prepare: readies a round before its clock starts.
    """

    engine: str
    run: Callable[[int], object]
    threads: int = 1
    note: str = ""
    prepare: Callable[[int], object] | None = None


@dataclass(frozen=True)
class Effort:
    """How long to measure: at most ``rounds``; a candidate that has used up ``seconds`` and has done ``least`` rounds
    sits out the rest."""

    rounds: int = 200
    seconds: float = 5.0
    least: int = 5


def _timed(candidate: Candidate, number: int) -> float:
    """Seconds that a round took."""
    if candidate.prepare is not None:
        candidate.prepare(number)
    begin = time.perf_counter()
    candidate.run(number)
    return time.perf_counter() - begin


def measure(candidates: Sequence[Candidate], effort: Effort) -> list[NDArray[np.float64]]:
    """Times [ms] of each candidate's rounds. One or two rounds warm up; garbage is not collected meanwhile."""
    for candidate in candidates:
        if _timed(candidate, 0) < effort.seconds:
            _timed(candidate, 1)
    times: list[list[float]] = [[] for _ in candidates]
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for number in range(effort.rounds):
            for candidate, taken in zip(candidates, times, strict=True):
                if len(taken) >= effort.least and sum(taken) > effort.seconds:
                    continue
                taken.append(_timed(candidate, number))
    finally:
        if collecting:
            gc.enable()
    return [1e3 * np.array(taken) for taken in times]


def compare(work: Work, candidates: Sequence[Candidate], effort: Effort) -> list[Row]:
    """Rows of one work; the first candidate, this project's engine, is what the ratios refer to."""
    times = measure(candidates, effort)
    baseline = float(np.median(times[0]))
    return [
        work.row(candidate.engine, candidate.threads, taken, baseline, candidate.note)
        for candidate, taken in zip(candidates, times, strict=True)
    ]
