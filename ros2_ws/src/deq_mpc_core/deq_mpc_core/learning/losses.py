"""Losses on the iterates of DEQ-MPC, and the optimiser step; the same for every task.

    loss = mean_j |tau^j - tau_expert|_1 + w_theta |theta^j - tau_expert|_1 + w_c |d^s(z*) - z*|^2 / |z*|^2

over all iterates j of all control steps, so that early ones with a small penalty give smooth gradients and late ones
accurate gradients: DEQ-MPC (CoRL 2025), section 4. The last term keeps the network's fixed point attainable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deq_mpc_core.policy.deq_mpc import Iterate


@dataclass(frozen=True)
class StateLoss:
    """L1 on parts of the state, each with its weight: what makes metres and metres per second comparable."""

    parts: tuple[tuple[slice, float], ...]

    def __call__(self, pred: Tensor, label: Tensor) -> Tensor:
        """Mean over samples and knots 1..T-1 of pred (B, T, >= n) against label (B, T, n); knot 0 is given."""
        error = (pred[:, 1:, : label.shape[-1]] - label[:, 1:]).abs()
        return torch.stack([weight * error[..., part].sum(-1).mean() for part, weight in self.parts]).sum()


@dataclass(frozen=True)
class JointLoss:
    """The loss of this module's docstring."""

    state: StateLoss
    theta_weight: float
    contraction_weight: float

    def terms(self, iterates: Iterable[Iterate], label: Tensor) -> list[Tensor]:
        """One term for each iterate of a control step whose expert went along label (B, T, n)."""
        return [
            self.state(iterate.tau, label)
            + self.theta_weight * self.state(iterate.theta, label)
            + self.contraction_weight * iterate.penalty.mean()
            for iterate in iterates
        ]


def descend(loss: Tensor, optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], clip: float) -> float:
    """One optimiser step with the gradient's norm clipped; none if that is not finite. Returns the norm before."""
    optimizer.zero_grad()
    loss.backward()
    norm = float(nn.utils.clip_grad_norm_(parameters, clip))
    if math.isfinite(norm):
        optimizer.step()
    return norm
