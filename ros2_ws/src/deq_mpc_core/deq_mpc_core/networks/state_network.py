"""theta = NN_phi(x_init, tau): the paper's network for state regulation, in torch.

    e(x)    = ReLU(LN(linear(x / s)))                 node encoder, s the natural magnitude of each state
    c_t     = linear(e_0(x_init)) + time_t            once per control step
    dx      = s * conv(core(LN(c_t + linear(e(x_t)))))      once per iteration, see ``refiner.py``

States are relative to the goal; theta = x_init + dx is the caller's, in float64. DEQ-MPC (CoRL 2025), section 4; its
concatenation of e(x_init), e(x_t) and the time embedding before a linear layer is the sum of three linear layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deq_mpc_core.networks.config import CoreConfig
from deq_mpc_core.networks.layers import encoder
from deq_mpc_core.networks.refiner import Context, Refinement, Refiner


class StateEncoder(nn.Module):
    """The start of the horizon, and where in the horizon a knot is: (B, nx) to (B, T, H)."""

    def __init__(self, states: int, hidden: int, horizon: int) -> None:
        super().__init__()
        self.node = encoder(states, hidden)
        self.time = nn.Parameter(0.5 * torch.randn(horizon, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised states (B, nx)."""
        return self.node(x)[:, None] + self.time


class StateNetwork(Refiner):
    """Increments dx (B, T, nx) of the state from ``x_init``, for a model of ``len(scale)`` states."""

    def __init__(self, config: CoreConfig, horizon: int, scale: Sequence[float]) -> None:
        """scale: natural magnitude of each state, in its unit."""
        super().__init__(StateEncoder(len(scale), config.hidden, horizon), config, horizon, len(scale), scale)

    def encode(self, x: Tensor) -> Context:
        """The part that does not depend on the iterate; x: (B, nx) relative to the goal."""
        scaled = x.to(self.dtype) / self.output_scale
        return Context(self.encoder(scaled), scaled.new_zeros(1), scaled.new_ones(1))

    def refine_states(self, context: Context, states: Tensor, z: Tensor) -> Refinement:
        """Increments for the iterate's states (B, T, nx), relative to the goal, from the start ``z`` (B, T, H)."""
        return self.refine(context, states.to(self.dtype) / self.output_scale, z)
