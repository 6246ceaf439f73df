"""Rotations: R = Rz(yaw) Ry(pitch) Rx(roll), quaternions as xyzw. Leading axes are batch axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def quat_from_rpy(rpy: ArrayLike) -> NDArray[np.float64]:
    """Unit quaternions (..., 4) xyzw of roll, pitch, yaw (..., 3) [rad]."""
    half = 0.5 * np.asarray(rpy, dtype=np.float64)
    (sr, sp, sy), (cr, cp, cy) = np.moveaxis(np.sin(half), -1, 0), np.moveaxis(np.cos(half), -1, 0)
    return np.stack(
        [
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
            cr * cp * cy + sr * sp * sy,
        ],
        axis=-1,
    )


def rpy_from_quat(quat: ArrayLike) -> NDArray[np.float64]:
    """Roll, pitch, yaw (..., 3) [rad] of quaternions (..., 4) xyzw of any non-zero norm; pitch in [-pi/2, pi/2]."""
    q = np.asarray(quat, dtype=np.float64)
    x, y, z, w = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    norm2 = x * x + y * y + z * z + w * w
    rpy = np.empty((*q.shape[:-1], 3))
    rpy[..., 0] = np.arctan2(2.0 * (w * x + y * z), norm2 - 2.0 * (x * x + y * y))
    rpy[..., 1] = np.arcsin(np.minimum(np.maximum(2.0 * (w * y - z * x) / norm2, -1.0), 1.0))
    rpy[..., 2] = np.arctan2(2.0 * (w * z + x * y), norm2 - 2.0 * (y * y + z * z))
    return rpy


def rotate(quat: ArrayLike, vector: ArrayLike) -> NDArray[np.float64]:
    """Vectors (..., 3) turned by unit quaternions (..., 4) xyzw: v + 2 u x (u x v + w v), u = (x, y, z)."""
    q, v = np.asarray(quat, dtype=np.float64), np.asarray(vector, dtype=np.float64)
    u, w = q[..., :3], q[..., 3:]
    turned: NDArray[np.float64] = v + 2.0 * np.cross(u, np.cross(u, v) + w * v)
    return turned
