"""theta = NN_phi(x_init, o, tau): the network that proposes the flight's waypoints, in torch (batched, for training).

    scene   = MLP(ego, scan)                                      once per control step
    tokens  = self-attention(MLP(obstacle_k))
    q_t     = cross-attention(scene + time_t, tokens)
    c_t     = MLP(q_t)                                            the context
    theta   = straight line to the goal + min(1, |g| / G) * scale * conv(core(c, knots))

``refiner.py`` has what follows the context, ``cores.py`` the core. The factor min(1, |g| / G) lets the learned part
fade out near the goal, so that the straight line ends there and nowhere else.

The flight twin of this file is ``flight_kernels.py``; a test holds them equal.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deq_mpc_core.features.dimensions import EGO_SIZE, KNOT_SIZE, TOKEN_SIZE
from deq_mpc_core.features.flight_torch import ObservationFeatures
from deq_mpc_core.networks.config import NetworkConfig
from deq_mpc_core.networks.layers import Attention, encoder
from deq_mpc_core.networks.refiner import Context, Refiner


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


class WaypointNetwork(Refiner):
    """The flight policy's network: ``encode`` once per control step, ``refine`` once per DEQ-MPC iteration.

    theta (B, T, 6): position increment [m] and velocity [m/s], yaw frame.
    """

    config: NetworkConfig

    def __init__(self, config: NetworkConfig, horizon: int, dt: float) -> None:
        """For ``horizon`` knots that are ``dt`` seconds apart."""
        scale = [config.position_scale] * 3 + [config.velocity_scale] * 3
        super().__init__(ObservationEncoder(config, horizon), config, horizon, KNOT_SIZE, scale)
        self.dt = dt

    def encode(self, features: ObservationFeatures) -> Context:
        """The part that does not depend on the iterate. The baseline is the straight line, in the yaw frame."""
        ego, scan, tokens, goal = (
            part.to(self.dtype) for part in (features.ego, features.scan, features.tokens, features.goal)
        )
        injection = self.encoder(ObservationFeatures(ego, scan, tokens, features.mask, goal))
        authority = (goal.norm(dim=-1) / self.config.goal_authority).clamp_max(1.0)[:, None, None]
        return Context(injection, straight_line(goal, self.horizon, self.dt, self.config), authority)
