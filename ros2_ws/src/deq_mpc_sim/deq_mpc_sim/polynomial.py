"""Piecewise polynomials of degree 7 in x, y, z and yaw: the high-level commander's trajectories.

A piece is sum_k c_k t^k, t in [0, duration]. A planned one starts and ends with given position, velocity and
acceleration and without jerk, which determines it. Uploaded ones come as coefficients, or compressed, as Bezier control
points.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import comb, inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ORDER = 8  # coefficients of a polynomial
_PIECE = struct.Struct("<33f")  # 8 coefficients each of x, y, z, yaw; duration [s]
_START = struct.Struct("<4h")
_CONTROL_POINTS = (0, 1, 3, 7)  # beside the first, by storage type
_STEPS = np.array([1e-3, 1e-3, 1e-3, np.pi / 1800.0])  # of compressed coordinates: mm and tenths of a degree
SHORTEST, LONGEST = 1e-3, 1e4  # s: of what is planned or uploaded
_COEFFICIENT_LIMIT = 1e12  # with it and the longest duration no power overflows
_END_CONDITIONS = np.array([[1, 1, 1, 1], [4, 5, 6, 7], [12, 20, 30, 42], [24, 60, 120, 210]], dtype=np.float64)
"""Value and first three derivatives at s = 1 of s^4 .. s^7."""


class Knot(NamedTuple):
    """Where a trajectory is: x, y, z [m], yaw [rad] and their first two derivatives, (4,) each."""

    value: Array
    rate: Array
    acceleration: Array


class Piece(NamedTuple):
    """Coefficients (4, 8), ascending, of x, y, z, yaw over time [s], and the duration [s]."""

    coefficients: Array
    duration: float

    def at(self, t: float) -> Knot:
        """The knot at ``t`` [s] since the piece began."""
        c, values = self.coefficients, []
        for _ in range(3):
            values.append(c @ t ** np.arange(c.shape[1]))
            c = c[:, 1:] * np.arange(1, c.shape[1])
        return Knot(*values)


def at_rest(value: Array) -> Knot:
    """A knot without motion."""
    return Knot(np.asarray(value, dtype=np.float64), np.zeros(4), np.zeros(4))


def plan(start: Knot, end: Knot, duration: float) -> Piece:
    """The piece from ``start`` to ``end`` in at most ``LONGEST``; with no time to do it in, it is there at once."""
    duration = min(duration, LONGEST)
    if duration < SHORTEST:
        return Piece(np.column_stack([end.value, np.zeros((4, _ORDER - 1))]), 0.0)
    # In s = t / duration, where derivatives scale with the duration.
    c0, c1, c2 = start.value, duration * start.rate, 0.5 * duration**2 * start.acceleration
    missing = np.stack(
        [
            end.value - (c0 + c1 + c2),
            duration * end.rate - (c1 + 2.0 * c2),
            duration**2 * end.acceleration - 2.0 * c2,
            np.zeros(4),
        ]
    )
    tail = np.linalg.solve(_END_CONDITIONS, missing)
    scaled = np.column_stack([c0, c1, c2, np.zeros(4), *tail])
    return Piece(scaled / duration ** np.arange(_ORDER), duration)


def read_pieces(memory: bytes, offset: int, count: int) -> list[Piece]:
    """``count`` uncompressed pieces at ``offset``; empty if they are not all there, or absurd."""
    if count <= 0 or offset + count * _PIECE.size > len(memory):
        return []
    rows = np.array([_PIECE.unpack_from(memory, offset + i * _PIECE.size) for i in range(count)])
    sound = np.all(np.abs(rows) < _COEFFICIENT_LIMIT) and np.all((rows[:, -1] >= 0.0) & (rows[:, -1] <= LONGEST))
    return [Piece(row[:-1].reshape(4, _ORDER), float(row[-1])) for row in rows] if sound else []


def read_compressed(memory: bytes, offset: int) -> list[Piece]:
    """The compressed pieces at ``offset``, up to one without duration; empty if the memory ends before that."""
    pieces: list[Piece] = []
    try:
        here = _STEPS * _START.unpack_from(memory, offset)
        offset += _START.size
        while True:
            kinds, milliseconds = struct.unpack_from("<BH", memory, offset)
            offset += 3
            if milliseconds == 0:
                return pieces or [Piece(here[:, np.newaxis], 0.0)]
            rows = []
            for axis in range(4):
                shape = struct.Struct(f"<{_CONTROL_POINTS[kinds >> (2 * axis) & 3]}h")
                points = [here[axis], *(_STEPS[axis] * np.array(shape.unpack_from(memory, offset)))]
                rows.append(_from_bezier(points, 1e-3 * milliseconds))
                here[axis] = points[-1]
                offset += shape.size
            pieces.append(Piece(np.array(rows), 1e-3 * milliseconds))
    except struct.error:
        return []


def _from_bezier(points: Sequence[float], duration: float) -> Array:
    """Coefficients (8,) of a Bezier curve: c_j = C(n, j) sum_i (-1)^(i + j) C(j, i) p_i, over s = t / duration."""
    degree = len(points) - 1
    coefficients = np.zeros(_ORDER)
    for j in range(degree + 1):
        coefficients[j] = comb(degree, j) * sum((-1) ** (i + j) * comb(j, i) * points[i] for i in range(j + 1))
    return coefficients / duration ** np.arange(_ORDER)


class Trajectory(NamedTuple):
    """Pieces in a row, perhaps stretched, reversed, turned and shifted.

    Attributes:
        begin: when it starts [s].
        scale: 2 is half as fast.
        shift: (3,) [m], after turning by ``turn`` [rad] about the origin.
    """

    pieces: tuple[Piece, ...]
    begin: float = -inf
    scale: float = 1.0
    backwards: bool = False
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn: float = 0.0

    @property
    def duration(self) -> float:
        """In all [s]."""
        return self.scale * sum(piece.duration for piece in self.pieces)

    def at(self, t: float) -> Knot:
        """The knot at ``t`` [s]: after the end, at rest there."""
        elapsed = max(t - self.begin, 0.0)
        over = elapsed >= self.duration
        left = min(elapsed, self.duration) / self.scale
        knot = self._locate(sum(piece.duration for piece in self.pieces) - left if self.backwards else left)
        speed = (-1.0 if self.backwards else 1.0) / self.scale
        knot = Knot(knot.value, speed * knot.rate, speed**2 * knot.acceleration)
        return self._placed(at_rest(knot.value) if over else knot)

    def _locate(self, t: float) -> Knot:
        """The knot ``t`` [s] after the beginning of the unscaled pieces."""
        for piece in self.pieces[:-1]:
            if t < piece.duration:
                return piece.at(t)
            t -= piece.duration
        return self.pieces[-1].at(min(t, self.pieces[-1].duration))

    def _placed(self, knot: Knot) -> Knot:
        c, s = np.cos(self.turn), np.sin(self.turn)
        turn = np.array([[c, -s, 0.0, 0.0], [s, c, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
        return Knot(turn @ knot.value + [*self.shift, self.turn], turn @ knot.rate, turn @ knot.acceleration)
