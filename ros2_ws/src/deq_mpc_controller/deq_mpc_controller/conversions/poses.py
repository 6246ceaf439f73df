"""External positions and poses for the on-board estimator: payloads of the localization port (CRTP port 6).

A position goes on channel 0, a pose on channel 1 behind its type. World frame, m; quaternions xyzw; ROS signs. Of a
pose whose quaternion is not finite only the position is known.
"""

from __future__ import annotations

from struct import Struct

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

EXTPOSE = 8
"""Type of an external pose on channel 1."""
_POSITION, _POSE = Struct("<3f"), Struct("<B7f")


def encode_extpos(pos: ArrayLike) -> bytes:
    """Payload of an external position (3,) [m]."""
    return _POSITION.pack(*np.asarray(pos, dtype=np.float64))


def decode_extpos(payload: bytes) -> Array | None:
    """The external position (3,) [m] in a payload of channel 0; None if it is too short for one."""
    return np.array(_POSITION.unpack_from(payload)) if len(payload) >= _POSITION.size else None


def encode_extpose(pos: ArrayLike, quat: ArrayLike) -> bytes:
    """Payload of an external pose: pos (3,) [m], quat (4,) xyzw."""
    return _POSE.pack(EXTPOSE, *np.asarray(pos, dtype=np.float64), *np.asarray(quat, dtype=np.float64))


def decode_extpose(payload: bytes) -> tuple[Array, Array] | None:
    """Position (3,) [m] and quaternion (4,) xyzw in a payload of channel 1; None if it is no external pose."""
    if len(payload) < _POSE.size or payload[0] != EXTPOSE:
        return None
    values = np.array(_POSE.unpack_from(payload)[1:])
    return values[:3], values[3:]
