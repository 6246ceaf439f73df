"""The simulated vehicle: physics against closed forms, the controller's signs, and the facts known of the real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_controller.conversions import THRUST_CLIP, load_thrust_map
from deq_mpc_core.config import config_path, load_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.models.crazyflie import hover_thrust
from deq_mpc_core.policy.interface import Command
from deq_mpc_sim import plant
from deq_mpc_sim.firmware import Setpoint
from deq_mpc_sim.gusts import first_gust, next_gust
from deq_mpc_sim.parameters import PlantConfig, draw_vehicle, plant_config, platform_parameters, world_config
from deq_mpc_sim.vehicle import STEP, Array, Truth, Vehicle

WEIGHT = plant_config().body.mass * plant_config().body.gravity
HOVER = Command(0.0, 0.0, 0.0, WEIGHT)


def flying(height: float = 2.0, yaw: float = 0.0) -> Vehicle:
    vehicle = Vehicle()
    vehicle.reset(np.array([0.0, 0.0, height]), yaw)
    vehicle.hover()
    return vehicle


def response(command: Command, seconds: float, signal: Callable[[Truth], float]) -> Array:
    vehicle = flying(50.0)
    values = []
    for _ in range(round(seconds / STEP)):
        vehicle.step(STEP, command)
        values.append(signal(vehicle.truth))
    return np.array(values)


def test_hover_is_an_equilibrium() -> None:
    vehicle = flying()
    vehicle.step(2.0, HOVER)
    truth = vehicle.truth
    np.testing.assert_allclose(truth.pos, [0.0, 0.0, 2.0], atol=1e-3)
    np.testing.assert_allclose(truth.rpy, 0.0, atol=1e-9)
    assert truth.thrust == pytest.approx(WEIGHT, rel=1e-4)


def test_roll_step_matches_the_firmware_in_the_loop() -> None:
    """Known of the real firmware, 10 deg: 63 % after 0.15 s, 90 % after 0.30 s, 10.5 deg at 0.8 s."""
    roll = np.rad2deg(response(Command(np.deg2rad(10.0), 0.0, 0.0, WEIGHT), 0.8, lambda truth: truth.rpy[0]))
    assert STEP * np.argmax(roll > 6.3) == pytest.approx(0.15, abs=0.01)
    assert STEP * np.argmax(roll > 9.0) == pytest.approx(0.30, abs=0.015)
    assert roll[-1] == pytest.approx(10.5, abs=0.15)


def test_thrust_follows_the_motor_time_constants() -> None:
    rise = response(HOVER._replace(thrust=1.1 * WEIGHT), 0.2, lambda truth: truth.thrust) / WEIGHT
    fall = response(HOVER._replace(thrust=0.9 * WEIGHT), 0.2, lambda truth: truth.thrust) / WEIGHT
    assert STEP * np.argmax(rise > 1.0632) == pytest.approx(0.0125, abs=0.0015)
    assert STEP * np.argmax(fall < 0.9368) == pytest.approx(0.025, abs=0.0015)


@pytest.mark.parametrize(
    ("command", "axis", "sign"),
    [
        (Command(0.0, 0.15, 0.0, WEIGHT), 0, 1.0),  # pitch forward: +x
        (Command(0.15, 0.0, 0.0, WEIGHT), 1, -1.0),  # roll right: -y
        (Command(0.0, 0.0, 0.0, 1.1 * WEIGHT), 2, 1.0),
    ],
)
def test_commands_move_the_vehicle_the_ros_way(command: Command, axis: int, sign: float) -> None:
    vehicle = flying()
    vehicle.step(0.6, command)
    velocity = vehicle.truth.vel
    assert sign * velocity[axis] > 0.25
    np.testing.assert_allclose(np.delete(velocity, axis)[: 2 if axis == 2 else 1], 0.0, atol=1e-6)


def test_pitch_follows_the_heading_and_yaw_rate_turns_counter_clockwise() -> None:
    vehicle = flying(yaw=np.pi / 2)
    vehicle.step(0.6, Command(0.0, 0.15, 0.0, WEIGHT))
    assert vehicle.truth.vel[1] > 0.25
    vehicle = flying()
    vehicle.step(1.5, Command(0.0, 0.0, 1.0, WEIGHT))
    assert vehicle.truth.rpy[2] == pytest.approx(1.5 - 1.0 / 6.0, abs=0.1)
    assert vehicle.truth.ang_vel[2] == pytest.approx(1.0, abs=0.06)


def test_turning_past_half_a_turn_does_not_unwind() -> None:
    vehicle = flying()
    angles = []
    for _ in range(400):
        vehicle.step(0.01, Command(0.0, 0.0, 2.0, WEIGHT))
        angles.append(vehicle.truth.rpy[2])
    steps = np.diff(np.unwrap(angles))
    assert steps[100:].min() > 0.015
    assert np.unwrap(angles)[-1] > 7.0


def test_free_rotation_conserves_angular_momentum_and_energy() -> None:
    p = plant_config().parameters()
    body = plant.initial_body(np.array([0.0, 0.0, 500.0]), 0.3, p)
    body[plant.RATES] = [8.0, -5.0, 12.0]
    momenta, energies = [], []
    for _ in range(1000):
        momenta.append(plant.rotation_matrix(body[plant.QUAT]) @ (p.inertia * body[plant.RATES]))
        energies.append(p.inertia @ body[plant.RATES] ** 2)
        plant.advance_body(body, np.zeros(4), np.zeros(3), STEP, p)
    np.testing.assert_allclose(momenta[-1], momenta[0], atol=0.02 * np.linalg.norm(momenta[0]))
    assert energies[-1] == pytest.approx(energies[0], rel=0.02)
    assert np.linalg.norm(body[plant.QUAT]) == pytest.approx(1.0)


def test_free_fall_is_gravity_less_drag() -> None:
    p = plant_config().parameters()
    body = plant.initial_body(np.array([0.0, 0.0, 500.0]), 0.0, p)
    for _ in range(8000):
        plant.advance_body(body, np.zeros(4), np.zeros(3), STEP, p)
    assert body[5] == pytest.approx(
        -np.sqrt(p.mass * p.gravity / p.body_drag), rel=0.02
    )  # terminal speed, rotors still


def test_external_force_accelerates() -> None:
    vehicle = flying()
    vehicle.step(0.1, HOVER, (0.01, 0.0, 0.0))
    assert vehicle.truth.vel[0] == pytest.approx(0.01 / plant_config().body.mass * 0.1, rel=0.05)


def test_it_sits_on_the_floor_until_thrust_exceeds_weight() -> None:
    vehicle = Vehicle()
    vehicle.reset(np.array([0.3, 0.2, 0.0]), 0.5)
    vehicle.step(1.0, Command(0.05, -0.05, 0.0, 0.9 * WEIGHT))
    np.testing.assert_array_equal(vehicle.truth.pos, [0.3, 0.2, 0.0])
    np.testing.assert_allclose(vehicle.truth.rpy, [0.0, 0.0, 0.5], atol=1e-12)
    vehicle.step(1.0, HOVER._replace(thrust=1.1 * WEIGHT))
    assert vehicle.truth.pos[2] > 0.3
    vehicle.step(3.0, HOVER._replace(thrust=0.0))
    assert vehicle.truth.pos[2] == 0.0
    assert np.all(vehicle.truth.vel == 0.0)


def test_a_vehicle_on_its_back_stays_there() -> None:
    p = plant_config().parameters()
    body = plant.initial_body(np.zeros(3), 0.0, p)
    body[plant.QUAT] = [1.0, 0.0, 0.0, 0.0]
    plant.advance_body(body, np.full(4, 60000.0), np.zeros(3), STEP, p)
    np.testing.assert_allclose(np.abs(body[plant.QUAT]), [1.0, 0.0, 0.0, 0.0], atol=1e-6)
    assert body[2] == 0.0


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    roll=st.floats(-0.5, 0.5),
    pitch=st.floats(-0.5, 0.5),
    thrust=st.floats(0.8 * WEIGHT, 1.3 * WEIGHT),
)
def test_drawn_vehicles_fly_near_the_nominal_one(seed: int, roll: float, pitch: float, thrust: float) -> None:
    vehicle = Vehicle(draw_vehicle(np.random.default_rng(seed)))
    vehicle.reset(np.array([0.0, 0.0, 50.0]))
    vehicle.hover()
    vehicle.step(0.8, Command(roll, pitch, 0.0, thrust))
    truth = vehicle.truth
    np.testing.assert_allclose(truth.rpy[:2], [roll, pitch], atol=0.06)
    assert truth.thrust == pytest.approx(thrust, rel=0.06)
    assert not np.array_equal(vehicle.parameters.inertia, plant_config().parameters().inertia)


def test_drawn_vehicles_stay_within_their_bounds_and_are_seeded() -> None:
    bounds, nominal = world_config().disturbances, plant_config().parameters()
    drawn = [draw_vehicle(np.random.default_rng(seed)) for seed in range(200)]
    mass = np.array([p.mass for p in drawn]) / nominal.mass - 1.0
    assert bounds.mass * 0.8 < np.abs(mass).max() <= bounds.mass
    trim = np.abs([p.trim for p in drawn]).max()
    assert 0.8 * bounds.trim < trim <= bounds.trim
    assert drawn[7].mass == draw_vehicle(np.random.default_rng(7)).mass


def test_flights_repeat_exactly_and_do_not_depend_on_how_time_is_cut() -> None:
    command = Command(0.2, -0.1, 0.5, 1.05 * WEIGHT)
    whole, parts, uneven = flying(), flying(), flying()
    whole.step(0.5, command)
    for _ in range(50):
        parts.step(0.01, command)
    for _ in range(200):
        uneven.step(0.0025, command)
    np.testing.assert_array_equal(whole.truth.x, parts.truth.x)
    np.testing.assert_array_equal(whole.truth.x, uneven.truth.x)
    assert uneven.t == pytest.approx(0.5)


def test_the_thrust_map_clips_like_the_firmware() -> None:
    vehicle = Vehicle()
    assert vehicle.setpoint(HOVER).thrust == pytest.approx(42590, abs=30)  # known hover command at 31.8 g
    assert vehicle.setpoint(HOVER._replace(thrust=9.0)).thrust == THRUST_CLIP
    assert vehicle.setpoint(HOVER._replace(thrust=0.001)).thrust == 0.0
    assert vehicle.setpoint(Command(0.0, 0.1, 0.2, 0.3)).pitch == pytest.approx(-np.rad2deg(0.1))


@pytest.mark.parametrize("platform", ["cf21_legacy_props", "cf21_plus", "cf21_upgrade_kit", "cf21_brushless"])
def test_every_platform_hovers_with_what_the_stack_sends_it(platform: str) -> None:
    vehicle, thrust_map = Vehicle(platform_parameters(platform, "2026.04", 0.0)), load_thrust_map(platform, "2026.04")
    vehicle.reset(np.array([0.0, 0.0, 1.0]))
    setpoint = Setpoint(0.0, 0.0, 0.0, thrust_map.integer(hover_thrust()))
    vehicle.hover()
    for _ in range(100):
        vehicle.step_setpoint(0.01, setpoint)
    assert np.abs(vehicle.truth.vel).max() < 0.01
    assert vehicle.truth.voltage == pytest.approx(3.75, abs=0.05)


def test_the_default_platform_is_the_plant_itself() -> None:
    plant = plant_config().parameters()
    made = platform_parameters("cf21_legacy_props", "2026.04", 0.0)
    assert all(np.array_equal(a, b) for a, b in zip(made, plant, strict=True))
    assert platform_parameters("cf21_plus", "2026.04", 0.035).mass == pytest.approx(0.035)


def test_the_battery_sags_with_thrust_and_drains() -> None:
    vehicle = flying()
    at_rest = Vehicle().truth.voltage
    vehicle.step(1.0, HOVER)
    loaded = vehicle.truth.voltage
    assert 0.2 < at_rest - loaded < 0.6
    for _ in range(60):
        vehicle.step(1.0, HOVER)
    assert vehicle.truth.voltage < loaded - 0.03


def test_euler_rates_are_the_derivative_of_the_angles() -> None:
    vehicle = flying()
    vehicle.step(0.12, Command(0.4, -0.3, 2.0, WEIGHT))
    before = vehicle.truth
    vehicle.step(STEP, Command(0.4, -0.3, 2.0, WEIGHT))
    after = vehicle.truth
    np.testing.assert_allclose((after.rpy - before.rpy) / STEP, 0.5 * (before.rpy_rate + after.rpy_rate), atol=0.1)
    assert np.abs(before.rpy_rate).max() > 1.0
    assert before.x.shape == (13,)


def test_gusts_have_their_strength_and_correlation() -> None:
    config, rng = world_config().disturbances, np.random.default_rng(0)
    force, forces = first_gust(config, rng), []
    for _ in range(40_000):
        force = next_gust(force, 0.05, config, rng)
        forces.append(force)
    series = np.array(forces)
    np.testing.assert_allclose(series.std(axis=0), config.gust_force, rtol=0.1)
    correlation = np.mean(series[10:] * series[:-10], axis=0) / config.gust_force**2
    np.testing.assert_allclose(correlation, np.exp(-0.5 / config.gust_time), atol=0.08)


def test_a_wrong_unit_in_the_plant_is_named(tmp_path: Path) -> None:
    text = config_path("plant").read_text().replace("{value: 0.0318, unit: kg", "{value: 31.8, unit: g")
    path = tmp_path / "plant.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"body\.mass: unit 'g' is not 'kg'"):
        load_config(path, PlantConfig)
