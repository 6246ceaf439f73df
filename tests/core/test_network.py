"""The waypoint network in torch: invariances, the fixed point and its gradient three ways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from deq_mpc_core.config import config_path, parse_config
from deq_mpc_core.features.flight_torch import describe_knots, observe
from deq_mpc_core.networks.config import NetworkConfig
from deq_mpc_core.networks.cores import EquilibriumBlock
from deq_mpc_core.networks.fixed_point import attach_implicit_gradient, attach_phantom_gradient, solve_anderson
from deq_mpc_core.networks.layers import TemporalConv, TemporalGroupNorm
from deq_mpc_core.networks.refiner import Refinement
from deq_mpc_core.networks.waypoints import WaypointNetwork

HORIZON, DT = 16, 0.05
FENCE = torch.tensor([[-2.0, -2.0, 0.3], [2.0, 2.0, 1.8]], dtype=torch.float64)
WEIGHT = 0.312


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small lose more than they gain by threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network_config(**changes: Any) -> NetworkConfig:
    """The shipped section with fields replaced; a dict value updates a sub-section."""
    raw = yaml.safe_load(config_path("policy").read_text())["network"]
    for key, value in changes.items():
        raw[key] = {**raw[key], **value} if isinstance(value, dict) else value
    return parse_config(raw, NetworkConfig, "test")


def random_observation(batch: int, count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, goal, obstacles, mask in an arena-sized world."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return 2.0 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1.0

    x = 0.5 * uniform(batch, 13)
    x[:, 2] += 1.0
    x[:, 8] *= 6.0
    goal = 1.5 * uniform(batch, 3)
    obstacles = torch.cat([2.0 * uniform(batch, count, 3), 0.2 + 0.1 * uniform(batch, count, 1)], dim=-1)
    obstacles = torch.cat([obstacles, 0.5 * uniform(batch, count, 3)], dim=-1)
    return x, goal, obstacles, torch.ones(batch, count, dtype=torch.bool)


def evaluate(network: WaypointNetwork, x: Tensor, goal: Tensor, obstacles: Tensor, mask: Tensor) -> Refinement:
    features = network.config.features
    context = network.encode(observe(x, goal, obstacles, mask, FENCE, WEIGHT, features))
    states = x[:, None].repeat(1, HORIZON, 1)
    states[..., 0:3] += 0.05 * torch.arange(HORIZON)[:, None] * x[:, None, 3:6]
    knots = describe_knots(x, states, obstacles, mask, DT, features)
    return network.refine(context, knots, network.initial_z(len(x)))


def lively_network(kind: str, **changes: Any) -> WaypointNetwork:
    """A float64 network whose output layer is not near zero, so that differences show."""
    torch.manual_seed(1)
    network = WaypointNetwork(network_config(kind=kind, hidden=32, **changes), HORIZON, DT).double()
    torch.nn.init.normal_(network.head.linear.weight, std=0.1)
    return network


def test_convolution_is_conv1d() -> None:
    conv = TemporalConv(8, 6)
    weight = conv.linear.weight.view(6, 3, 8).permute(0, 2, 1)
    x = torch.randn(5, HORIZON, 8)
    expected = torch.nn.functional.conv1d(x.transpose(1, 2), weight, conv.linear.bias, padding=1).transpose(1, 2)
    torch.testing.assert_close(conv(x), expected)


def test_group_norm_is_over_knots_and_channels() -> None:
    x = 3.0 + torch.randn(5, HORIZON, 8)
    groups = TemporalGroupNorm(2, 8)(x).unflatten(-1, (2, 4))
    torch.testing.assert_close(groups.mean((1, 3)), torch.zeros(5, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(groups.square().mean((1, 3)), torch.ones(5, 2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["nn", "deq"])
def test_answer_does_not_depend_on_padding_order_or_batch_mates(kind: str) -> None:
    network = lively_network(kind)
    x, goal, obstacles, mask = random_observation(6, 9)
    with torch.no_grad():
        theta = evaluate(network, x, goal, obstacles, mask).theta
        order = torch.randperm(9)
        shuffled = evaluate(network, x, goal, obstacles[:, order], mask).theta
        rubbish = torch.cat([obstacles, 0.3 * torch.ones(6, 4, 7, dtype=torch.float64)], dim=1)
        padded = evaluate(network, x, goal, rubbish, torch.cat([mask, torch.zeros_like(mask[:, :4])], dim=1)).theta
        alone = evaluate(network, x[3:4], goal[3:4], obstacles[3:4], mask[3:4]).theta
        moved = evaluate(network, x, goal, obstacles + 0.1, mask).theta
    torch.testing.assert_close(shuffled, theta, atol=1e-10, rtol=0)
    torch.testing.assert_close(padded, theta, atol=1e-10, rtol=0)
    torch.testing.assert_close(alone, theta[3:4], atol=1e-10, rtol=0)
    assert (moved - theta).abs().amax() > 1e-3


def test_no_obstacles_equal_padding_alone() -> None:
    network = lively_network("deq")
    x, goal, obstacles, mask = random_observation(2, 3)
    with torch.no_grad():
        none = evaluate(network, x, goal, obstacles[:, :0], mask[:, :0]).theta
        padding = evaluate(network, x, goal, obstacles, torch.zeros_like(mask)).theta
    assert torch.isfinite(none).all()
    torch.testing.assert_close(padding, none, atol=1e-10, rtol=0)


def test_untrained_network_flies_straight_to_the_goal() -> None:
    torch.manual_seed(0)
    network = WaypointNetwork(network_config(), HORIZON, DT)
    x, goal, obstacles, mask = random_observation(3, 5)
    x[:, 8] = 0.0
    goal[0] = x[0, 0:3] + torch.tensor([0.3, 0.0, 0.0])
    with torch.no_grad():
        theta = evaluate(network, x, goal, obstacles, mask).theta.double()
    direction = torch.nn.functional.normalize(goal - x[:, 0:3], dim=-1)
    far = goal[1:] - x[1:, 0:3]
    assert (far.norm(dim=-1) > HORIZON * DT).all()
    torch.testing.assert_close(theta[1:, 10, 0:3], 10 * DT * direction[1:], atol=0.05, rtol=0)
    torch.testing.assert_close(theta[1:, 10, 3:6], direction[1:], atol=0.05, rtol=0)
    torch.testing.assert_close(theta[0, -1, 0:3], goal[0] - x[0, 0:3], atol=0.05, rtol=0)
    torch.testing.assert_close(theta[0, -1, 3:6], torch.zeros(3).double(), atol=0.05, rtol=0)


def _equilibrium_problem() -> tuple[EquilibriumBlock, Tensor, Tensor]:
    torch.manual_seed(2)
    block = EquilibriumBlock(16, 4).double()
    injection = torch.randn(3, 6, 16, dtype=torch.float64)
    return block, injection, torch.randn(3, 6, 16, dtype=torch.float64)


EXACT = network_config().fixed_point.model_copy(update={"max_steps": 300, "tolerance": 1e-12})


def test_anderson_finds_the_fixed_point_in_fewer_steps_than_iteration() -> None:
    block, injection, start = _equilibrium_problem()
    solution = solve_anderson(lambda z: block(z, injection), start, EXACT)
    plain = solve_anderson(lambda z: block(z, injection), start, EXACT.model_copy(update={"memory": 1, "mixing": 1.0}))
    torch.testing.assert_close(block(solution.z, injection), solution.z, atol=1e-10, rtol=0)
    torch.testing.assert_close(plain.z, solution.z, atol=1e-9, rtol=0)
    assert (solution.steps < plain.steps).all()


def test_anderson_stops_each_sample_on_its_own() -> None:
    block, injection, start = _equilibrium_problem()
    config = EXACT.model_copy(update={"tolerance": 1e-4})
    first = solve_anderson(lambda z: block(z, injection), start, config)
    mixed = torch.cat([first.z[:1], start[1:]])
    together = solve_anderson(lambda z: block(z, injection), mixed, config)
    alone = solve_anderson(lambda z: block(z, injection[:1]), mixed[:1], config)
    assert together.steps[0] == 1 < together.steps[1]
    assert torch.equal(together.steps[1:], first.steps[1:])
    torch.testing.assert_close(together.z[:1], alone.z)


def test_anderson_reports_what_it_did_not_reach() -> None:
    solution = solve_anderson(lambda z: -3.0 * z + 1.0, torch.ones(2, 3), EXACT.model_copy(update={"max_steps": 1}))
    torch.testing.assert_close(solution.residual, torch.full((2,), 1.5))
    assert solution.steps.tolist() == [1, 1]


def test_a_sample_that_is_nan_says_so_and_harms_no_other() -> None:
    block, injection, start = _equilibrium_problem()
    expected = solve_anderson(lambda z: block(z, injection), start, EXACT)
    injection[1, 2, 3] = torch.nan
    solution = solve_anderson(lambda z: block(z, injection), start, EXACT)
    assert solution.z[1].isnan().any()
    assert solution.residual[1].isnan()
    torch.testing.assert_close(solution.z[::2], expected.z[::2])


def test_gradient_three_ways() -> None:
    block, injection, start = _equilibrium_problem()
    injection.requires_grad_()
    target = torch.randn_like(start)

    def loss(z: Tensor) -> Tensor:
        return (z - target).square().sum()

    z_star = solve_anderson(lambda z: block(z, injection), start, EXACT).z
    parameters = [injection, *block.parameters()]
    implicit = torch.autograd.grad(
        loss(attach_implicit_gradient(lambda z: block(z, injection), z_star, EXACT)), parameters
    )
    unrolled_z = start
    for _ in range(400):
        unrolled_z = block(unrolled_z, injection)
    unrolled = torch.autograd.grad(loss(unrolled_z), parameters)
    for ours, reference in zip(implicit, unrolled, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-8, rtol=1e-7)

    direction = torch.randn_like(start)
    step = 1e-6
    ends = [
        loss(solve_anderson(lambda z, s=sign: block(z, injection + s * step * direction), z_star, EXACT).z)
        for sign in (1.0, -1.0)
    ]
    difference = (ends[0] - ends[1]) / (2.0 * step)
    torch.testing.assert_close((implicit[0] * direction).sum(), difference, atol=1e-5, rtol=1e-5)


def test_phantom_gradient_approaches_the_implicit_one() -> None:
    block, injection, start = _equilibrium_problem()
    injection.requires_grad_()
    z_star = solve_anderson(lambda z: block(z, injection), start, EXACT).z
    exact = torch.autograd.grad(
        attach_implicit_gradient(lambda z: block(z, injection), z_star, EXACT)[0, 0, 0], injection
    )[0]
    errors = []
    for steps in (1, 3, 100):
        phantom = attach_phantom_gradient(lambda z: block(z, injection), z_star, steps)
        errors.append(float((torch.autograd.grad(phantom[0, 0, 0], injection)[0] - exact).norm() / exact.norm()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < 0.6
    assert errors[2] < 1e-6


def test_implicit_gradient_raises_when_its_solve_does_not_converge() -> None:
    block, injection, start = _equilibrium_problem()
    injection.requires_grad_()
    z_star = solve_anderson(lambda z: block(z, injection), start, EXACT).z
    z = attach_implicit_gradient(lambda v: block(v, injection), z_star, EXACT.model_copy(update={"max_steps": 2}))
    with pytest.raises(RuntimeError, match="implicit gradient"):
        z.sum().backward()


@pytest.mark.parametrize("gradient", ["phantom", "implicit", "last"])
def test_every_parameter_learns(gradient: str) -> None:
    exact = {"gradient": gradient, "max_steps": 200, "tolerance": 1e-9}
    network = lively_network("deq", fixed_point=exact)
    evaluate(network, *random_observation(4, 5)).theta.square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_warm_start_is_an_input_and_saves_steps() -> None:
    network = lively_network("deq", fixed_point={"tolerance": 1e-4, "max_steps": 100})
    with torch.no_grad():
        network.core.block.conv2.linear.weight *= 0.3  # contractive
    x, goal, obstacles, mask = random_observation(4, 5)
    features = network.config.features
    with torch.no_grad():
        context = network.encode(observe(x, goal, obstacles, mask, FENCE, WEIGHT, features))
        knots = describe_knots(x, x[:, None].repeat(1, HORIZON, 1), obstacles, mask, DT, features)
        cold = network.refine(context, knots, network.initial_z(4))
        again = network.refine(context, knots, network.initial_z(4))
        warm = network.refine(context, knots, cold.z)
    assert torch.equal(again.theta, cold.theta)
    assert (warm.steps == 1).all()
    torch.testing.assert_close(warm.theta, cold.theta, atol=1e-3, rtol=0)
