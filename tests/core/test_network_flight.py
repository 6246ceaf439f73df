"""The flight network: equal to the torch one, without torch, and strict about its weights."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from deq_mpc_core.config import config_path, parse_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.features import flight as features
from deq_mpc_core.features.flight_torch import observe
from deq_mpc_core.networks import flight_kernels
from deq_mpc_core.networks.config import NetworkConfig
from deq_mpc_core.networks.flight_network import FlightContext, FlightNetwork
from deq_mpc_core.networks.refiner import Context
from deq_mpc_core.networks.shapes import parameter_shapes
from deq_mpc_core.networks.waypoints import WaypointNetwork

Array = NDArray[np.float64]
FENCE = np.array([[-2.0, -2.0, 0.3], [2.0, 2.0, 1.8]])
WEIGHT, DT = 0.312, 0.05
VARIANTS = {
    "shipped": ({}, 16, 40),
    "nn": ({"kind": "nn"}, 16, 40),
    "small, odd sizes": ({"hidden": 24, "heads": 3, "groups": 4, "token_layers": 2, "query_layers": 2}, 7, 5),
    "no obstacles, no token layers": ({"token_layers": 0}, 10, 0),
    "one block, wide": ({"kind": "nn", "hidden": 96, "blocks": 1}, 5, 1),
}


def network_config(**changes: Any) -> NetworkConfig:
    raw = {**yaml.safe_load(config_path("policy").read_text())["network"], **changes}
    return parse_config(raw, NetworkConfig, "test")


def twins(config: NetworkConfig, horizon: int, noise: float = 0.05) -> tuple[WaypointNetwork, FlightNetwork]:
    """Both networks with the same weights: a fresh network's, with noise also on the biases and norms."""
    torch.manual_seed(3)
    network = WaypointNetwork(config, horizon, DT)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += noise * torch.randn_like(parameter)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    return network, FlightNetwork(weights, config, horizon, DT)


def scenario(seed: int, count: int, horizon: int) -> tuple[Array, Array, Array, Array]:
    """x, goal, obstacles, states."""
    rng = np.random.default_rng(seed)
    x = 0.5 * rng.normal(size=13)
    x[0:3] = rng.uniform(FENCE[0], FENCE[1])
    obstacles = rng.uniform(-2.0, 2.0, size=(count, 7))
    obstacles[:, 3] = rng.uniform(0.05, 0.3, size=count)
    return x, rng.uniform(FENCE[0], FENCE[1]), obstacles, x + 0.1 * rng.normal(size=(horizon, 13))


def encode_torch(network: WaypointNetwork, x: Array, goal: Array, obstacles: Array) -> Context:
    batch = [torch.from_numpy(a)[None] for a in (x, goal, obstacles)]
    mask = torch.ones(1, len(obstacles), dtype=torch.bool)
    return network.encode(observe(*batch, mask, torch.from_numpy(FENCE), WEIGHT, network.config.features))


@pytest.mark.parametrize("variant", VARIANTS)
def test_compiled_equals_torch(variant: str) -> None:
    changes, horizon, count = VARIANTS[variant]
    config = network_config(**changes)
    network, flight = twins(config, horizon)
    for seed in range(5):
        x, goal, obstacles, states = scenario(seed, count, horizon)
        context = flight.encode(x, goal, obstacles, FENCE, WEIGHT)
        knots = flight.describe_knots(x, states, obstacles)
        z = 0.5 * np.random.default_rng(seed).normal(size=(horizon, config.hidden)).astype(np.float32)
        ours = flight.refine(context, knots, z)
        with torch.no_grad():
            reference = encode_torch(network, x, goal, obstacles)
            theirs = network.refine(reference, torch.from_numpy(knots)[None], torch.from_numpy(z)[None])
        np.testing.assert_allclose(context.injection, reference.injection[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(context.baseline, reference.baseline[0].numpy(), atol=1e-6)
        np.testing.assert_allclose(ours.theta, theirs.theta[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(ours.z, theirs.z[0].numpy(), atol=3e-5)
        assert ours.residual == pytest.approx(float(theirs.residual), abs=1e-5)
        assert ours.steps == int(theirs.steps)


def test_converged_fixed_point_is_the_float64_one() -> None:
    exact = network_config().fixed_point.model_dump() | {"tolerance": 3e-6, "max_steps": 60}
    network, flight = twins(network_config(fixed_point=exact), 16, noise=0.01)
    x, goal, obstacles, states = scenario(0, 20, 16)
    knots = flight.describe_knots(x, states, obstacles)
    ours = flight.refine(flight.encode(x, goal, obstacles, FENCE, WEIGHT), knots, flight.initial_z())
    double = network.double()
    with torch.no_grad():
        context = encode_torch(double, x, goal, obstacles)
        theirs = double.refine(context, torch.from_numpy(knots)[None], double.initial_z(1))
    assert ours.residual < 3e-6
    np.testing.assert_allclose(ours.theta, theirs.theta[0].numpy(), atol=2e-5)


@pytest.mark.parametrize("kind", ["nn", "deq"])
def test_refine_is_a_function_of_its_arguments(kind: str) -> None:
    _, flight = twins(network_config(kind=kind), 16)
    x, goal, obstacles, states = scenario(1, 10, 16)
    context = flight.encode(x, goal, obstacles, FENCE, WEIGHT)
    knots, z = flight.describe_knots(x, states, obstacles), flight.initial_z()
    copies = [np.copy(a) for a in (*context, knots, z)]
    first, second = flight.refine(context, knots, z), flight.refine(context, knots, z)
    for mine, before in zip((*context, knots, z), copies, strict=True):
        np.testing.assert_array_equal(mine, before)
    np.testing.assert_array_equal(first.theta, second.theta)
    np.testing.assert_array_equal(first.z, second.z)


def test_views_and_read_only_arrays_are_not_compiled_for_anew() -> None:
    _, flight = twins(network_config(), 16)
    x, goal, obstacles, states = scenario(4, 10, 16)
    views = [np.repeat(a, 2, axis=-1)[..., ::2] for a in (x, goal, obstacles, states)]
    for view in views:
        view.flags.writeable = False

    def refine(x: Array, goal: Array, obstacles: Array, states: Array, z: NDArray[Any]) -> Array:
        knots = flight.describe_knots(x, states, obstacles)
        return flight.refine(flight.encode(x, goal, obstacles, FENCE, WEIGHT), knots, z).theta

    kernels = (features._observe, features._describe_knots, flight_kernels.encode, flight_kernels.refine_equilibrium)
    expected = refine(x, goal, obstacles, states, flight.initial_z())
    compiled = [len(kernel.signatures) for kernel in kernels]
    np.testing.assert_array_equal(refine(*views, np.zeros((32, 64))[::2]), expected)
    assert [len(kernel.signatures) for kernel in kernels] == compiled


def test_order_of_obstacles_does_not_matter() -> None:
    _, flight = twins(network_config(), 16)
    x, goal, obstacles, _ = scenario(2, 30, 16)
    turned = np.random.default_rng(0).permutation(obstacles)
    a, b = (flight.encode(x, goal, rows, FENCE, WEIGHT).injection for rows in (obstacles, turned))
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("kind", ["nn", "deq"])
def test_nan_is_not_hidden(kind: str) -> None:
    _, flight = twins(network_config(kind=kind), 16)
    x, goal, obstacles, states = scenario(3, 4, 16)
    x[3] = np.nan
    context = flight.encode(x, goal, obstacles, FENCE, WEIGHT)
    assert np.isnan(context.injection).any()
    clean = FlightContext(np.zeros_like(context.injection), np.zeros_like(context.baseline), 1.0)
    knots = flight.describe_knots(scenario(3, 4, 16)[0], states, obstacles)
    knots[5, 0] = np.nan
    assert np.isnan(flight.refine(clean, knots, flight.initial_z()).theta).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_shape_table_is_the_torch_network(variant: str) -> None:
    changes, horizon, _ = VARIANTS[variant]
    config = network_config(**changes)
    state = WaypointNetwork(config, horizon, DT).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == parameter_shapes(config, horizon)


def test_foreign_weights_are_refused() -> None:
    config = network_config()
    weights = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(config, 16).items()}
    with pytest.raises(UserError, match=r"encoder\.time.*\(16, 64\), not \(12, 64\)"):
        FlightNetwork(weights, config, 12, DT)
    with pytest.raises(UserError, match="'extra' is unknown"):
        FlightNetwork({**weights, "extra": np.zeros(1, np.float32)}, config, 16, DT)
    del weights["head.linear.bias"]
    with pytest.raises(UserError, match=r"'head\.linear\.bias' is missing"):
        FlightNetwork(weights, config, 16, DT)


def test_flight_does_not_import_torch() -> None:
    code = "import sys, deq_mpc_core.networks.flight_network; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
