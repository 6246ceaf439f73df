"""The recurrent core of every network: injection I to hidden, over the horizon. All sequences are (B, T, H).

    nn:   h = block_4(... block_1(I)),  block(h) = h + ReLU(GN(conv(h)))
    deq:  z* = d(z*, I),  d(z, I) = GN(ReLU(z + GN(I + conv(GN(ReLU(conv(z)))))))

DEQ-MPC (CoRL 2025), section 4.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from deq_mpc_core.networks.compiled_block import CompiledBlock
from deq_mpc_core.networks.config import CoreConfig, FixedPointConfig
from deq_mpc_core.networks.fixed_point import (
    FixedPoint,
    attach_implicit_gradient,
    attach_phantom_gradient,
    solve_anderson,
)
from deq_mpc_core.networks.layers import TemporalConv, TemporalGroupNorm

_FEEDBACK_GAIN = 0.5
"""Initial gain of z's path through d. An untrained d needs over 20 Anderson steps at 1, ten at 0.5."""


class ConvStack(nn.Module):
    """Kind nn: residual convolution blocks h <- h + ReLU(GN(conv(h)))."""

    def __init__(self, hidden: int, groups: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(TemporalConv(hidden, hidden), TemporalGroupNorm(groups, hidden), nn.ReLU())
            for _ in range(blocks)
        )

    def weights_held(self) -> AbstractContextManager[None]:
        """See `BlockEngine.weights_held`."""
        return nullcontext()

    def forward(self, injection: Tensor, z: Tensor) -> tuple[Tensor, FixedPoint]:
        """(B, T, H) injection to hidden (B, T, H); z is passed through."""
        hidden = injection
        for block in self.blocks:
            hidden = hidden + block(hidden)
        zero = torch.zeros(len(hidden), dtype=hidden.dtype, device=hidden.device)
        return hidden, FixedPoint(z, zero, zero.long(), z)


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


class BlockEngine(Protocol):
    """Who computes with an `EquilibriumBlock`. All sequences are (B, T, H).

    Its methods raise ValueError if the engine does not compute in this type or on this device.
    """

    def weights_held(self, block: nn.Module) -> AbstractContextManager[None]:
        """Within, the caller does not change the block's weights: what is made of them is made once."""
        ...

    def solve(self, block: nn.Module, injection: Tensor, start: Tensor) -> FixedPoint:
        """The fixed point z* = d(z*, I) from a start, without gradient."""
        ...

    def apply(self, block: nn.Module, z: Tensor, injection: Tensor) -> Tensor:
        """d(z, I), differentiable."""
        ...

    def solve_last(self, block: nn.Module, injection: Tensor, start: Tensor) -> tuple[Tensor, FixedPoint]:
        """`solve`, and its z with the gradient of z = d(x, I), x the constant ``argument`` of the solution."""
        ...


class TorchBlock:
    """The reference `BlockEngine`: any type, any device."""

    def __init__(self, config: FixedPointConfig) -> None:
        self._config = config

    def weights_held(self, block: nn.Module) -> AbstractContextManager[None]:
        """See `BlockEngine.weights_held`."""
        return nullcontext()

    def solve(self, block: nn.Module, injection: Tensor, start: Tensor) -> FixedPoint:
        """See `BlockEngine.solve`."""
        return solve_anderson(lambda value: block(value, injection), start, self._config)

    def apply(self, block: nn.Module, z: Tensor, injection: Tensor) -> Tensor:
        """See `BlockEngine.apply`."""
        out: Tensor = block(z, injection)
        return out

    def solve_last(self, block: nn.Module, injection: Tensor, start: Tensor) -> tuple[Tensor, FixedPoint]:
        """See `BlockEngine.solve_last`; the last application is repeated for its gradient."""
        solution = self.solve(block, injection.detach(), start)
        return self.apply(block, solution.argument, injection), solution


class Equilibrium(nn.Module):
    """Kind deq: z* = d(z*, I), with the gradient that the configuration names.

    implicit: of the equation. phantom: of ``phantom_steps`` applications of d more. last: of the application that ended
    the iteration, which has been computed already (Bolte et al. 2023, "One-step differentiation of iterative
    algorithms").
    """

    def __init__(self, hidden: int, groups: int, config: FixedPointConfig) -> None:
        super().__init__()
        self.block = EquilibriumBlock(hidden, groups)
        self.config = config
        self.engine: BlockEngine = TorchBlock(config)
        if config.engine == "compiled":
            self.engine = CompiledBlock(groups, config)

    def weights_held(self) -> AbstractContextManager[None]:
        """See `BlockEngine.weights_held`."""
        return self.engine.weights_held(self.block)

    def forward(self, injection: Tensor, z: Tensor) -> tuple[Tensor, FixedPoint]:
        """Hidden (B, T, H) with its gradient, and the fixed point found from the start z, without."""
        if torch.is_grad_enabled() and self.config.gradient == "last":
            return self.engine.solve_last(self.block, injection, z.detach())
        solution = self.engine.solve(self.block, injection.detach(), z.detach())
        if not torch.is_grad_enabled():
            return solution.z, solution

        def block(value: Tensor) -> Tensor:
            return self.engine.apply(self.block, value, injection)

        if self.config.gradient == "implicit":
            return attach_implicit_gradient(block, solution.z, self.config), solution
        return attach_phantom_gradient(block, solution.z, self.config.phantom_steps), solution


def build_core(config: CoreConfig) -> ConvStack | Equilibrium:
    """The core that the configuration names."""
    if config.kind == "deq":
        return Equilibrium(config.hidden, config.groups, config.fixed_point)
    return ConvStack(config.hidden, config.groups, config.blocks)
