"""A rotation in 32 bits, as full-state setpoints carry it (the firmware's quatcompress.h).

The largest component goes unsent: its index takes 2 bits, and q is negated where that makes it positive, for q and -q
are the same rotation. Each of the other three, in the order x y z w, takes a sign bit and 9 bits of its magnitude over
1/sqrt(2), the most that a second-largest component can be.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MAGNITUDE = (1 << 9) - 1
_LARGEST_OTHER = sqrt(0.5)


def compress_quat(quat: ArrayLike) -> int:
    """The 32 bits of a quaternion (4,) xyzw of any non-zero norm; the nearest magnitudes."""
    q = np.asarray(quat, dtype=np.float64)
    q = q / np.linalg.norm(q)
    largest = int(np.argmax(np.abs(q)))
    bits = largest
    for index, value in enumerate(q):
        if index != largest:
            negative = (value < 0.0) ^ (q[largest] < 0.0)
            bits = bits << 10 | int(negative) << 9 | int(_MAGNITUDE * abs(float(value)) / _LARGEST_OTHER + 0.5)
    return bits


def decompress_quat(bits: int) -> NDArray[np.float64]:
    """The quaternion (4,) xyzw of 32 bits; of unit norm for whatever ``compress_quat`` gives."""
    q = np.zeros(4)
    largest = bits >> 30
    for index in (3, 2, 1, 0):
        if index != largest:
            magnitude = _LARGEST_OTHER * (bits & _MAGNITUDE) / _MAGNITUDE
            q[index] = -magnitude if bits & (_MAGNITUDE + 1) else magnitude
            bits >>= 10
    q[largest] = sqrt(max(0.0, 1.0 - float(q @ q)))
    return q
