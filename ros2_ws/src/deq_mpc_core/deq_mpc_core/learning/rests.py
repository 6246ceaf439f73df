"""Goals of a flight that nobody wrote down: where the vehicle came to rest in the air is where it was to go.

That is learning from hindsight (Andrychowicz et al., "Hindsight Experience Replay", NeurIPS 2017): a flight that stops
anywhere shows how to get there.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.config import Config, in_unit
from deq_mpc_core.learning.intervals import Interval, join_flagged, remove_short
from deq_mpc_core.learning.local_polynomial import fit_local_polynomial

Array = NDArray[np.float64]
_STEP = 0.05  # s: between two looks at the speed
_WINDOW = 0.3  # s: over which it is measured, so that the noise of a hover does not count


class RestConfig(Config):
    """What counts as a rest in the air."""

    rest_speed: Annotated[float, in_unit("m/s")]
    rest_time: Annotated[float, in_unit("s")]
    rest_height: Annotated[float, in_unit("m")]


class Leg(NamedTuple):
    """A way from one rest to the next, and where that is (3,) [m]."""

    interval: Interval
    goal: Array


def find_legs(t: Array, pos: Array, config: RestConfig) -> Iterator[Leg]:
    """The legs of a flight with positions ``pos`` (n, 3) at ``t`` (n,); the first begins when it is up.

    Each ends a moment after the vehicle came to rest, so that long hovers do not outweigh the ways.
    """
    look = np.arange(t[0], t[-1], _STEP)
    smoothed, velocity = fit_local_polynomial(t, pos, look, _WINDOW)
    up = smoothed[:, 2] >= config.rest_height
    at_rest = up & (np.linalg.norm(velocity, axis=1) < config.rest_speed)
    rests = remove_short(join_flagged(look, at_rest), config.rest_time)
    if not rests:
        return
    begin = max([t[0], *(look[~up & (look < rests[0].start)] + _STEP)])
    for before, rest in pairwise([Interval(begin, begin), *rests]):
        goal = smoothed[(look >= rest.start) & (look <= rest.end)].mean(axis=0)
        yield Leg(Interval(float(before.end), rest.start + config.rest_time), goal)
