"""The factor between commanded and real thrust: found in a simulated hover, deaf to what is not plausible, bounded."""

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_controller.conversions import load_thrust_map
from deq_mpc_controller.estimate import Estimate
from deq_mpc_controller.flight import in_the_air
from deq_mpc_controller.hover_thrust import Sample, ThrustFactor, observe, update
from deq_mpc_controller.pilot import Pilot
from deq_mpc_controller.settings import controller_config
from deq_mpc_controller.surroundings import Surroundings
from deq_mpc_controller.vehicle_io import VehicleStatus
from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.policy import load_policy
from deq_mpc_core.policy.interface import Command
from deq_mpc_core.rotations import quat_from_rpy
from deq_mpc_sim.parameters import plant_config
from deq_mpc_sim.vehicle import Vehicle

CONFIG = controller_config().hover_thrust
GRAVITY = cf.attitude_models().gravity
HOVER = Sample(t=0.0, commanded=GRAVITY, measured=GRAVITY, tilt=0.0, airborne=True)
quick = settings(max_examples=100, deadline=None)


def feed(factor: ThrustFactor, seconds: float, **values: object) -> ThrustFactor:
    """The estimate after so long of one and the same sample at 100 Hz."""
    start = 0.0 if factor.t is None else factor.t
    for t in start + np.arange(0.0, seconds, 0.01):
        factor = update(factor, replace(HOVER, t=float(t), **values), CONFIG)
    return factor


def hover(mass: float, thrust: float, seconds: float, gust: float = 0.0, seed: int = 0) -> ThrustFactor:
    """The estimate after a simulated hover: mass and thrust relative to the model's, vertical gusts [N]."""
    parameters = plant_config().parameters()
    parameters = parameters._replace(mass=parameters.mass * mass, thrust_max=parameters.thrust_max * thrust)
    vehicle = Vehicle(parameters)
    vehicle.reset(np.array([0.0, 0.0, 1.0]))
    vehicle.hover()
    model, rng, factor = cf.attitude_models().nominal, np.random.default_rng(seed), ThrustFactor()
    force, wind, climb = cf.hover_thrust(), 0.0, 0.0
    while vehicle.t < seconds:
        before = vehicle.truth
        climb += 0.01 * (1.0 - before.pos[2])
        command = cf.hover_thrust() + model.mass * (6.0 * (1.0 - before.pos[2]) - 4.0 * before.vel[2] + 6.0 * climb)
        wind += (-wind * 0.01 / 0.5) + gust * np.sqrt(2.0 * 0.01 / 0.5) * rng.normal()
        vehicle.step(0.01, Command(0.0, 0.0, 0.0, command), (0.0, 0.0, wind))
        force += (command - force) * (1.0 - np.exp(-0.01 / model.tau_thrust))
        measured = (vehicle.truth.vel[2] - before.vel[2]) / 0.01 + GRAVITY + 0.3 * rng.normal()
        sample = Sample(vehicle.t, model.k * force / model.mass, measured, vehicle.tilt, airborne=True)
        factor = update(factor, sample, CONFIG)
    return factor


@pytest.mark.parametrize("mass", [0.9, 1.0, 1.1])
@pytest.mark.parametrize("thrust", [0.95, 1.0])
@pytest.mark.parametrize("gust", [0.0, 0.005])
def test_a_simulated_hover_tells_the_factor_within_three_seconds(mass: float, thrust: float, gust: float) -> None:
    factor = hover(mass, thrust, 2.9, gust)
    assert factor.value == pytest.approx(thrust / mass, rel=0.02)
    assert factor.deviation < 0.3 * CONFIG.deviation
    carried = factor.hover_thrust * thrust
    assert carried == pytest.approx(cf.hover_thrust() * mass, rel=0.02)


@pytest.mark.parametrize("mass", [0.9, 1.1])
def test_a_pilot_in_hover_learns_it_from_motion_capture_alone(mass: float) -> None:
    rng, start = np.random.default_rng(1), np.array([0.0, 0.0, 1.0])
    parameters = plant_config().parameters()
    vehicle = Vehicle(parameters._replace(mass=parameters.mass * mass))
    vehicle.reset(start)
    vehicle.hover()
    straight = load_policy("straight-line")
    thrust_map = load_thrust_map("cf21_legacy_props", "2026.04")
    pilot = Pilot(straight, straight, controller_config(), thrust_map, state=in_the_air(0.0, start))
    while vehicle.t < 2.9:
        t, truth = vehicle.t, vehicle.truth
        noisy = quat_from_rpy(truth.rpy + rng.normal(0.0, 0.005, 3))
        pilot.add_pose(t, truth.pos + rng.normal(0.0, 0.001, 3), noisy, t)
        step = pilot.step(t, Surroundings(), VehicleStatus(armed=True, voltage=4.0, age=0.0))
        vehicle.step(0.01, step.setpoint.command)
    assert step.thrust.value == pytest.approx(1.0 / mass, rel=0.02)
    assert step.setpoint.hover == pytest.approx(cf.hover_thrust() * mass, rel=0.02)


def test_without_samples_it_is_the_models() -> None:
    assert ThrustFactor().value == 1.0
    assert ThrustFactor().hover_thrust == cf.hover_thrust()
    assert ThrustFactor().deviation is None


@pytest.mark.parametrize(
    "values",
    [
        {"airborne": False},
        {"tilt": CONFIG.tilt_max + 0.01},
        {"tilt": -CONFIG.tilt_max - 0.01},
        {"commanded": CONFIG.commanded_min - 0.1},
        {"measured": GRAVITY + CONFIG.error_max + 0.1},
        {"measured": nan},
        {"measured": inf},
        {"commanded": nan},
        {"commanded": inf},
        {"tilt": nan},
    ],
)
def test_what_is_not_plausible_teaches_nothing(values: dict[str, float]) -> None:
    learnt = feed(ThrustFactor(), 2.0, measured=0.9 * GRAVITY)
    after = feed(learnt, 2.0, **({"measured": 1.2 * GRAVITY} | values))
    assert after.value == learnt.value
    assert after.deviation >= learnt.deviation
    assert feed(after, 3.0, measured=0.9 * GRAVITY).value == pytest.approx(0.9, abs=0.005)


def test_a_lift_off_teaches_nothing_until_it_has_settled() -> None:
    learnt = feed(ThrustFactor(), 2.0, measured=0.9 * GRAVITY)
    landed = feed(learnt, 0.5, measured=0.0, airborne=False)
    again = feed(landed, CONFIG.settle_time - 0.02, measured=1.2 * GRAVITY)
    assert again.value == learnt.value
    assert feed(again, 0.5, measured=1.2 * GRAVITY).value > learnt.value + 0.01


def test_a_guessed_motion_teaches_nothing() -> None:
    x = np.zeros(13)
    x[12] = cf.hover_thrust()
    factor = feed(ThrustFactor(), 1.0)
    for age, learns in ((0.02, True), (CONFIG.max_gap + 0.01, False)):
        estimate = Estimate(t=factor.t + 0.01, x=x, disturbance=np.array([0.0, 0.0, -1.0]), age=age)
        assert (observe(factor, estimate, True, CONFIG).value < factor.value) == learns


def test_a_pause_teaches_nothing_and_time_does_not_go_back() -> None:
    learnt = feed(ThrustFactor(), 2.0, measured=0.9 * GRAVITY)
    paused = update(learnt, replace(HOVER, t=learnt.t + CONFIG.max_gap + 0.01), CONFIG)
    assert paused.value == learnt.value
    assert paused.variance > learnt.variance
    for t in (learnt.t, learnt.t - 1.0):
        assert update(learnt, replace(HOVER, t=t), CONFIG) == learnt


@quick
@given(
    ratios=st.lists(st.floats(-2.0, 4.0), min_size=1, max_size=60),
    commanded=st.floats(0.0, 15.0),
    step=st.floats(1e-4, 0.2),
)
def test_it_stays_bounded_whatever_comes(ratios: list[float], commanded: float, step: float) -> None:
    factor = ThrustFactor()
    for index, ratio in enumerate(ratios):
        sample = replace(HOVER, t=index * step, commanded=commanded, measured=ratio * commanded)
        factor = update(factor, sample, CONFIG)
        assert CONFIG.factor_min <= factor.value <= CONFIG.factor_max
        assert 0.0 < factor.variance <= CONFIG.deviation**2 + 1e-12


@quick
@given(share=st.floats(0.8, 1.2), rate=st.sampled_from([50.0, 100.0, 200.0]))
def test_the_rate_of_the_samples_does_not_matter(share: float, rate: float) -> None:
    factors = []
    for step in (1.0 / rate, 0.01):
        factor = ThrustFactor()
        for index in range(round(1.0 / step) + 1):
            factor = update(factor, replace(HOVER, t=index * step, measured=share * GRAVITY), CONFIG)
        factors.append(factor)
    assert factors[0].value == pytest.approx(factors[1].value, abs=0.01 * abs(share - 1.0) + 1e-9)
    assert factors[0].value == pytest.approx(share, abs=0.1 * abs(share - 1.0) + 1e-9)
