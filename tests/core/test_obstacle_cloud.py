"""Obstacles in PointCloud2 messages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deq_mpc_core.errors import UserError
from deq_mpc_core.obstacle_cloud import FIELDS, FLOAT32, POINT_STEP, pack_obstacles, unpack_obstacles


def cloud(obstacles: np.ndarray, **changes: Any) -> Any:
    fields = [SimpleNamespace(name=name, offset=4 * i, datatype=FLOAT32) for i, name in enumerate(FIELDS)]
    layout: dict[str, Any] = {
        "height": 1,
        "width": len(obstacles),
        "is_bigendian": False,
        "point_step": POINT_STEP,
        "row_step": POINT_STEP * len(obstacles),
        "fields": fields,
        "data": pack_obstacles(obstacles),
    }
    return SimpleNamespace(**{**layout, **changes})


@pytest.mark.parametrize("count", [0, 1, 40])
def test_round_trip(count: int) -> None:
    obstacles = np.random.default_rng(0).normal(size=(count, 7))
    np.testing.assert_array_equal(unpack_obstacles(cloud(obstacles)), obstacles.astype(np.float32))


def test_other_order_padding_and_endianness() -> None:
    obstacles = np.random.default_rng(1).normal(size=(3, 7)).astype(np.float32)
    order = [6, 2, 0, 5, 1, 4, 3]
    fields = [SimpleNamespace(name=FIELDS[j], offset=4 * i + 4, datatype=FLOAT32) for i, j in enumerate(order)]
    data = np.zeros((3, 9), ">f4")
    data[:, 1:8] = obstacles[:, order]
    message = cloud(obstacles, fields=fields, point_step=36, row_step=108, data=data.tobytes(), is_bigendian=True)
    np.testing.assert_array_equal(unpack_obstacles(message), obstacles)


def test_refuses_what_does_not_fit() -> None:
    obstacles = np.zeros((2, 7))
    with pytest.raises(UserError, match="no float32 field 'vz'"):
        unpack_obstacles(cloud(obstacles, fields=cloud(obstacles).fields[:-1]))
    with pytest.raises(UserError, match="less data"):
        unpack_obstacles(cloud(obstacles, data=b"\0" * 40))
    with pytest.raises(UserError, match="less data"):
        unpack_obstacles(cloud(obstacles, point_step=8, row_step=16))
    with pytest.raises(ValueError, match=r"shape \(2, 6\)"):
        pack_obstacles(np.zeros((2, 6)))
