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
from deq_mpc_core.networks.flight_network import FlightNetwork
from deq_mpc_core.networks.waypoints import WaypointNetwork
from deq_mpc_core.policy import Observation, load_policy
from deq_mpc_core.policy.config import PolicyConfig
from deq_mpc_core.policy.deq_mpc import DeqMpc, Iterate, JointState
from deq_mpc_core.policy.flight_policy import DeqMpcPolicy
from deq_mpc_core.policy.flight_task import FlightTask, Scenario
from deq_mpc_core.solver.cpu_engine import CpuEngine
from deq_mpc_core.solver.solution import Status

Array = NDArray[np.float64]
PERIOD = 0.01


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


def arrays(state: Any) -> list[NDArray[Any]]:
    return [state.mpc.tau, state.z]


# Flight = training ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coupling", ["deq-mpc", "diff-mpc"])
@pytest.mark.parametrize("kind", ["deq", "nn"])
def test_flight_equals_training(kind: str, coupling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cold and three warm steps; the tolerance is that of a float32 network."""
    config = policy_config(kind, coupling)
    network = random_network(config)
    flight = load_policy(write_checkpoint(tmp_path / "a.safetensors", config, network))
    training = alternation(network, config)
    thetas: list[Array] = []
    refine = FlightNetwork.refine

    def remember(self: FlightNetwork, *arguments: Any) -> Any:
        refined = refine(self, *arguments)
        thetas.append(refined.theta)
        return refined

    monkeypatch.setattr(FlightNetwork, "refine", remember)
    mine, theirs = None, None
    for step in range(4):
        obs = observation(step * PERIOD)
        thetas.clear()
        command, mine, info = flight.step(obs, mine)
        with torch.no_grad():
            iterates, theirs = training.run(scenario(obs), theirs, PERIOD)
        assert len(thetas) == len(iterates) == info.iterations == (1 if step else config.alternation.cold_iterations)
        assert_agree(obs, thetas, iterates, theirs)
        tau = theirs.tau[0].numpy()
        np.testing.assert_allclose(mine.mpc.tau[0], tau, atol=1e-5)
        np.testing.assert_allclose(info.plan, tau[:, :NX], atol=1e-5)
        np.testing.assert_allclose(
            command[:3], tau[0, NX : NX + 3].clip([-0.4, -0.4, -1.5], [0.4, 0.4, 1.5]), atol=1e-5
        )


def assert_agree(obs: Observation, thetas: list[Array], iterates: list[Iterate], state: JointState) -> None:
    """The flight's waypoints are relative and in the yaw frame; training's are in the world."""
    c, s = np.cos(obs.x[8]), np.sin(obs.x[8])
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    for theta, iterate in zip(thetas, iterates, strict=True):
        world = np.hstack([theta[:, :3] @ turn.T + obs.x[:3], theta[:, 3:] @ turn.T])
        np.testing.assert_allclose(world, iterate.theta[0].numpy(), atol=1e-5)


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
    assert all(np.isfinite(value) and value >= 0.0 for value in cold.residuals.values())
    assert np.isnan(warm.residuals["theta"])  # a single iteration has nothing to compare with


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
