"""Signs and units at the border to the Crazyflie: round trips, pitch first, down to the bytes that cflib sends."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from cflib.crazyflie.commander import Commander
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_controller import conversions as cv
from deq_mpc_core.errors import UserError
from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.policy.interface import Command
from deq_mpc_core.rotations import quat_from_rpy, rpy_from_quat

MAP = cv.load_thrust_map("cf21_legacy_props", "2026.04")
angles = st.floats(-1.4, 1.4)
rates = st.floats(-20.0, 20.0)
triples = st.tuples(angles, angles, st.floats(-3.1, 3.1))
rate_triples = st.tuples(rates, rates, rates)
commands = st.builds(Command, angles, angles, rates, st.floats(0.02, MAP.force_max))
quick = settings(max_examples=50, deadline=None)


def sent_bytes(rpyt: cv.Rpyt) -> bytes:
    """Payload that the real cflib puts on the wire for one setpoint."""
    sent = []
    Commander(SimpleNamespace(send_packet=sent.append)).send_setpoint(*rpyt)
    assert sent[0].port == 3
    assert sent[0].channel == 0
    return bytes(sent[0].data)


@quick
@given(pitch=angles)
def test_pitch_survives_the_setpoint_and_the_log(pitch: float) -> None:
    command = Command(0.0, pitch, 0.0, 0.3)
    rpyt = cv.rpyt_from_command(command, MAP)
    assert rpyt.pitch == pytest.approx(math.degrees(pitch))
    wire_pitch = cv.SETPOINT_PACKET.unpack(sent_bytes(rpyt))[1]
    assert wire_pitch == pytest.approx(-math.degrees(pitch), rel=1e-6, abs=1e-30)
    assert cv.log_from_rpy([0.0, pitch, 0.0])[1] == pytest.approx(-math.degrees(pitch))
    assert cv.rpy_from_log(*cv.log_from_rpy([0.0, pitch, 0.0]))[1] == pytest.approx(pitch)


def test_positive_pitch_is_nose_down_and_moves_forward() -> None:
    x, y, z, w = quat_from_rpy([0.0, 0.2, 0.0])
    thrust_direction = np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
    assert thrust_direction[0] == pytest.approx(math.sin(0.2))
    assert thrust_direction[1] == 0.0


def test_yaw_rate_is_clockwise_for_cflib() -> None:
    assert cv.rpyt_from_command(Command(0.0, 0.0, 1.0, 0.0), MAP).yaw_rate == pytest.approx(-math.degrees(1.0))


def test_roll_keeps_its_sign() -> None:
    assert cv.rpyt_from_command(Command(0.3, 0.0, 0.0, 0.0), MAP).roll == pytest.approx(math.degrees(0.3))


@quick
@given(command=commands)
def test_command_survives_cflib_and_the_wire(command: Command) -> None:
    rpyt = cv.rpyt_from_command(command, MAP)
    resolution = MAP.force_at_full / cv.THRUST_FULL
    assert cv.packet_from_rpyt(rpyt) == sent_bytes(rpyt)
    for back in (cv.command_from_rpyt(rpyt, MAP), cv.command_from_packet(sent_bytes(rpyt), MAP)):
        np.testing.assert_allclose(back[:3], command[:3], rtol=1e-6, atol=1e-30)
        assert back.thrust == pytest.approx(command.thrust, abs=resolution)


@quick
@given(rpyt=st.builds(cv.Rpyt, rates, rates, rates, st.integers(cv.THRUST_DEAD_ZONE, cv.THRUST_CLIP)))
def test_rpyt_survives_the_stack(rpyt: cv.Rpyt) -> None:
    back = cv.rpyt_from_command(cv.command_from_rpyt(rpyt, MAP), MAP)
    np.testing.assert_allclose(back[:3], rpyt[:3], rtol=1e-12, atol=1e-300)
    assert back.thrust == rpyt.thrust


def test_thrust_saturates_where_the_firmware_does() -> None:
    assert MAP.integer(10.0) == cv.THRUST_CLIP
    assert MAP.integer(-1.0) == 0
    assert MAP.force(cv.THRUST_FULL) == MAP.force(cv.THRUST_CLIP) == MAP.force_max
    assert MAP.force(cv.THRUST_DEAD_ZONE - 1) == 0.0 < MAP.force(cv.THRUST_DEAD_ZONE)


@pytest.mark.parametrize(
    ("platform", "firmware", "mass", "hover"),
    [
        ("cf21_legacy_props", "2024.10", 0.029, 31680),
        ("cf21_legacy_props", "2025.02", 0.029, 31680),
        ("cf21_legacy_props", "2025.09.1", 0.029, 41431),
        ("cf21_legacy_props", "2026.04", 0.029, 38840),
        ("cf21_plus", "2025.12", 0.0318, 45432),
        ("cf21_plus", "2025.12.1", 0.0318, 42590),
        ("cf21_upgrade_kit", "2025.09", 0.0379, 37486),
        ("cf21_upgrade_kit", "2027.01", 0.0379, 33840),
        ("cf21_brushless", "2025.12", 0.0393, 31580),
        ("cf21_brushless", "2026.08", 0.0434, 34877),
    ],
)
def test_hover_integers_are_the_documented_ones(platform: str, firmware: str, mass: float, hover: int) -> None:
    assert cv.load_thrust_map(platform, firmware, mass).integer(cf.hover_thrust()) == pytest.approx(hover, rel=1e-3)


@pytest.mark.parametrize("platform", ["cf21_legacy_props", "cf21_plus", "cf21_upgrade_kit", "cf21_brushless"])
def test_every_platform_hovers_with_the_thrust_of_the_nominal_vehicle(platform: str) -> None:
    own = cv.load_thrust_map(platform, "2026.04")
    weight = own.load * cf.nominal_params()[0] * cf.attitude_models().gravity
    assert own.motor_force(own.integer(cf.hover_thrust())) == pytest.approx(weight, rel=1e-4)
    assert own.force_max > 1.3 * cf.hover_thrust()


def test_a_heavier_vehicle_gets_more_thrust_for_the_same_motion() -> None:
    bare, loaded = (cv.load_thrust_map("cf21_plus", "2026.04", mass) for mass in (0.029, 0.035))
    assert loaded.motor_force(loaded.integer(0.3)) / bare.motor_force(bare.integer(0.3)) == pytest.approx(
        35 / 29, rel=1e-3
    )
    assert loaded.force_max == pytest.approx(bare.force_max * 29 / 35)
    assert loaded.force(loaded.integer(0.3)) == pytest.approx(0.3, rel=1e-3)


@pytest.mark.parametrize(
    ("platform", "mass"),
    [
        ("cf21_plus", 31.8),
        ("cf21_plus", 0.00318),
        ("cf21_plus", 0.039),
        ("cf21_brushless", 0.064),
        ("cf21_plus", math.nan),
    ],
)
def test_a_mass_that_nobody_can_fly_with_is_a_user_error(platform: str, mass: float) -> None:
    with pytest.raises(UserError, match=r"give its mass in kg, 0\.025 to 0\.0"):
        cv.load_thrust_map(platform, "2026.04", mass)


@pytest.mark.parametrize(
    ("platform", "firmware", "message"),
    [
        ("cf99", "2026.04", "choose one of cf21_brushless, cf21_legacy_props"),
        ("cf21_brushless", "2025.09", "known from 2025.12 on"),
        ("cf21_plus", "latest", "write it as 2026.04"),
        ("cf21_plus", "2026.4", "write it as 2026.04"),
    ],
)
def test_unknown_thrust_map_is_a_user_error(platform: str, firmware: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        cv.load_thrust_map(platform, firmware)


@quick
@given(rpy=triples)
def test_rpy_survives_quaternion_and_log(rpy: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(rpy_from_quat(quat_from_rpy(rpy)), rpy, atol=1e-9)
    np.testing.assert_allclose(cv.rpy_from_log(*cv.log_from_rpy(rpy)), rpy, rtol=1e-12)


@quick
@given(body_rates=rate_triples)
def test_body_rates_survive_the_log(body_rates: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(cv.body_rates_from_log(*cv.log_from_body_rates(body_rates)), body_rates, rtol=1e-12)


@quick
@given(rpy=triples, rpy_rate=rate_triples)
def test_rates_survive_body_and_euler(rpy: tuple[float, float, float], rpy_rate: tuple[float, float, float]) -> None:
    body = cv.body_rates_from_rpy_rate(rpy, rpy_rate)
    np.testing.assert_allclose(cv.rpy_rate_from_body_rates(rpy, body), rpy_rate, rtol=1e-9, atol=1e-9)


@quick
@given(rpy=triples, rpy_rate=rate_triples)
def test_body_rates_are_those_of_the_turning_quaternion(rpy: tuple[float, ...], rpy_rate: tuple[float, ...]) -> None:
    step = 1e-6
    before, after = (quat_from_rpy(np.array(rpy) + s * np.array(rpy_rate)) for s in (-step / 2, step / 2))
    v0, w0, v1, w1 = before[:3], before[3], after[:3], after[3]
    relative = w0 * v1 - w1 * v0 - np.cross(v0, v1)  # vector part of conj(before) * after
    np.testing.assert_allclose(2 * relative / step, cv.body_rates_from_rpy_rate(rpy, rpy_rate), atol=1e-5)
