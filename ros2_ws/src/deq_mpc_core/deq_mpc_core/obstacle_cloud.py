"""Obstacles as the bytes of a sensor_msgs/PointCloud2 with float32 fields x y z radius vx vy vz.

The functions know the message's layout, not its class: they serve rclpy messages and rosbags messages alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deq_mpc_core.errors import UserError

FIELDS = ("x", "y", "z", "radius", "vx", "vy", "vz")
FLOAT32 = 7
"""``sensor_msgs/PointField.FLOAT32``."""
POINT_STEP = 4 * len(FIELDS)
"""Bytes of one obstacle."""


class PointField(Protocol):
    """What is read of a sensor_msgs/PointField."""

    name: str
    offset: int
    datatype: int


class PointCloud2(Protocol):
    """What is read of a sensor_msgs/PointCloud2."""

    height: int
    width: int
    is_bigendian: bool
    point_step: int
    row_step: int

    @property
    def fields(self) -> Iterable[PointField]:
        """Its channels."""
        ...

    @property
    def data(self) -> object:
        """Its bytes."""
        ...


def pack_obstacles(obstacles: ArrayLike) -> bytes:
    """Little-endian ``data`` of a cloud with one point for each of the obstacles (K, 7) [m, m/s]."""
    array = np.asarray(obstacles, dtype="<f4")
    if array.ndim != 2 or array.shape[1] != len(FIELDS):
        raise ValueError(f"obstacles have shape {array.shape}, not (K, {len(FIELDS)})")
    return array.tobytes()


def unpack_obstacles(cloud: PointCloud2) -> NDArray[np.float64]:
    """Obstacles (K, 7) of a cloud, whatever the order of its fields; a field beyond the seven is ignored.

    Raises:
        UserError: if a field is missing or is not float32, or the data is shorter than the header says.
    """
    offsets = {field.name: field.offset for field in cloud.fields if field.datatype == FLOAT32}
    missing = [name for name in FIELDS if name not in offsets]
    if missing:
        raise UserError(f"the obstacle cloud has no float32 field {missing[0]!r}; publish {' '.join(FIELDS)}")
    buffer = np.frombuffer(memoryview(cloud.data), dtype=np.uint8)  # type: ignore[arg-type]
    point_end = 4 + max(offsets[name] for name in FIELDS)
    if (
        buffer.size < cloud.height * cloud.row_step
        or cloud.row_step < cloud.width * cloud.point_step
        or cloud.point_step < point_end
    ):
        raise UserError("the obstacle cloud has less data than its layout says; check its publisher")
    layout = np.dtype(
        {
            "names": list(FIELDS),
            "formats": [">f4" if cloud.is_bigendian else "<f4"] * len(FIELDS),
            "offsets": [offsets[name] for name in FIELDS],
            "itemsize": cloud.point_step,
        }
    )
    rows = buffer[: cloud.height * cloud.row_step].reshape(cloud.height, cloud.row_step)
    points = np.ascontiguousarray(rows[:, : cloud.width * cloud.point_step]).reshape(-1).view(layout)
    return np.stack([points[name] for name in FIELDS], axis=-1).astype(np.float64)
