"""Sorted, disjoint intervals of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Interval(NamedTuple):
    """Closed interval [start, end] in seconds."""

    start: float
    end: float


def join_stamps(t: NDArray[np.float64], max_gap: float) -> list[Interval]:
    """The intervals that increasing stamps ``t`` (n,) cover where no step is longer than ``max_gap``."""
    breaks = np.flatnonzero(np.diff(t) > max_gap)
    firsts, lasts = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [len(t) - 1]])
    return [Interval(float(t[i]), float(t[j])) for i, j in zip(firsts, lasts, strict=True)]


def join_flagged(t: NDArray[np.float64], flags: NDArray[np.bool_]) -> list[Interval]:
    """The intervals between stamps ``t`` (n,) whose neighbours are all flagged (n,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return [Interval(float(t[i]), float(t[j - 1])) for i, j in zip(edges[::2], edges[1::2], strict=True)]


def intersect(a: Sequence[Interval], b: Sequence[Interval]) -> list[Interval]:
    """Where both are, without intervals of no length."""
    overlaps = [Interval(max(p.start, q.start), min(p.end, q.end)) for p in a for q in b]
    return sorted(overlap for overlap in overlaps if overlap.start < overlap.end)


def remove_short(intervals: Sequence[Interval], min_length: float) -> list[Interval]:
    """The intervals that last at least ``min_length``."""
    return [interval for interval in intervals if interval.end - interval.start >= min_length]
