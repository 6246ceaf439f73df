"""Layers over the horizon and over sets, channels last: sequences are (B, T, H)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def stack_neighbours(x: Tensor) -> Tensor:
    """(B, T, H) to (B, T, 3 H): [x_{t-1}; x_t; x_{t+1}], zero beyond the ends."""
    padded = F.pad(x, (0, 0, 1, 1))
    return torch.cat([padded[:, :-2], x, padded[:, 2:]], dim=-1)


class TemporalConv(nn.Module):
    """Conv1D over the knots, kernel 3, zero padding: y_t = b + W [x_{t-1}; x_t; x_{t+1}].

    Channels last, so that the convolution is one matrix product over stacked neighbours.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, inputs) -> (B, T, outputs)."""
        return self.linear(stack_neighbours(x))


class TemporalGroupNorm(nn.GroupNorm):
    """GroupNorm of (B, T, H): mean and variance over the knots and the channels of a group."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H) -> (B, T, H)."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


def encoder(inputs: int, hidden: int) -> nn.Sequential:
    """Linear - LayerNorm - ReLU - Linear."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, hidden))


class Attention(nn.Module):
    """Multi-head attention with a residual and LayerNorm: LN(q + W_o softmax(Q K^T / sqrt(H / heads)) V)."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key_value = nn.Linear(hidden, 2 * hidden)
        self.output = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Queries (B, Q, H) attend to the tokens (B, K, H) where mask (B, K) is True; at least one must be."""
        key, value = self.key_value(tokens).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query(queries), key, value))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        return self.norm(queries + self.output(mixed.transpose(1, 2).flatten(-2)))
