"""Where obstacles will be: straight on at their velocity, p(t) = p + t v.

Obstacles are (..., K, 7): x y z radius vx vy vz, see ``Observation``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]
A = TypeVar("A", Array, "Tensor")

MAX_AGE = 0.2
"""Obstacles are moved on for so long after their message [s]; then they are out of date and stand."""


def move(obstacles: Array, elapsed: float) -> Array:
    """The obstacles (..., K, 7) ``elapsed`` [s] later."""
    moved = obstacles.copy()
    moved[..., 0:3] += elapsed * moved[..., 4:7]
    return moved


def extrapolate(obstacles: Array, age: float) -> Array:
    """The obstacles (..., K, 7) of a message that is ``age`` old [s]: never moved back, nor on beyond ``MAX_AGE``."""
    return move(obstacles, min(max(age, 0.0), MAX_AGE))


def centres_at(obstacles: A, elapsed: A) -> A:
    """Centres (..., T, K, 3) of the obstacles (..., K, 7) after the times ``elapsed`` (T,) [s]."""
    return obstacles[..., None, :, 0:3] + elapsed[:, None, None] * obstacles[..., None, :, 4:7]
