"""Where the virtual Crazyflie believes it is: dead reckoning without error from the last external pose.

Until a pose arrives its world begins where it booted, x forward. A position moves that world, a heading turns it;
between poses the estimate follows the true motion. The real one smooths what it is told, and drifts; this does neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.rotations import rpy_from_quat
from deq_mpc_sim.position_control import Motion
from deq_mpc_sim.vehicle import Truth

Array = NDArray[np.float64]


class OnboardEstimate:
    """The transformation from the true world to the estimated one: a turn about the vertical and a shift."""

    def __init__(self, truth: Truth) -> None:
        """An estimate that begins at ``truth``."""
        self.external = np.zeros(7)
        """(7,) the last external pose: position [m], quaternion xyzw."""
        self.reset(truth)

    def reset(self, truth: Truth, pos: Sequence[float] = (0.0, 0.0, 0.0), yaw: float = 0.0) -> None:
        """Believe to be at ``pos`` (3,) [m] with heading ``yaw`` [rad]."""
        self._there, self._here = truth.pos, np.array(pos)
        self.turn = yaw - float(truth.rpy[2])
        """From the true heading to the estimated one [rad]."""

    def motion(self, truth: Truth) -> Motion:
        """The estimate while the vehicle does ``truth``."""
        pos = self._here + self._turned(truth.pos - self._there)
        return Motion(pos, self._turned(truth.vel), math.remainder(float(truth.rpy[2]) + self.turn, 2.0 * math.pi))

    def locate(self, pos: tuple[float, ...], truth: Truth) -> None:
        """Take an external position (3,) [m] if it is one."""
        if all(math.isfinite(value) for value in pos):
            self._there, self._here = truth.pos, np.array(pos)
            self.external[:3] = pos

    def orient(self, quat: tuple[float, ...], truth: Truth) -> None:
        """Take the heading of an external quaternion, xyzw; one that is not finite, or no rotation, means none."""
        norm = math.hypot(*quat)
        if math.isfinite(norm) and norm > 0.5:
            here = self.motion(truth).pos
            self._there, self._here = truth.pos, here
            self.turn = float(rpy_from_quat(quat)[2] - truth.rpy[2])
            self.external[3:] = quat

    def _turned(self, vector: Array) -> Array:
        c, s = math.cos(self.turn), math.sin(self.turn)
        return np.array([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1], vector[2]])
