"""Every setpoint and external pose, against the bytes that the real cflib puts on the wire for it."""

import warnings
from math import degrees, inf, nan, pi
from types import SimpleNamespace

import numpy as np
import pytest
from cflib.crazyflie.commander import Commander
from cflib.crazyflie.localization import Localization
from cflib.utils.encoding import compress_quaternion, decompress_quaternion
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_controller import conversions as cv
from deq_mpc_core.policy.interface import Command

PLATFORMS = [
    ("cf21_plus", "2025.09"),
    ("cf21_plus", "2026.04"),
    ("cf21_legacy_props", "2024.10"),
    ("cf21_legacy_props", "2025.09"),
    ("cf21_legacy_props", "2026.04"),
    ("cf21_upgrade_kit", "2025.09"),
    ("cf21_upgrade_kit", "2026.04"),
    ("cf21_brushless", "2026.04"),
]
angles, rates, metres = st.floats(-1.4, 1.4), st.floats(-20.0, 20.0), st.floats(-30.0, 30.0)
vectors = st.tuples(metres, metres, metres)
components = st.floats(-1.0, 1.0)
quats = st.tuples(components, components, components, components).filter(lambda q: np.linalg.norm(q) > 0.1)
quick = settings(max_examples=40, deadline=None)


class Wire:
    """What the real cflib sends, and to which port and channel, on a link that is none."""

    def __init__(self, protocol: int = 12) -> None:
        self.packets: list = []
        crazyflie = SimpleNamespace(
            send_packet=self.packets.append,
            platform=SimpleNamespace(get_protocol_version=lambda: protocol),
            add_port_callback=lambda _port, _callback: None,
        )
        self.commander, self.localization = Commander(crazyflie), Localization(crazyflie)

    def sent(self, port: int, channel: int) -> bytes:
        """Data of the one packet, which went to this port and channel."""
        (packet,) = self.packets
        assert (packet.port, packet.channel) == (port, channel)
        return bytes(packet.data)


def assert_same(setpoint: cv.GenericSetpoint, data: bytes, tolerance: float = 1e-5) -> None:
    """Encoding gives the bytes of cflib, and decoding them the setpoint."""
    assert cv.encode_setpoint(setpoint) == data
    back = cv.decode_setpoint(data)
    assert type(back) is type(setpoint)
    for value, wanted in zip(back, setpoint, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-6, atol=tolerance)


@pytest.mark.parametrize(("platform", "firmware"), PLATFORMS)
def test_forces_survive_the_wire_on_every_platform(platform: str, firmware: str) -> None:
    thrust_map = cv.load_thrust_map(platform, firmware)
    resolution = thrust_map.force_max / cv.THRUST_CLIP
    for share in np.linspace(0.0, 1.0, 41):
        force = float(share) * thrust_map.force_max
        wire = Wire()
        wire.commander.send_setpoint(*cv.rpyt_from_command(Command(0.0, 0.0, 0.0, force), thrust_map))
        received = cv.command_from_packet(wire.sent(3, 0), thrust_map).thrust
        if force >= cv.THRUST_DEAD_ZONE * resolution:
            assert received == pytest.approx(force, abs=0.51 * resolution)
        else:
            assert received == 0.0


def test_stop() -> None:
    wire = Wire()
    wire.commander.send_stop_setpoint()
    assert_same(cv.Stop(), wire.sent(7, 0))


@quick
@given(vel=vectors, yaw_rate=rates)
def test_velocity_world(vel: tuple[float, float, float], yaw_rate: float) -> None:
    wire = Wire()
    wire.commander.send_velocity_world_setpoint(*vel, degrees(yaw_rate))
    assert_same(cv.VelocityWorld(*vel, yaw_rate), wire.sent(7, 0))


@quick
@given(roll=angles, pitch=angles, yaw_rate=rates, height=metres)
def test_z_distance(roll: float, pitch: float, yaw_rate: float, height: float) -> None:
    wire = Wire()
    wire.commander.send_zdistance_setpoint(degrees(roll), -degrees(pitch), degrees(yaw_rate), height)
    assert_same(cv.ZDistance(roll, pitch, yaw_rate, height), wire.sent(7, 0))


@quick
@given(vel=vectors, yaw_rate=rates)
def test_hover(vel: tuple[float, float, float], yaw_rate: float) -> None:
    forward, left, height = vel
    wire = Wire()
    wire.commander.send_hover_setpoint(forward, left, degrees(yaw_rate), height)
    assert_same(cv.Hover(forward, left, yaw_rate, height), wire.sent(7, 0))


@quick
@given(pos=vectors, yaw=st.floats(-pi, pi))
def test_position(pos: tuple[float, float, float], yaw: float) -> None:
    wire = Wire()
    wire.commander.send_position_setpoint(*pos, degrees(yaw))
    assert_same(cv.Position(*pos, yaw), wire.sent(7, 0))


@quick
@given(roll=angles, pitch=angles, yaw_rate=rates, percent=st.floats(0.0, 100.0), body_rates=st.booleans())
def test_manual(roll: float, pitch: float, yaw_rate: float, percent: float, body_rates: bool) -> None:
    wire = Wire()
    wire.commander.send_setpoint_manual(degrees(roll), degrees(pitch), degrees(yaw_rate), percent, body_rates)
    data = wire.sent(7, 0)
    thrust = cv.decode_setpoint(data).thrust
    assert thrust == pytest.approx(10001 + 499.99 * percent, abs=1.0)
    assert_same(cv.Manual(roll, pitch, yaw_rate, thrust, body_rates), data)


@quick
@given(pos=vectors, vel=vectors, acc=vectors, quat=quats, body_rates=vectors)
def test_full_state(pos: tuple, vel: tuple, acc: tuple, quat: tuple, body_rates: tuple) -> None:
    wire = Wire()
    wire.commander.send_full_state_setpoint(pos, vel, acc, quat, *body_rates)
    data = wire.sent(7, 0)
    setpoint = cv.FullState(pos, vel, acc, quat, body_rates)
    assert cv.encode_setpoint(setpoint) == data
    back = cv.decode_setpoint(data)
    for value, wanted in zip((back.pos, back.vel, back.acc, back.body_rates), (pos, vel, acc, body_rates), strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-3)
    same = abs(np.dot(back.quat, quat)) / np.linalg.norm(quat)
    assert same == pytest.approx(1.0, abs=1e-5)  # q and -q are one rotation; 9 bits a component


def test_full_state_numbers_saturate() -> None:
    far = cv.FullState((1e3, -1e3, 0.0), (0.0,) * 3, (0.0,) * 3, (0.0, 0.0, 0.0, 1.0), (0.0,) * 3)
    assert cv.decode_setpoint(cv.encode_setpoint(far)).pos == (32.767, -32.767, 0.0)


@pytest.mark.parametrize("call", ["velocity_world", "zdistance", "hover"])
def test_the_kinds_of_old_firmware_mean_the_same(call: str) -> None:
    arguments = {
        "velocity_world": (0.1, 0.2, 0.3, 40.0),
        "zdistance": (5.0, 6.0, 40.0, 1.0),
        "hover": (0.1, 0.2, 40.0, 1.0),
    }
    old, new = Wire(protocol=8), Wire(protocol=9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for wire in (old, new):
            getattr(wire.commander, f"send_{call}_setpoint")(*arguments[call])
    assert old.sent(7, 0) != new.sent(7, 0)
    assert cv.decode_setpoint(old.sent(7, 0)) == cv.decode_setpoint(new.sent(7, 0))


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=30))
def test_arbitrary_bytes_are_a_setpoint_or_none(data: bytes) -> None:
    setpoint = cv.decode_setpoint(data)
    if setpoint is None:
        return
    assert data[0] in (0, 1, 2, 5, 6, 7, 8, 9, 10, 11)
    assert cv.decode_setpoint(data + b"\0") is None


@quick
@given(quat=quats)
def test_compressed_quaternions_are_those_of_cflib(quat: tuple[float, float, float, float]) -> None:
    bits = cv.compress_quat(quat)
    assert bits == compress_quaternion(quat)
    np.testing.assert_allclose(cv.decompress_quat(bits), decompress_quaternion(bits), atol=1e-15)


@settings(max_examples=200, deadline=None)
@given(bits=st.integers(0, 2**32 - 1))
def test_any_32_bits_are_a_finite_quaternion(bits: int) -> None:
    assert np.isfinite(cv.decompress_quat(bits)).all()


@quick
@given(pos=vectors, quat=quats)
def test_external_poses(pos: tuple[float, float, float], quat: tuple[float, float, float, float]) -> None:
    wire = Wire()
    wire.localization.send_extpose(pos, quat)
    data = wire.sent(6, 1)
    assert cv.encode_extpose(pos, quat) == data
    back = cv.decode_extpose(data)
    np.testing.assert_allclose(back[0], pos, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(back[1], quat, rtol=1e-6, atol=1e-30)


@quick
@given(pos=vectors)
def test_external_positions(pos: tuple[float, float, float]) -> None:
    wire = Wire()
    wire.localization.send_extpos(pos)
    data = wire.sent(6, 0)
    assert cv.encode_extpos(pos) == data
    np.testing.assert_allclose(cv.decode_extpos(data), pos, rtol=1e-6, atol=1e-30)


def test_what_is_no_external_pose_is_none() -> None:
    pose = cv.encode_extpose((nan, inf, 0.0), (0.0, 0.0, 0.0, nan))
    assert cv.decode_extpose(pose) is not None
    assert cv.decode_extpose(b"\3" + pose[1:]) is None
    assert cv.decode_extpose(pose[:-1]) is None
    assert cv.decode_extpose(b"") is None
    assert cv.decode_extpos(b"\0" * 11) is None
