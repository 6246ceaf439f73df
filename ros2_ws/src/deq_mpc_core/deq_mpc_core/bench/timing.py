"""Side-by-side timing: every round runs every candidate once, so that a busy moment of the machine hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.bench.row import Row, Work


@dataclass(frozen=True)
class Candidate:
    """One way to do a work.

    Attributes:
        engine: its name in the row.
        run: does the work of a round; the round's number lets all candidates take the same case of several.
        threads: how many it may use.
        note: goes into its row.
        prepare: readies a round before its clock starts.
        reached: (cases,) the work's cases whose right answer it finds; None: all. Times of others do not count.
    """

    engine: str
    run: Callable[[int], object]
    threads: int = 1
    note: str = ""
    prepare: Callable[[int], object] | None = None
    reached: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Effort:
    """How long to measure one work: until there are ``rounds``, or ``seconds`` have passed and there are ``least``."""

    rounds: int = 200
    seconds: float = 20.0
    least: int = 5


def _timed(candidate: Candidate, number: int) -> float:
    """Seconds that a round took."""
    if candidate.prepare is not None:
        candidate.prepare(number)
    begin = time.perf_counter()
    candidate.run(number)
    return time.perf_counter() - begin


def _sweeps(effort: Effort, cases: int) -> Iterator[int]:
    """The numbers of the rounds to take: whole sweeps over all cases."""
    begin, done = time.perf_counter(), 0
    while done < effort.rounds and (done < effort.least or time.perf_counter() - begin < effort.seconds):
        yield from range(done, done + cases)
        done += cases


def measure(candidates: Sequence[Candidate], effort: Effort, cases: int = 1) -> list[NDArray[np.float64]]:
    """Times [ms] (rounds,) of each candidate, all in the same rounds; round r takes case r % cases, each case as often.

    One or two rounds warm up; garbage is not collected meanwhile.
    """
    for candidate in candidates:
        if _timed(candidate, 0) < effort.seconds:
            _timed(candidate, 1)
    times: list[list[float]] = [[] for _ in candidates]
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for number in _sweeps(effort, cases):
            for candidate, taken in zip(candidates, times, strict=True):
                taken.append(_timed(candidate, number))
    finally:
        if collecting:
            gc.enable()
    return [1e3 * np.array(taken) for taken in times]


def compare(work: Work, candidates: Sequence[Candidate], effort: Effort) -> list[Row]:
    """Rows of one work; the first candidate, this project's engine, is what the ratios refer to.

    A candidate's figures are over the cases that it and the first candidate got right, its ratio over the same rounds.
    """
    times = measure(candidates, effort, work.cases)
    case = np.arange(len(times[0])) % work.cases
    first = _reached(candidates[0], work.cases)
    rows = []
    for candidate, taken in zip(candidates, times, strict=True):
        counts = (first & _reached(candidate, work.cases))[case]
        baseline = float(np.median(times[0][counts])) if counts.any() else np.nan
        rows.append(work.row(candidate.engine, candidate.threads, taken[counts], baseline, candidate.note))
    return rows


def _reached(candidate: Candidate, cases: int) -> NDArray[np.bool_]:
    return np.ones(cases, dtype=bool) if candidate.reached is None else candidate.reached
