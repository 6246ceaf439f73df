"""The flight network: equal to the torch one, without torch, and strict about its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from deq_mpc_core.config import config_path, parse_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.features.flight import scan_rays
from deq_mpc_core.features.flight_torch import describe_knots, observe
from deq_mpc_core.networks import flight_kernels
from deq_mpc_core.networks.config import NetworkConfig
from deq_mpc_core.networks.flight_kernels import FlightContext
from deq_mpc_core.networks.flight_weights import WeightReader, network_sizes
from deq_mpc_core.networks.packing import pack, packed_size, unpack
from deq_mpc_core.networks.refiner import Context
from deq_mpc_core.networks.shapes import check_weights, parameter_shapes
from deq_mpc_core.networks.waypoints import WaypointNetwork
from deq_mpc_core.policy.compiled import load_step
from deq_mpc_core.policy.config import PolicyConfig, load_policy_config
from deq_mpc_core.policy.flight_policy import kernel_settings
from deq_mpc_core.policy.flight_step import Seen
from deq_mpc_core.solver.generate import shipped_slot

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


class Flight:
    """The compiled network, called as the policy's step calls it."""

    def __init__(self, weights: dict[str, NDArray[np.float32]], config: NetworkConfig, horizon: int) -> None:
        policy = parse_config(
            {**load_policy_config().model_dump(mode="json"), "network": config.model_dump(mode="json")},
            PolicyConfig,
            "test",
        )
        policy = policy.model_copy(update={"mpc": policy.mpc.model_copy(update={"horizon": horizon, "dt": DT})})
        self.settings = kernel_settings(policy, WEIGHT)
        self.packed = pack(WeightReader(weights).network(config))
        self.weights = unpack(self.packed, self.settings.sizes)
        self._rays, self._kernels = scan_rays(config.features), load_step(shipped_slot("crazyflie"))

    def _seen(self, x: Array, goal: Array, obstacles: Array) -> Seen:
        return Seen(x, goal, obstacles, FENCE, np.zeros(13), WEIGHT)

    def encode(self, x: Array, goal: Array, obstacles: Array) -> FlightContext:
        return self._kernels.encode_observation(self._seen(x, goal, obstacles), self.weights, self._rays, self.settings)

    def refine(
        self, x: Array, obstacles: Array, context: FlightContext, states: Array, z: Any
    ) -> tuple[Array, Any, float]:
        """theta, z and the residual."""
        z = z.copy()
        tau = np.hstack([states, np.zeros((len(states), 4))])
        theta, residual = self._kernels.refine_plan(
            self._seen(x, np.zeros(3), obstacles), context, self.weights, self.settings, tau, z
        )
        return theta, z, residual


def twins(config: NetworkConfig, horizon: int, noise: float = 0.05) -> tuple[WaypointNetwork, Flight]:
    """Both networks with the same weights: a fresh network's, with noise also on the biases and norms."""
    torch.manual_seed(3)
    network = WaypointNetwork(config, horizon, DT)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += noise * torch.randn_like(parameter)
    return network, Flight({name: value.numpy() for name, value in network.state_dict().items()}, config, horizon)


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


def describe(x: Array, states: Array, obstacles: Array, config: NetworkConfig) -> torch.Tensor:
    batch = [torch.from_numpy(a)[None] for a in (x, states, obstacles)]
    mask = torch.ones(1, len(obstacles), dtype=torch.bool)
    return describe_knots(*batch, mask, DT, config.features)


@pytest.mark.parametrize("variant", VARIANTS)
def test_compiled_equals_torch(variant: str) -> None:
    changes, horizon, count = VARIANTS[variant]
    config = network_config(**changes)
    network, flight = twins(config, horizon)
    for seed in range(5):
        x, goal, obstacles, states = scenario(seed, count, horizon)
        context = flight.encode(x, goal, obstacles)
        start = 0.5 * np.random.default_rng(seed).normal(size=(horizon, config.hidden)).astype(np.float32)
        theta, z, residual = flight.refine(x, obstacles, context, states, start)
        with torch.no_grad():
            reference = encode_torch(network, x, goal, obstacles)
            theirs = network.refine(reference, describe(x, states, obstacles, config), torch.from_numpy(start)[None])
        np.testing.assert_allclose(context.injection, reference.injection[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(context.baseline, reference.baseline[0].numpy(), atol=1e-6)
        np.testing.assert_allclose(theta, theirs.theta[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(z, theirs.z[0].numpy(), atol=3e-5)
        assert residual == pytest.approx(float(theirs.residual), abs=1e-5)


def test_converged_fixed_point_is_the_float64_one() -> None:
    exact = network_config().fixed_point.model_dump() | {"tolerance": 3e-6, "max_steps": 60}
    config = network_config(fixed_point=exact)
    network, flight = twins(config, 16, noise=0.01)
    x, goal, obstacles, states = scenario(0, 20, 16)
    zeros = np.zeros((16, config.hidden), np.float32)
    theta, _, residual = flight.refine(x, obstacles, flight.encode(x, goal, obstacles), states, zeros)
    double = network.double()
    with torch.no_grad():
        context = encode_torch(double, x, goal, obstacles)
        theirs = double.refine(context, describe(x, states, obstacles, config), double.initial_z(1))
    assert residual < 3e-6
    np.testing.assert_allclose(theta, theirs.theta[0].numpy(), atol=2e-5)


def test_order_of_obstacles_does_not_matter() -> None:
    _, flight = twins(network_config(), 16)
    x, goal, obstacles, _ = scenario(2, 30, 16)
    turned = np.random.default_rng(0).permutation(obstacles)
    a, b = (flight.encode(x, goal, rows).injection for rows in (obstacles, turned))
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("kind", ["nn", "deq"])
def test_nan_is_not_hidden(kind: str) -> None:
    _, flight = twins(network_config(kind=kind), 16)
    x, goal, obstacles, states = scenario(3, 4, 16)
    broken = x.copy()
    broken[3] = np.nan
    context = flight.encode(broken, goal, obstacles)
    assert np.isnan(context.injection).any()
    clean = FlightContext(np.zeros_like(context.injection), np.zeros_like(context.baseline), 1.0)
    states[5, 0] = np.nan
    zeros = np.zeros((16, 64), np.float32)
    assert np.isnan(flight.refine(x, obstacles, clean, states, zeros)[0]).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_packed_weights_come_out_as_they_went_in(variant: str) -> None:
    changes, horizon, _ = VARIANTS[variant]
    config = network_config(**changes)
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(size=shape).astype(np.float32) for name, shape in parameter_shapes(config, horizon).items()
    }
    tree = WeightReader(weights).network(config)
    packed = pack(tree)
    assert packed.shape == (packed_size(config, horizon),)
    assert_same_tree(unpack(packed, network_sizes(config, horizon)), tree)


def assert_same_tree(ours: Any, theirs: Any) -> None:
    if not isinstance(theirs, tuple):
        np.testing.assert_array_equal(ours, theirs)
        return
    for mine, other in zip(ours, theirs, strict=True):
        assert_same_tree(mine, other)


@pytest.mark.parametrize("size", [1, 7, 41])
def test_exponential(size: int) -> None:
    """Of what a softmax gives it, next to the largest, one: NaN stays NaN, and nothing overflows."""
    rng = np.random.default_rng(size)
    scores = rng.uniform(-60.0, 60.0, size).astype(np.float32)
    ours = scores.copy()
    total = flight_kernels._exponentiate(ours)
    expected = np.exp(scores.astype(np.float64) - scores.max())
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-37)
    np.testing.assert_allclose(ours, expected, rtol=0.0, atol=3e-7)
    assert total == pytest.approx(expected.sum(), rel=1e-5)
    ours[-1] = np.nan
    assert np.isnan(flight_kernels._exponentiate(ours))


@pytest.mark.parametrize("variant", VARIANTS)
def test_shape_table_is_the_torch_network(variant: str) -> None:
    changes, horizon, _ = VARIANTS[variant]
    config = network_config(**changes)
    state = WaypointNetwork(config, horizon, DT).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == parameter_shapes(config, horizon)


def test_foreign_weights_are_refused() -> None:
    config = network_config()
    weights = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(config, 16).items()}
    check_weights(weights, parameter_shapes(config, 16))
    with pytest.raises(UserError, match=r"encoder\.time.*\(16, 64\), not \(12, 64\)"):
        check_weights(weights, parameter_shapes(config, 12))
    with pytest.raises(UserError, match="'extra' is unknown"):
        check_weights({**weights, "extra": np.zeros(1, np.float32)}, parameter_shapes(config, 16))
    del weights["head.linear.bias"]
    with pytest.raises(UserError, match=r"'head\.linear\.bias' is missing"):
        check_weights(weights, parameter_shapes(config, 16))
