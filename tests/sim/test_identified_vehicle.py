"""The identified vehicles: their equations against an independent integration, their steady states, their world."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.spatial.transform import Rotation

from deq_mpc_controller.conversions import load_thrust_map
from deq_mpc_core.errors import UserError
from deq_mpc_core.models.crazyflie import attitude_models, hover_thrust, nominal_params
from deq_mpc_core.policy.interface import Command
from deq_mpc_sim.identified_vehicle import (
    IdentifiedVehicle,
    draw_identified,
    identified_vehicles,
    perturb_identified,
)
from deq_mpc_sim.parameters import world_config

NAMES = sorted(identified_vehicles())
START = np.array([0.3, -0.2, 1.0])


def vehicle(name, yaw=0.0, **changes):
    entry = identified_vehicles()[name]
    made = IdentifiedVehicle(entry.parameters()._replace(**changes), load_thrust_map(entry.platform, "2026.04"))
    made.reset(START, yaw)
    made.hover()
    return made


def fly(made, seconds, command, force=(0.0, 0.0, 0.0)):
    for _ in range(round(seconds / 0.01)):
        made.step(0.01, command, force)
    return made.truth


@pytest.mark.parametrize("name", NAMES)
def test_it_moves_as_its_equations_say(name):
    """Integrated by scipy from the equations as published, the rotation matrix from another library."""
    entry, force = identified_vehicles()[name], np.array([0.003, -0.004, 0.002])
    command, trim = Command(0.3, -0.25, 0.8, 0.33), np.array([0.004, -0.003])
    made = vehicle(name, yaw=0.4, trim=trim)
    thrust_map = load_thrust_map(entry.platform, "2026.04")
    motors = thrust_map.motor_force(thrust_map.integer(command.thrust))
    assert motors == pytest.approx(0.33 * thrust_map.load, rel=1e-4)

    def derivative(t, s):
        vel, rpy, rates, thrust = s[3:6], s[6:9], s[9:12], s[12]
        r = Rotation.from_euler("ZYX", rpy[::-1]).as_matrix()
        drag = r @ np.diag([entry.drag_xy, entry.drag_xy, entry.drag_z]) @ r.T @ vel
        acc = (entry.k * thrust * r[:, 2] + drag + force) / entry.mass - [0.0, 0.0, 9.81]
        heading = -entry.a_yaw / entry.c_yaw * 0.4 + command.yaw_rate * t
        tilt = entry.a_rp * (rpy[:2] + trim) + entry.b_rp * rates[:2] + entry.c_rp * np.array(command[:2])
        turn = entry.a_yaw * rpy[2] + entry.b_yaw * rates[2] + entry.c_yaw * heading
        return [*vel, *acc, *rates, *tilt, turn, (motors - thrust) / entry.tau_thrust]

    start = np.zeros(13)
    start[:3], start[8], start[12] = START, 0.4, entry.mass * 9.81 / entry.k
    expected = solve_ivp(derivative, (0.0, 0.8), start, rtol=1e-10, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(fly(made, 0.8, command, force).x, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_a_tilt_command_ends_at_its_own_gain_and_overshoots_unlike_the_nominal_models(name):
    entry = identified_vehicles()[name]
    made = vehicle(name)
    command = Command(0.1, 0.0, 0.0, hover_thrust())
    rolls = np.array([fly(made, 0.01, command).rpy[0] for _ in range(150)])
    gain = -entry.c_rp / entry.a_rp
    assert rolls[-1] / 0.1 == pytest.approx(gain, abs=1e-3)
    assert 0.7 < gain < 0.85
    assert rolls.max() > 1.03 * rolls[-1]
    nominal = attitude_models().nominal
    assert -nominal.c_rp / nominal.a_rp > 1.0
    assert np.argmax(rolls > 0.63 * rolls[-1]) * 0.01 < 0.12  # the stock PID takes 0.15 s


@pytest.mark.parametrize("name", NAMES)
def test_a_yaw_rate_turns_the_heading_that_it_holds(name):
    entry = identified_vehicles()[name]
    made = vehicle(name, yaw=0.3)
    assert fly(made, 0.5, Command(0.0, 0.0, 0.0, hover_thrust())).rpy[2] == pytest.approx(0.3, abs=1e-6)
    turning = fly(made, 1.0, Command(0.0, 0.0, 0.4, hover_thrust()))
    assert turning.rpy_rate[2] == pytest.approx(0.4 * -entry.c_yaw / entry.a_yaw, rel=0.01)
    assert abs(fly(made, 8.0, Command(0.0, 0.0, 0.4, hover_thrust())).rpy[2]) <= np.pi  # it has turned further


@pytest.mark.parametrize("name", NAMES)
def test_the_weight_over_k_hovers_and_is_nearly_the_nominal_vehicles(name):
    entry = identified_vehicles()[name]
    thrust = entry.mass * 9.81 / entry.k / load_thrust_map(entry.platform, "2026.04").load
    assert thrust * entry.k == pytest.approx(hover_thrust(), rel=0.005)
    truth = fly(vehicle(name), 2.0, Command(0.0, 0.0, 0.0, thrust))
    np.testing.assert_allclose(truth.pos, START, atol=2e-3)
    assert truth.thrust * entry.k == pytest.approx(entry.mass * 9.81, rel=1e-4)


def test_without_thrust_it_falls_to_the_floor_and_stays_until_it_lifts_off():
    made = vehicle("cf21B_500")
    truth = fly(made, 2.0, Command(0.3, 0.0, 0.0, 0.0))
    assert truth.pos[2] == 0.0
    np.testing.assert_array_equal(truth.vel, 0.0)
    np.testing.assert_array_equal(truth.rpy[:2], 0.0)
    assert fly(made, 1.0, Command(0.0, 0.0, 0.0, 0.4)).pos[2] > 0.1


def test_steps_shorter_than_its_own_are_not_lost():
    one, many, command = vehicle("cf2x_P250"), vehicle("cf2x_P250"), Command(0.1, 0.2, 0.3, 0.3)
    one.step(0.1, command)
    for _ in range(250):
        many.step(0.0004, command)
    np.testing.assert_allclose(many.truth.x, one.truth.x, atol=1e-12)
    assert one.truth.t == many.truth.t == pytest.approx(0.1)


@pytest.mark.parametrize("name", NAMES)
def test_drawn_vehicles_lie_within_the_bounds_of_the_set_and_use_them(name):
    bounds, nominal = world_config("lab").disturbances, identified_vehicles()[name].parameters()
    drawn = [perturb_identified(nominal, bounds, np.random.default_rng(seed)) for seed in range(200)]
    for quantity, bound in (("mass", 0.1), ("k", 0.03), ("tau_thrust", 0.2)):
        ratios = np.array([getattr(d, quantity) for d in drawn]) / getattr(nominal, quantity)
        assert 1.0 - bound <= ratios.min() < 1.0 - 0.9 * bound
        assert 1.0 + 0.9 * bound < ratios.max() <= 1.0 + bound
    assert all(np.array_equal(d.a, nominal.a) and np.array_equal(d.c, nominal.c) for d in drawn)


def test_each_flies_with_the_thrust_map_of_a_platform_of_its_mass():
    for entry in identified_vehicles().values():
        load = load_thrust_map(entry.platform, "2026.04").load
        assert load * nominal_params()[0] == pytest.approx(entry.mass, rel=0.005)


def test_an_unknown_vehicle_is_a_user_error():
    with pytest.raises(UserError, match="choose one of default, cf21B_500, cf2x_L250"):
        draw_identified("cf99", world_config().disturbances, np.random.default_rng(0))
