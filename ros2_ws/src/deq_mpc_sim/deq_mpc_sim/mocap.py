"""Motion capture as it reaches the controller: frames at a fixed rate, noisy, late, and sometimes missing.

A frame is exposed at k / rate and arrives ``delay`` later. Noise is white: normal per axis on the position, a small
normal rotation vector on the attitude. Dropouts begin at random (``dropout_rate``) and last up to
``dropout_max``, uniformly, and two may adjoin; outages can also be planned. Frames exposed
in either are never delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deq_mpc_sim.parameters import MocapConfig

Array = NDArray[np.float64]

_ROUNDING = 1e-9  # s: so that a frame due now is not missed by rounding


class MocapPose(NamedTuple):
    """One measurement.

    Attributes:
        stamp: exposure time [s].
        arrival: when the controller gets it [s].
        pos: (3,) [m], world frame.
        quat: (4,) xyzw.
    """

    stamp: float
    arrival: float
    pos: Array
    quat: Array


class Mocap:
    """Seeded measurement process over one flight; times must not decrease."""

    def __init__(
        self, config: MocapConfig, rng: np.random.Generator, outages: Sequence[tuple[float, float]] = ()
    ) -> None:
        """A camera system whose first frame is exposed at t = 0.

        Args:
            config: see ``config/world.yaml``.
            rng: source of noise and dropouts.
            outages: planned ones, (begin, end) [s].
        """
        self._config = config
        self._rng = rng
        self._outages = tuple(outages)
        self._frame = 0
        self._under_way: list[MocapPose] = []
        self._dropout = self._next_dropout(0.0)

    def _next_dropout(self, t: float) -> tuple[float, float]:
        """Begin and end [s] of the first random dropout after ``t``."""
        if self._config.dropout_rate <= 0.0:
            return np.inf, np.inf
        begin = t + self._rng.exponential(1.0 / self._config.dropout_rate)
        return begin, begin + self._rng.uniform(0.0, self._config.dropout_max)

    def _is_lost(self, t: float) -> bool:
        while t >= self._dropout[1]:
            self._dropout = self._next_dropout(self._dropout[1])
        return self._dropout[0] <= t or any(begin <= t < end for begin, end in self._outages)

    def step(self, t: float, pos: Array, quat: Array) -> list[MocapPose]:
        """Expose what is due at ``t`` [s] and deliver what has arrived by then, oldest first.

        Frames that became due since the last call see the vehicle as it is now, so call it at least at ``rate``.

        Args:
            t: now.
            pos, quat: true pose now: (3,) and (4,) xyzw.
        """
        while self._frame / self._config.rate <= t + _ROUNDING:
            stamp = self._frame / self._config.rate
            self._frame += 1
            if not self._is_lost(stamp):
                self._under_way.append(self._measure(stamp, pos, quat))
        arrived = [pose for pose in self._under_way if pose.arrival <= t + _ROUNDING]
        self._under_way = self._under_way[len(arrived) :]
        return arrived

    def _measure(self, stamp: float, pos: Array, quat: Array) -> MocapPose:
        """The true pose with noise."""
        noisy = pos + self._rng.normal(0.0, self._config.position_noise, 3)
        half = 0.5 * self._rng.normal(0.0, self._config.rotation_noise, 3)
        turned = _multiply(quat, np.array([*half, np.sqrt(max(1.0 - float(half @ half), 0.0))]))
        return MocapPose(stamp, stamp + self._config.delay, noisy, turned / np.linalg.norm(turned))


def _multiply(a: Array, b: Array) -> Array:
    """Quaternion product a b (4,), xyzw."""
    (ax, ay, az, aw), (bx, by, bz, bw) = a, b
    return np.array(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ]
    )
