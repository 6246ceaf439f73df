"""Gusts: a random force on the vehicle, exponentially correlated in time (an Ornstein-Uhlenbeck process).

    F(t + dt) = a F(t) + sqrt(1 - a^2) sigma n,     a = exp(-dt / tau),  n ~ N(0, I)

exact for any dt, with the standard deviation sigma per axis at all times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deq_mpc_sim.parameters import DisturbanceConfig

Array = NDArray[np.float64]


def first_gust(config: DisturbanceConfig, rng: np.random.Generator) -> Array:
    """Force (3,) [N] at the start of a flight."""
    return rng.normal(0.0, config.gust_force, 3)


def next_gust(force: Array, dt: float, config: DisturbanceConfig, rng: np.random.Generator) -> Array:
    """Force (3,) [N] ``dt`` after it was ``force``."""
    keep = np.exp(-dt / config.gust_time)
    return np.asarray(keep * force + np.sqrt(1.0 - keep**2) * rng.normal(0.0, config.gust_force, 3))


class GustForce:
    """The gust force (3,) [N] at increasing times [s]."""

    def __init__(self, config: DisturbanceConfig, rng: np.random.Generator) -> None:
        self._config, self._rng = config, rng
        self._t, self._force = 0.0, first_gust(config, rng)

    def __call__(self, t: float) -> Array:
        """At ``t`` [s]."""
        if t > self._t:
            self._force = next_gust(self._force, t - self._t, self._config, self._rng)
            self._t = t
        return self._force
