"""One flight problem and one way to start it: the compiled step, training and the other policies agree on both."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from flight_scenes import hover, moving_spheres, observation, policy_config, random_network
from numpy.typing import NDArray

from deq_mpc_core.models.crazyflie import crazyflie_model, hover_thrust, nominal_params
from deq_mpc_core.policy import Observation, flight_task, load_policy
from deq_mpc_core.policy.compiled import load_step
from deq_mpc_core.policy.deq_mpc import DeqMpc
from deq_mpc_core.policy.flight_policy import DeqMpcPolicy, kernel_settings
from deq_mpc_core.policy.flight_step import Seen, Warm
from deq_mpc_core.policy.flight_task import FlightTask, Scenario
from deq_mpc_core.policy.mpc import bounds, cost_weights, pose
from deq_mpc_core.policy.program import make_program
from deq_mpc_core.policy.starts import first_iterate, read_now, usable_age
from deq_mpc_core.policy.verification import compare, random_steps, training_policy
from deq_mpc_core.solver.arrays import Data
from deq_mpc_core.solver.cpu_engine import CpuEngine
from deq_mpc_core.solver.generate import shipped_slot

Array = NDArray[np.float64]
CONFIG = policy_config()
DT, HORIZON = CONFIG.mpc.dt, CONFIG.mpc.horizon


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def spheres() -> Array:
    """Six that move, three of them switched off."""
    rows = moving_spheres(6)
    rows[[1, 3, 4], 3] = 0.0, -0.02, -0.5
    return rows


def scenario(obs: Observation, padding: int = 0) -> Scenario:
    obstacles = np.concatenate([obs.obstacles, np.full((padding, 7), 0.7)])
    mask = np.arange(len(obstacles)) < len(obs.obstacles)
    return Scenario(*(torch.from_numpy(a)[None] for a in (obs.x, obs.goal, obstacles, mask)))


def seen(obs: Observation, params: Array, fence: Array) -> Seen:
    return Seen(obs.x, obs.goal, obs.obstacles, fence, params, hover_thrust(params))


def posed_by_the_step(what: Seen) -> Data:
    """With the waypoints left to be filled in."""
    limits = np.array([*bounds(CONFIG.mpc), np.concatenate(cost_weights(CONFIG.mpc))])
    settings = kernel_settings(CONFIG, hover_thrust())
    return load_step(shipped_slot("crazyflie"))._pose_problem(what, limits, settings)


def assert_same(found: Data, expected: Data) -> None:
    """All but the centres to the last bit."""
    for name, value in expected._asdict().items():
        mine = np.asarray(getattr(found, name))
        np.testing.assert_allclose(mine, value, rtol=0.0, atol=1e-15 if name == "centres" else 0.0, err_msg=name)


# The problem ----------------------------------------------------------------------------------------------------------


def test_the_compiled_step_poses_the_problem_of_the_other_policies() -> None:
    params, fence = nominal_params(), np.array([[-1.5, -1.0, 0.2], [1.0, 2.0, 1.7]])
    params[10:13] = 0.3, -0.2, 0.4
    obs = observation(obstacles=spheres())
    theta = np.random.default_rng(0).normal(size=(HORIZON, 6))
    expected = pose(CONFIG.mpc, obs.x[None], theta[None], obs.obstacles[None], params, fence)
    found = posed_by_the_step(seen(obs, params, fence))
    found.x_ref[:, :6] = theta
    assert_same(found, Data(*(a[0] for a in expected[:-1]), expected.dt))
    assert (expected.radii[0] > 0.0).tolist() == [True, False, True, False, False, True]


def test_training_poses_the_same_problem_for_every_sample() -> None:
    """In a batch with padding, whose rows are off; the gradient goes to the waypoints."""
    task = FlightTask(random_network(CONFIG), CONFIG)
    alone = [observation(obstacles=spheres()), observation(0.4, count=8)]
    one, other = scenario(alone[0], padding=2), scenario(alone[1])
    both = Scenario(*(torch.cat([getattr(s, f.name) for s in (one, other)]) for f in dataclasses.fields(Scenario)))
    theta = torch.randn(2, HORIZON, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = task.problem(both, theta.requires_grad_())
    found.x_ref.sum().backward()
    assert (theta.grad == 1.0).all()
    for b, obs in enumerate(alone):
        expected = pose(CONFIG.mpc, obs.x[None], theta.detach().numpy()[b : b + 1], obs.obstacles[None])
        count = len(obs.obstacles)
        mine = [a[b].detach().numpy() if isinstance(a, torch.Tensor) else a[b] for a in found[:-1]]
        sample = Data(*mine, found.dt)
        assert (sample.radii[count:] <= 0.0).all()
        sample = sample._replace(radii=sample.radii[:count], centres=sample.centres[:, :count])
        assert_same(sample, Data(*(a[0] for a in expected[:-1]), expected.dt))


@pytest.mark.parametrize("radius", [0.0, -0.05])
def test_a_sphere_without_radius_is_as_good_as_none(radius: float) -> None:
    """Right in the way, to the last bit; with a millimetre it is not."""
    policy = load_policy("straight-line")
    free = observation(x=hover((0.0, 0.0, 1.0), (0.8, 0.0, 0.0)), goal=np.array([1.5, 0.0, 1.0]), count=0)
    plans = []
    for r in (radius, 0.001):
        sphere = np.array([[0.3, 0.02, 1.0, r, 0.0, 0.0, 0.0]])
        plans.append(policy.step(dataclasses.replace(free, obstacles=sphere), None)[2].plan)
    expected = policy.step(free, None)[2].plan
    np.testing.assert_array_equal(plans[0], expected)
    assert np.abs(plans[1] - expected).max() > 1e-3


def test_verification_sees_spheres_that_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """And would refuse a training in which they grew by the margin."""
    network = random_network(CONFIG)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    flight, training = DeqMpcPolicy(make_program(CONFIG, weights)), training_policy(CONFIG, weights)
    steps = list(random_steps(flight, 1, seed=1))
    assert compare(flight, training, steps, 1e-5).difference < 1e-5

    def grown(*args: Any) -> Data:
        posed = pose(*args)
        return posed._replace(radii=np.where(posed.radii > 0.0, posed.radii, CONFIG.mpc.margin))

    monkeypatch.setattr(flight_task, "pose", grown)
    assert compare(flight, training, steps, 1e-5).difference > 1e-3


# The start ------------------------------------------------------------------------------------------------------------


def test_the_compiled_step_starts_where_training_does() -> None:
    """Cold, now, at a fraction of a knot, at the plan's end."""
    rng, obs = np.random.default_rng(0), observation()
    arrays = rng.normal(size=(HORIZON, 17)), rng.normal(size=(HORIZON, 6)), np.zeros((HORIZON, 24), np.float32)
    problem = pose(CONFIG.mpc, obs.x[None], arrays[1][None], obs.obstacles[None])
    start = load_step(shipped_slot("crazyflie"))._start
    for elapsed in (None, 0.0, 0.013, 0.1, HORIZON * DT):
        last = None if elapsed is None else read_now(arrays[0][None], elapsed, DT)
        after = Warm(*map(np.empty_like, arrays))
        shift = -1.0 if elapsed is None else elapsed / DT
        start(seen(obs, nominal_params(), np.zeros((2, 3))), Warm(*arrays), shift, after)
        np.testing.assert_allclose(after.tau, first_iterate(problem, 1.0, last).tau[0], rtol=0.0, atol=1e-15)


def test_a_plan_is_of_use_from_when_it_was_made_to_its_end() -> None:
    ages = [usable_age(elapsed, 0.05, 16) for elapsed in (-1e-9, 0.0, 0.025, 0.8, 0.81, np.nan)]
    assert ages == [None, 0.0, 0.5, 16.0, None, None]


@pytest.mark.parametrize("elapsed", [-0.01, 10.0], ids=["backwards", "long gap"])
def test_training_starts_cold_where_the_flight_does(elapsed: float) -> None:
    model = DeqMpc(FlightTask(random_network(CONFIG), CONFIG), CONFIG.alternation, CpuEngine(crazyflie_model()))
    case = scenario(observation())
    with torch.no_grad():
        cold, state = model.run(case, None)
        again, _ = model.run(case, state, elapsed)
        warm, _ = model.run(case, state, 0.01)
    assert (len(cold), len(again), len(warm)) == (6, 6, 1)
    assert torch.equal(cold[-1].tau, again[-1].tau)
