"""The part of theta = NN_phi(x_init, o, tau) that runs once per DEQ-MPC iteration, the same for every task:

    I_t     = LN(c_t + MLP(knot_t(tau)))
    h or z* = core(I)                                     ``cores.py``
    theta   = baseline + authority * scale * conv(h or z*)

A linear layer of the concatenation [c, knot] is the sum of two linear layers, so that c is computed once per control
step, by whoever knows the observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from deq_mpc_core.networks.config import CoreConfig
from deq_mpc_core.networks.cores import build_core
from deq_mpc_core.networks.fixed_point import FixedPoint
from deq_mpc_core.networks.layers import TemporalConv, encoder


class Context(NamedTuple):
    """What refine needs of the observation.

    Attributes:
        injection: (B, T, H) the part of I that does not depend on tau, c.
        baseline: (B, T, n_theta), what the learned part is added to.
        authority: (B, 1, 1) of the learned part.
    """

    injection: Tensor
    baseline: Tensor
    authority: Tensor


class Refinement(NamedTuple):
    """One evaluation of the network.

    Attributes:
        theta: (B, T, n_theta) references, knot 0 is now; the frame is the network's.
        z: (B, T, H) hidden fixed point, to start the next refinement from (kind nn: what was given).
        residual: (B,) relative fixed-point residual (kind nn: 0).
        steps: (B,) evaluations of d (kind nn: 0).
        penalty: (B,) |d^s(z*) - z*|^2 / |z*|^2, s phantom steps, or |d(x) - x|^2 / |z*|^2 at the last x with z* = d(x),
            differentiable: added to the loss it keeps d contractive. 0 for kind nn, without gradients and with the
            implicit gradient, which has made z* exact.
    """

    theta: Tensor
    z: Tensor
    residual: Tensor
    steps: Tensor
    penalty: Tensor


class Refiner(nn.Module):
    """A network with its observation's ``encoder``; what encodes with it is the subclass's.

    Inputs may be float64; they are cast to the parameters' type. ``theta`` is returned in that type.
    """

    config: CoreConfig
    output_scale: Tensor

    def __init__(
        self, observer: nn.Module, config: CoreConfig, horizon: int, knot_size: int, scale: Sequence[float]
    ) -> None:
        """observer: becomes ``encoder``. knot_size: features of a knot. scale: (n_theta,) of the network's output."""
        super().__init__()
        self.config, self.horizon = config, horizon
        hidden = config.hidden
        self.encoder = observer
        self.knot = encoder(knot_size, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.core = build_core(config)
        self.head = TemporalConv(hidden, len(scale))
        nn.init.normal_(self.head.linear.weight, std=1e-3)
        nn.init.zeros_(self.head.linear.bias)
        self.register_buffer("output_scale", torch.tensor(scale), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""
        return self.head.linear.weight.dtype

    def initial_z(self, batch: int) -> Tensor:
        """(B, T, H) zeros: the cold start of the fixed point."""
        weight = self.head.linear.weight
        return torch.zeros(batch, self.horizon, self.config.hidden, dtype=weight.dtype, device=weight.device)

    def refine(self, context: Context, knots: Tensor, z: Tensor) -> Refinement:
        """Theta for the iterate whose features are ``knots`` (B, T, knot_size), from the start ``z`` (B, T, H)."""
        injection = self.norm(context.injection + self.knot(knots.to(self.dtype)))
        hidden, solution = self.core(injection, z)
        theta = context.baseline + context.authority * (self.output_scale * self.head(hidden))
        return Refinement(theta, solution.z, solution.residual, solution.steps, self._penalty(hidden, solution))

    def _penalty(self, hidden: Tensor, solution: FixedPoint) -> Tensor:
        gradient = self.config.fixed_point.gradient
        if self.config.kind == "nn" or gradient == "implicit" or not torch.is_grad_enabled():
            return hidden.new_zeros(len(hidden))
        before = solution.argument if gradient == "last" else solution.z
        return (hidden - before).square().sum((1, 2)) / solution.z.square().sum((1, 2)).clamp_min(1e-12)
