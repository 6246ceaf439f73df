"""Side-by-side timing: every round runs every candidate once, so that a busy moment of the machine hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.bench.row import Row, Work

_WARM_UP = 2
_LEAST_ROUNDS = 5


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
    """How long to measure: at most ``rounds``, and a candidate that has used up ``seconds`` sits out the rest."""

    rounds: int = 200
    seconds: float = 5.0


def _timed(candidate: Candidate, number: int) -> float:
    """Seconds that a round took."""
    if candidate.prepare is not None:
        candidate.prepare(number)
    begin = time.perf_counter()
    candidate.run(number)
    return time.perf_counter() - begin


def measure(candidates: Sequence[Candidate], effort: Effort) -> list[NDArray[np.float64]]:
    """Times [ms] of each candidate's rounds; warm-up rounds are excluded, and no garbage is collected meanwhile."""
    for number in range(_WARM_UP):
        for candidate in candidates:
            _timed(candidate, number)
    times: list[list[float]] = [[] for _ in candidates]
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for number in range(effort.rounds):
            for candidate, taken in zip(candidates, times, strict=True):
                if len(taken) >= _LEAST_ROUNDS and sum(taken) > effort.seconds:
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
