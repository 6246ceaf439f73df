"""theta = NN_phi(x_init, o, tau): the network that proposes waypoints, in torch (batched, for training).

    scene   = MLP(ego, scan)                                      once per control step
    tokens  = self-attention(MLP(obstacle_k))
    q_t     = cross-attention(scene + time_t, tokens)
    c_t     = MLP(q_t)                                            the context
    I_t     = LN(c_t + MLP(knot_t(tau)))                          once per iteration
    nn:   h = block_4(... block_1(I)),  block(h) = h + ReLU(GN(conv(h)))
    deq:  z* = d(z*, I),  d(z, I) = GN(ReLU(z + GN(I + conv(GN(ReLU(conv(z)))))))
    theta   = straight line to the goal + min(1, |g| / G) * scale * conv(h or z*)

The last factor lets the learned part fade out near the goal, so that the straight line ends there and nowhere else.

The flight twin of this file is ``flight_network.py``; a test holds them equal.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from deq_mpc_core.networks.config import FixedPointConfig, NetworkConfig
from deq_mpc_core.networks.dimensions import EGO_SIZE, KNOT_SIZE, THETA_SIZE, TOKEN_SIZE
from deq_mpc_core.networks.fixed_point import (
    FixedPoint,
    attach_implicit_gradient,
    attach_phantom_gradient,
    solve_anderson,
)
from deq_mpc_core.networks.layers import Attention, TemporalConv, TemporalGroupNorm, encoder

_FEEDBACK_GAIN = 0.5
"""Initial gain of z's path through d. An untrained d needs over 20 Anderson steps at 1, ten at 0.5."""


class ObservationFeatures(NamedTuple):
    """What is seen once per control step, yaw frame, normalised (``policy/features_torch.py``).

    Attributes:
        ego: (B, EGO_SIZE).
        scan: (B, rays).
        tokens: (B, K, TOKEN_SIZE) one per obstacle; K may be 0.
        mask: (B, K) True where there is an obstacle, False for padding.
        goal: (B, 3) relative position [m], not normalised.
    """

    ego: Tensor
    scan: Tensor
    tokens: Tensor
    mask: Tensor
    goal: Tensor


class Context(NamedTuple):
    """What refine needs of the observation.

    Attributes:
        injection: (B, T, H) the part of I that does not depend on tau.
        baseline: (B, T, 6) straight line to the goal: position increment [m], velocity [m/s], yaw frame.
        authority: (B, 1, 1) of the learned part, min(1, |g| / G).
    """

    injection: Tensor
    baseline: Tensor
    authority: Tensor


class Refinement(NamedTuple):
    """One evaluation of the network.

    Attributes:
        theta: (B, T, 6) position increment [m] and velocity [m/s], yaw frame, knot 0 is now.
        z: (B, T, H) hidden fixed point, to start the next refinement from (kind nn: what was given).
        residual: (B,) relative fixed-point residual (kind nn: 0).
        steps: (B,) evaluations of d (kind nn: 0).
        penalty: (B,) |d^s(z*) - z*|^2 / |z*|^2, s phantom steps, differentiable: added to the loss it keeps d
            contractive. 0 for kind nn, without gradients and with the implicit gradient, which has made z* exact.
    """

    theta: Tensor
    z: Tensor
    residual: Tensor
    steps: Tensor
    penalty: Tensor


class ObservationEncoder(nn.Module):
    """Features of an observation to a context per knot, (B, T, H)."""

    def __init__(self, config: NetworkConfig, horizon: int) -> None:
        super().__init__()
        hidden = config.hidden
        self.scene = encoder(EGO_SIZE + config.features.scan_size, hidden)
        self.token = encoder(TOKEN_SIZE, hidden)
        self.nothing = nn.Parameter(0.1 * torch.randn(hidden))
        self.time = nn.Parameter(0.5 * torch.randn(horizon, hidden))
        self.token_layers = nn.ModuleList(Attention(hidden, config.heads) for _ in range(config.token_layers))
        self.query_layers = nn.ModuleList(Attention(hidden, config.heads) for _ in range(config.query_layers))
        self.output = encoder(hidden, hidden)

    def forward(self, features: ObservationFeatures) -> Tensor:
        """A learned token for "nothing" stands beside the obstacles, so that attention is defined without any."""
        batch = features.ego.shape[0]
        scene = self.scene(torch.cat([features.ego, features.scan], dim=-1))
        tokens = torch.cat([self.nothing.expand(batch, 1, -1), self.token(features.tokens)], dim=1)
        mask = torch.cat([features.mask.new_ones(batch, 1), features.mask], dim=1)
        for layer in self.token_layers:
            tokens = layer(tokens, tokens, mask)
        queries = scene[:, None] + self.time
        for layer in self.query_layers:
            queries = layer(queries, tokens, mask)
        return self.output(queries)


class ConvStack(nn.Module):
    """Kind nn: residual convolution blocks h <- h + ReLU(GN(conv(h)))."""

    def __init__(self, hidden: int, groups: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(TemporalConv(hidden, hidden), TemporalGroupNorm(groups, hidden), nn.ReLU())
            for _ in range(blocks)
        )

    def forward(self, injection: Tensor, z: Tensor) -> tuple[Tensor, FixedPoint]:
        """(B, T, H) injection to hidden (B, T, H); z is passed through."""
        hidden = injection
        for block in self.blocks:
            hidden = hidden + block(hidden)
        zero = torch.zeros(len(hidden), dtype=hidden.dtype, device=hidden.device)
        return hidden, FixedPoint(z, zero, zero.long())


class EquilibriumBlock(nn.Module):
    """d(z, I) = GN(ReLU(z + GN(I + conv(GN(ReLU(conv(z)))))))."""

    def __init__(self, hidden: int, groups: int) -> None:
        super().__init__()
        self.conv1 = TemporalConv(hidden, hidden)
        self.conv2 = TemporalConv(hidden, hidden)
        self.norm1 = TemporalGroupNorm(groups, hidden)
        self.norm2 = TemporalGroupNorm(groups, hidden)
        self.norm3 = TemporalGroupNorm(groups, hidden)
        with torch.no_grad():
            self.conv2.linear.weight *= _FEEDBACK_GAIN

    def forward(self, z: Tensor, injection: Tensor) -> Tensor:
        """(B, T, H), (B, T, H) -> (B, T, H)."""
        h = self.norm1(torch.relu(self.conv1(z)))
        return self.norm3(torch.relu(z + self.norm2(injection + self.conv2(h))))


class Equilibrium(nn.Module):
    """Kind deq: z* = d(z*, I), with the gradient that the configuration names."""

    def __init__(self, hidden: int, groups: int, config: FixedPointConfig) -> None:
        super().__init__()
        self.block = EquilibriumBlock(hidden, groups)
        self.config = config

    def forward(self, injection: Tensor, z: Tensor) -> tuple[Tensor, FixedPoint]:
        """Hidden (B, T, H) with its gradient, and the fixed point found from the start z, without."""
        constant = injection.detach()
        solution = solve_anderson(lambda value: self.block(value, constant), z.detach(), self.config)
        if not torch.is_grad_enabled():
            return solution.z, solution
        if self.config.gradient == "implicit":
            hidden = attach_implicit_gradient(lambda value: self.block(value, injection), solution.z, self.config)
        else:
            steps = self.config.phantom_steps
            hidden = attach_phantom_gradient(lambda value: self.block(value, injection), solution.z, steps)
        return hidden, solution


def straight_line(goal: Tensor, horizon: int, dt: float, config: NetworkConfig) -> Tensor:
    """Waypoints towards the goal: s_t = min(v t dt, |g|), speed min(v, rate (|g| - s_t)), along g.

    Args:
        goal: (B, 3) relative goal [m].

    Returns:
        (B, T, 6) position increment [m] and velocity [m/s].
    """
    distance = goal.norm(dim=-1, keepdim=True)
    direction = goal / distance.clamp_min(1e-6)
    reach = config.reference_speed * dt * torch.arange(horizon, dtype=goal.dtype, device=goal.device)
    travelled = torch.minimum(reach, distance)
    speed = (config.approach_rate * (distance - travelled)).clamp_max(config.reference_speed)
    return torch.stack([travelled, speed], dim=-1).repeat_interleave(3, dim=-1) * direction[:, None].repeat(1, 1, 2)


class WaypointNetwork(nn.Module):
    """The policy's network: ``encode`` once per control step, ``refine`` once per DEQ-MPC iteration.

    Inputs may be float64; they are cast to the parameters' type. ``theta`` is returned in that type.
    """

    def __init__(self, config: NetworkConfig, horizon: int, dt: float) -> None:
        """For ``horizon`` knots that are ``dt`` seconds apart."""
        super().__init__()
        self.config, self.horizon, self.dt = config, horizon, dt
        hidden = config.hidden
        self.encoder = ObservationEncoder(config, horizon)
        self.knot = encoder(KNOT_SIZE, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.core: ConvStack | Equilibrium
        if config.kind == "deq":
            self.core = Equilibrium(hidden, config.groups, config.fixed_point)
        else:
            self.core = ConvStack(hidden, config.groups, config.blocks)
        self.head = TemporalConv(hidden, THETA_SIZE)
        nn.init.normal_(self.head.linear.weight, std=1e-3)
        nn.init.zeros_(self.head.linear.bias)
        scale = [config.position_scale] * 3 + [config.velocity_scale] * 3
        self.register_buffer("output_scale", torch.tensor(scale), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""
        return self.head.linear.weight.dtype

    def initial_z(self, batch: int) -> Tensor:
        """(B, T, H) zeros: the cold start of the fixed point."""
        weight = self.head.linear.weight
        return torch.zeros(batch, self.horizon, self.config.hidden, dtype=weight.dtype, device=weight.device)

    def encode(self, features: ObservationFeatures) -> Context:
        """The part that does not depend on the iterate."""
        ego, scan, tokens, goal = (
            part.to(self.dtype) for part in (features.ego, features.scan, features.tokens, features.goal)
        )
        injection = self.encoder(ObservationFeatures(ego, scan, tokens, features.mask, goal))
        authority = (goal.norm(dim=-1) / self.config.goal_authority).clamp_max(1.0)[:, None, None]
        return Context(injection, straight_line(goal, self.horizon, self.dt, self.config), authority)

    def refine(self, context: Context, knots: Tensor, z: Tensor) -> Refinement:
        """Waypoints for the iterate whose features are ``knots`` (B, T, KNOT_SIZE), from the start ``z`` (B, T, H)."""
        injection = self.norm(context.injection + self.knot(knots.to(self.dtype)))
        hidden, solution = self.core(injection, z)
        theta = context.baseline + context.authority * (self.output_scale * self.head(hidden))
        return Refinement(theta, solution.z, solution.residual, solution.steps, self._penalty(hidden, solution.z))

    def _penalty(self, hidden: Tensor, z_star: Tensor) -> Tensor:
        if self.config.kind == "nn" or self.config.fixed_point.gradient == "implicit":
            return hidden.new_zeros(len(hidden))
        return (hidden - z_star).square().sum((1, 2)) / z_star.square().sum((1, 2)).clamp_min(1e-12)
