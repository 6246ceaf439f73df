"""Roll, pitch, yaw and quaternions."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_core.rotations import quat_from_rpy, rotate, rpy_from_quat

angle = st.floats(-3.1, 3.1)


@settings(max_examples=50, deadline=None)
@given(angle, st.floats(-1.5, 1.5), angle, st.floats(0.1, 10.0), st.sampled_from([-1.0, 1.0]))
def test_round_trip_for_any_norm_and_sign(roll: float, pitch: float, yaw: float, norm: float, sign: float) -> None:
    quat = sign * norm * quat_from_rpy([roll, pitch, yaw])
    np.testing.assert_allclose(rpy_from_quat(quat), [roll, pitch, yaw], atol=1e-9)


def test_quaternions_rotate_as_the_convention_says() -> None:
    half = np.sqrt(0.5)
    np.testing.assert_allclose(quat_from_rpy([np.pi / 2, 0, 0]), [half, 0, 0, half], atol=1e-15)
    np.testing.assert_allclose(quat_from_rpy([0, np.pi / 2, 0]), [0, half, 0, half], atol=1e-15)
    np.testing.assert_allclose(quat_from_rpy([0, 0, np.pi / 2]), [0, 0, half, half], atol=1e-15)
    # R = Rz Ry Rx: body x after a yaw of 90 deg and a pitch of 30 deg lies in the yz plane, below the horizon
    x, y, z, w = quat_from_rpy([0.0, np.pi / 6, np.pi / 2])
    body_x = [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)]
    np.testing.assert_allclose(body_x, [0.0, np.cos(np.pi / 6), -0.5], atol=1e-15)
    np.testing.assert_allclose(rotate([x, y, z, w], [1.0, 0.0, 0.0]), body_x, atol=1e-15)
    np.testing.assert_allclose(rotate([-x, -y, -z, w], body_x), [1.0, 0.0, 0.0], atol=1e-15)


def test_batches_keep_their_axes() -> None:
    rpy = np.random.default_rng(0).uniform(-1.0, 1.0, (2, 5, 3))
    np.testing.assert_allclose(rpy_from_quat(quat_from_rpy(rpy)), rpy, atol=1e-12)
