"""The trained policy: the flight policy is the torch one, a function of its arguments, and strict about checkpoints."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flight_scenes import hover, observation, policy_config, random_network, write_checkpoint
from numpy.typing import NDArray

from deq_mpc_core.checkpoint import save_checkpoint
from deq_mpc_core.errors import UserError
from deq_mpc_core.models.crazyflie import NX, crazyflie_model
from deq_mpc_core.networks.waypoints import WaypointNetwork
from deq_mpc_core.policy import Observation, load_policy
from deq_mpc_core.policy.config import PolicyConfig
from deq_mpc_core.policy.deq_mpc import DeqMpc
from deq_mpc_core.policy.flight_policy import DeqMpcPolicy, FlightState
from deq_mpc_core.policy.flight_task import FlightTask, Scenario
from deq_mpc_core.policy.mpc import bounds
from deq_mpc_core.solver.cpu_engine import CpuEngine
from deq_mpc_core.solver.solution import Status, shift_trajectory

Array = NDArray[np.float64]
PERIOD = 0.01
SCALE = np.maximum((*crazyflie_model().x_scale, *crazyflie_model().u_scale), 1.0)
"""Rates are fives of rad/s; the rest is at most of order one, and measured in its unit."""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> DeqMpcPolicy:
    config = policy_config()
    path = write_checkpoint(tmp_path_factory.mktemp("policy") / "a.safetensors", config, random_network(config))
    loaded = load_policy(path)
    assert isinstance(loaded, DeqMpcPolicy)
    return loaded


def scenario(obs: Observation) -> Scenario:
    count = len(obs.obstacles)
    x, goal, obstacles = (torch.from_numpy(a)[None] for a in (obs.x, obs.goal, obs.obstacles))
    return Scenario(x, goal, obstacles, torch.ones(1, count, dtype=torch.bool))


def alternation(network: WaypointNetwork, config: PolicyConfig) -> DeqMpc[Scenario]:
    return DeqMpc(FlightTask(network, config), config.alternation, CpuEngine(crazyflie_model(), threads=1))


def arrays(state: FlightState) -> list[NDArray[Any]]:
    return [state.tau, state.theta, state.z]


# Flight = training ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("iterations", [1, 6])
@pytest.mark.parametrize("coupling", ["deq-mpc", "diff-mpc"])
@pytest.mark.parametrize("kind", ["deq", "nn"])
def test_flight_equals_training(kind: str, coupling: str, iterations: int, tmp_path: Path) -> None:
    """A cold and three warm steps; the tolerance is that of a float32 network."""
    config = policy_config(kind, coupling)
    alternate = config.alternation.model_copy(update={"cold_iterations": iterations})
    config = config.model_copy(update={"alternation": alternate})
    network = random_network(config)
    flight = load_policy(write_checkpoint(tmp_path / "a.safetensors", config, network))
    training = alternation(network, config)
    mine, theirs = None, None
    for step in range(4):
        obs = observation(step * PERIOD)
        command, mine, info = flight.step(obs, mine)
        with torch.no_grad():
            iterates, theirs = training.run(scenario(obs), theirs, PERIOD)
        assert len(iterates) == info.iterations == (1 if step else iterations)
        tau = theirs.tau[0].numpy()
        np.testing.assert_allclose(mine.theta, iterates[-1].theta[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(mine.tau / SCALE, tau / SCALE, rtol=0.0, atol=1e-5)
        np.testing.assert_array_equal(info.plan, mine.tau[:, :NX])
        np.testing.assert_allclose(command, tau[0, NX:].clip(*limits(config)), atol=1e-5)
        assert info.residuals["network"] == pytest.approx(float(iterates[-1].network_residual), abs=1e-5)
        assert info.residuals["dynamics"] == pytest.approx(float(iterates[-1].solution.dynamics[0]), abs=1e-5)
        assert info.status == iterates[-1].solution.status[0]


def limits(config: PolicyConfig) -> tuple[Array, Array]:
    lower, upper = bounds(config.mpc)
    return lower[NX:], upper[NX:]


def test_training_pads_obstacles_without_effect() -> None:
    config = policy_config()
    training = alternation(random_network(config), config)
    plain = scenario(observation(count=2))
    padding = torch.full((1, 3, 7), 0.7, dtype=torch.float64)
    padded = dataclasses.replace(
        plain,
        obstacles=torch.cat([plain.obstacles, padding], dim=1),
        mask=torch.tensor([[True, True, False, False, False]]),
    )
    with torch.no_grad():
        taus = [training.run(case, None)[1].tau for case in (plain, padded)]
    torch.testing.assert_close(*taus, atol=1e-5, rtol=0.0)


# A function of its arguments ------------------------------------------------------------------------------------------


def test_a_step_is_pure(policy: DeqMpcPolicy) -> None:
    _, state, _ = policy.step(observation(), None)
    before = [a.copy() for a in arrays(state)]
    obs = observation(PERIOD)
    seen = [a.copy() for a in (obs.x, obs.goal, obs.obstacles)]
    (first, one, _), (second, two, _) = (policy.step(obs, state) for _ in range(2))
    assert first == second
    for mine, other in zip(arrays(one) + arrays(state), arrays(two) + before, strict=True):
        np.testing.assert_array_equal(mine, other)
    for now, then in zip((obs.x, obs.goal, obs.obstacles), seen, strict=True):
        np.testing.assert_array_equal(now, then)


def test_two_flights_on_one_policy_are_the_flights_alone(policy: DeqMpcPolicy) -> None:
    """Interleaved or apart, to the last bit; nothing that a step gave is written to by a later one."""
    flights = [[observation(step * PERIOD, count) for step in range(6)] for count in (3, 9)]
    alone = []
    for flight in flights:
        state: FlightState | None = None
        for obs in flight:
            command, state, info = policy.step(obs, state)
            alone.append((command, *arrays(state), info.plan))
    copies = [[np.copy(a) for a in step] for step in alone]
    states: list[FlightState | None] = [None, None]
    together: list[list[Any]] = [[], []]
    for step in range(6):
        for n, flight in enumerate(flights):
            command, states[n], info = policy.step(flight[step], states[n])
            together[n].append((command, *arrays(states[n]), info.plan))
    for ours, theirs, copy in zip(together[0] + together[1], alone, copies, strict=True):
        for a, b, c in zip(ours, theirs, copy, strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(b, c)


def test_views_and_read_only_arrays_are_not_compiled_for_anew(policy: DeqMpcPolicy) -> None:
    obs = observation()
    _, state, _ = policy.step(obs, None)
    expected = policy.step(observation(PERIOD), state)[0]
    later = observation(PERIOD)
    views = {}
    for name in ("x", "goal", "obstacles"):
        views[name] = np.repeat(getattr(later, name), 2, axis=-1)[..., ::2]
        views[name].flags.writeable = False
    compiled = len(policy._step.signatures)
    assert policy.step(dataclasses.replace(later, **views), state)[0] == expected
    assert len(policy._step.signatures) == compiled == 1


def test_an_observation_of_other_shapes_is_refused(policy: DeqMpcPolicy) -> None:
    changes: list[dict[str, Any]] = [
        {"x": np.zeros(12)},
        {"goal": np.zeros((1, 3))},
        {"obstacles": np.zeros((2, 4))},
        {"fence": np.zeros(6)},
        {"model_params": np.zeros(10)},
    ]
    for change in changes:
        with pytest.raises(ValueError, match=f"{next(iter(change))} of the observation has shape"):
            policy.step(dataclasses.replace(observation(), **change), None)


def test_obstacles_may_come_and_go(policy: DeqMpcPolicy) -> None:
    state = None
    for step, count in enumerate((6, 0, 9, 1)):
        command, state, info = policy.step(observation(step * PERIOD, count), state)
        assert info.iterations == (1 if step else 6)
        assert info.status != Status.NUMERICAL_FAILURE
        assert np.isfinite(command).all()


@pytest.mark.parametrize("t", [-PERIOD, 10.0], ids=["backwards", "long gap"])
def test_a_state_of_another_time_is_not_used(policy: DeqMpcPolicy, t: float) -> None:
    _, state, _ = policy.step(observation(), None)
    obs = dataclasses.replace(observation(PERIOD), t=t)
    command, _, info = policy.step(obs, state)
    assert info.iterations == policy.config.alternation.cold_iterations
    assert command == policy.step(obs, None)[0]


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("entry", [0, 5, 8, 12])
def test_a_state_that_is_not_finite_is_a_failure_with_a_finite_command(
    policy: DeqMpcPolicy, entry: int, warm: bool
) -> None:
    state = policy.step(observation(), None)[1] if warm else None
    x = observation(PERIOD).x
    x[entry] = np.nan
    command, _, info = policy.step(observation(PERIOD, x=x), state)
    assert info.status == Status.NUMERICAL_FAILURE
    assert np.isfinite(command).all()


def test_the_observations_fence_holds(policy: DeqMpcPolicy) -> None:
    """Flying at 1 m/s towards a wall 0.5 m ahead: without it the plan goes on, with it the plan stays inside."""
    x = hover((0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    free = observation(x=x, goal=np.array([1.9, 0.0, 1.0]), count=0)
    wall = dataclasses.replace(free, fence=np.array([[-2.0, -2.0, 0.3], [0.5, 2.0, 1.8]]))
    furthest = [policy.step(obs, None)[2].plan[:, 0].max() for obs in (free, wall)]
    assert furthest[0] > 0.55
    assert furthest[1] < 0.505


def test_residuals_say_how_far_the_fixed_point_is(policy: DeqMpcPolicy) -> None:
    _, state, cold = policy.step(observation(), None)
    _, _, warm = policy.step(observation(PERIOD), state)
    assert set(cold.residuals) == set(warm.residuals) == {"theta", "tau", "network", "dynamics", "inequality"}
    for info in (cold, warm):
        assert all(np.isfinite(value) and value >= 0.0 for value in info.residuals.values())


def test_the_residual_of_theta_is_its_change_since_the_last_step_at_the_same_times(policy: DeqMpcPolicy) -> None:
    """A single warm iteration has no other to be compared with; the knots beyond the last plan are left out."""
    _, before, _ = policy.step(observation(), None)
    for elapsed in (policy.dt, 0.5 * policy.dt):
        _, after, info = policy.step(observation(elapsed), before)
        knots = elapsed / policy.dt
        shifted = shift_trajectory(before.theta[None], knots)[0]
        change = np.abs(after.theta - shifted)[: policy.horizon - 1]
        assert info.residuals["theta"] == pytest.approx(change.mean(), abs=1e-12)
    _, _, late = policy.step(observation(policy.dt * policy.horizon), before)
    assert late.iterations == 1
    assert np.isnan(late.residuals["theta"])  # nothing to compare with


def test_a_state_of_another_policy_is_refused(policy: DeqMpcPolicy) -> None:
    other = load_policy("default")
    _, state, _ = other.step(observation(), None)
    with pytest.raises(ValueError, match="another policy's"):
        policy.step(observation(PERIOD), state)


# Checkpoints that cannot fly ------------------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_policy(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_checkpoints_that_cannot_fly_are_refused_in_one_line(tmp_path: Path) -> None:
    assert "no such checkpoint" in refusal(tmp_path / "missing.safetensors")
    corrupt = tmp_path / "corrupt.safetensors"
    corrupt.write_bytes(b"not weights")
    assert "damaged" in refusal(corrupt)
    config = policy_config()
    network = random_network(config)
    assert "task 'pendulum'" in refusal(write_checkpoint(tmp_path / "other.safetensors", config, network, "pendulum"))
    raw = config.model_dump(mode="json")
    raw["network"]["layers"] = 3
    unknown = tmp_path / "unknown.safetensors"
    save_checkpoint(unknown, network.state_dict(), task="crazyflie", config=raw, data={}, curves={})
    assert "unknown key 'network.layers'" in refusal(unknown)


def test_a_configuration_that_the_weights_or_reason_contradict_is_refused(tmp_path: Path) -> None:
    config = policy_config()
    weights = random_network(config).state_dict()
    changes: list[tuple[dict[str, Any], str]] = [
        ({"horizon": config.mpc.horizon + 4}, "has shape"),
        ({"fence_low": [0.0, 0.0, 5.0]}, "fence_low must lie below fence_high"),
        ({"thrust_min": 1.0}, "thrust_min must be below thrust_max"),
    ]
    for number, (change, says) in enumerate(changes):
        raw = config.model_dump(mode="json")
        raw["mpc"] |= change
        path = tmp_path / f"{number}.safetensors"
        save_checkpoint(path, weights, task="crazyflie", config=raw, data={}, curves={})
        assert says in refusal(path)
