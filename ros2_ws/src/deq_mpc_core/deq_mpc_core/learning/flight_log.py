"""A recorded flight as training reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """Samples over time: ``t`` (n,) [s] increasing, ``values`` (n, ...)."""

    t: Array
    values: Array


@dataclass(frozen=True)
class Span:
    """A part of a flight without gaps, towards one goal (3,) [m]; seconds on the flight's clock."""

    start: float
    end: float
    goal: Array


@dataclass(frozen=True)
class FlightLog:
    """One flight; times in seconds from ``start_ns``, the stamp of the first pose.

    Attributes:
        pose: (n, 7) position [m] and quaternion xyzw.
        thrust: (m,) collective thrust that was commanded [N]; None: the bag does not say.
        cloud_t: (c,) stamps of the obstacle messages; ``clouds``: their obstacles, each (K, 7).
        plans: expert's plans, positions (p, 3) [m]; the first stamp is the state that the plan starts from.
        spans: what can be used.
        own: everything that counts in it is on this stack's own topics.
    """

    source: Path
    start_ns: int
    pose: Series
    thrust: Series | None
    cloud_t: Array
    clouds: tuple[Array, ...]
    plans: tuple[Series, ...]
    spans: tuple[Span, ...]
    own: bool
