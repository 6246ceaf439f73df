"""Random scenes, random weights and a small synthetic dataset for tests of policies and training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deq_mpc_core.checkpoint import save_checkpoint
from deq_mpc_core.config import parse_config
from deq_mpc_core.learning.dataset import Dataset
from deq_mpc_core.learning.sampling import SampleSpec
from deq_mpc_core.models.crazyflie import hover_thrust
from deq_mpc_core.networks.waypoints import WaypointNetwork
from deq_mpc_core.obstacles import move
from deq_mpc_core.policy.config import PolicyConfig, load_policy_config
from deq_mpc_core.policy.interface import Observation

Array = NDArray[np.float64]


def policy_config(kind: str = "deq", coupling: str = "deq-mpc", **network: Any) -> PolicyConfig:
    """The shipped configuration, but for what is named; 24 channels, to be quick."""
    raw = load_policy_config().model_dump(mode="json")
    raw["network"] |= {"kind": kind, "hidden": 24, "blocks": 2} | network
    raw["alternation"]["coupling"] = coupling
    return parse_config(raw, PolicyConfig, "test")


def random_network(config: PolicyConfig, seed: int = 3) -> WaypointNetwork:
    """Fresh weights with noise on all of them, biases and norms included."""
    torch.manual_seed(seed)
    network = WaypointNetwork(config.network, config.mpc.horizon, config.mpc.dt)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network


def write_checkpoint(path: Path, config: PolicyConfig, network: WaypointNetwork, task: str = "crazyflie") -> Path:
    """A checkpoint of the network."""
    raw = config.model_dump(mode="json")
    save_checkpoint(path, network.state_dict(), task=task, config=raw, data={}, curves={})
    return path


def hover(
    pos: tuple[float, float, float], vel: tuple[float, float, float] = (0.0, 0.0, 0.0), yaw: float = 0.0
) -> Array:
    """A level state."""
    x = np.zeros(13)
    x[0:3], x[3:6], x[8], x[12] = pos, vel, yaw, hover_thrust()
    return x


def moving_spheres(count: int, seed: int = 0) -> Array:
    """(count, 7) spheres in the arena's middle."""
    rng = np.random.default_rng(seed)
    rows = np.empty((count, 7))
    rows[:, 0:3] = rng.uniform([-0.8, -1.5, 0.5], [1.0, 1.5, 1.6], (count, 3))
    rows[:, 3] = rng.uniform(0.08, 0.2, count)
    rows[:, 4:7] = rng.uniform(-0.4, 0.4, (count, 3))
    return rows


def observation(t: float = 0.0, count: int = 6, **changes: Any) -> Observation:
    """On the way across the arena, turned and tilted, among spheres that have moved since time 0."""
    x = hover((-1.5 + 0.6 * t, 0.2, 1.0), (0.6, -0.1, 0.05), yaw=0.4)
    x[6:8] = 0.05, -0.08
    obstacles = move(moving_spheres(count), t)
    return Observation(**{"t": t, "x": x, "goal": np.array([1.5, -0.3, 1.1]), "obstacles": obstacles, **changes})


def straight_flights(horizon: int, dt: float, stream_steps: int = 2, samples: int = 12, flights: int = 3) -> Dataset:
    """Samples of flights at constant velocity past two spheres, one of which moves; labels go on at that velocity."""
    spec = SampleSpec(dt, horizon, 0.01, stream_steps)
    rng = np.random.default_rng(0)
    x = np.tile(hover((0.0, 0.0, 1.0)), (samples, 1))
    x[:, 0:3] = rng.uniform([-1.8, -1.0, 0.8], [-1.0, 1.0, 1.4], (samples, 3))
    x[:, 3:6] = rng.uniform([0.3, -0.3, -0.1], [0.8, 0.3, 0.1], (samples, 3))
    x[:, 6:9] = rng.normal(scale=0.05, size=(samples, 3))

    def later(times: Array) -> Array:
        return x[:, None, 0:3] + times[:, None] * x[:, None, 3:6]

    x_next = np.repeat(x[:, None], stream_steps, axis=1)
    x_next[..., 0:3] = later(spec.next_times)
    label = np.concatenate([later(spec.label_times), np.repeat(x[:, None, 3:6], spec.label_knots, axis=1)], axis=-1)
    spheres = np.array([[0.5, 0.0, 1.0, 0.2, 0.0, 0.0, 0.0], [0.8, 0.9, 1.2, 0.1, 0.0, -0.3, 0.1]])
    f = np.float32
    return Dataset(
        spec=spec,
        x=x.astype(f),
        x_next=x_next.astype(f),
        goal=np.tile(np.array([1.5, 0.0, 1.1], f), (samples, 1)),
        label=label.astype(f),
        obstacle_sets=np.stack([spheres, spheres * [[1], [0]]]).astype(f),
        obstacle_count=np.array([2, 1], np.int32),
        obstacle_set=np.arange(samples, dtype=np.int32) % 2,
        flight=np.arange(samples, dtype=np.int32) % flights,
        t=np.zeros(samples, f),
        sources=tuple(f"flight{i}" for i in range(flights)),
    )
