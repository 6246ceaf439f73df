"""The equilibrium block d by the flight's compiled kernels, float32 on a CPU: its fixed point, its value, its gradient.

Each sample is computed on its own, so that its answer has the same bits whatever its batch mates are, and costs only
the Anderson steps that it needs itself. ``cores.TorchBlock`` is the reference, for any type and device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from deq_mpc_core.networks.config import FixedPointConfig
from deq_mpc_core.networks.fixed_point import FixedPoint
from deq_mpc_core.networks.flight_kernels import (
    BlockGradients,
    EquilibriumBatch,
    Tape,
    TransposedWeights,
    apply_blocks,
    differentiate_blocks,
    fixed_point_options,
    solve_equilibria,
)
from deq_mpc_core.networks.flight_weights import EquilibriumWeights, WeightReader
from deq_mpc_core.threads import available_threads, over_batch

_CONVS, _NORMS = ("conv1.linear", "conv2.linear"), ("norm1", "norm2", "norm3")
_PARAMETERS = tuple(f"{part}.{kind}" for part in (*_CONVS, *_NORMS) for kind in ("weight", "bias"))
"""Of ``cores.EquilibriumBlock``, in the order in which they are passed here."""


def _transposed(weight: Tensor) -> Any:
    """(O, 3 I) of a `TemporalConv` to what carries gradients back, (3 O, I)."""
    outputs = len(weight)
    return weight.detach().view(outputs, 3, -1).flip(1).transpose(0, 1).reshape(3 * outputs, -1).contiguous().numpy()


class CompiledBlock:
    """A `BlockEngine`; keeps the kernels' copy of one block's weights and renews it when they change."""

    def __init__(self, groups: int, config: FixedPointConfig) -> None:
        self.groups = groups
        self._mixing = fixed_point_options(config)
        self._copied: list[Tensor] = []
        self._held = False
        self._weights: tuple[EquilibriumWeights, TransposedWeights] | None = None

    @contextmanager
    def weights_held(self, block: nn.Module) -> Iterator[None]:
        """See `BlockEngine.weights_held`."""
        self.weights(_parameters(block))
        before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = before

    def solve(self, block: nn.Module, injection: Tensor, start: Tensor) -> FixedPoint:
        """See `BlockEngine.solve`."""
        return self._solve(block, injection, start, keep=False)[0]

    def solve_last(self, block: nn.Module, injection: Tensor, start: Tensor) -> tuple[Tensor, FixedPoint]:
        """See `BlockEngine.solve_last`."""
        solution, tape = self._solve(block, injection.detach(), start, keep=True)
        done = _Applied(solution.z.clone(), tape)
        out: Tensor = _Application.apply(self, done, solution.argument, injection, *_parameters(block))
        return out, solution

    def _solve(self, block: nn.Module, injection: Tensor, start: Tensor, keep: bool) -> tuple[FixedPoint, list[Tensor]]:
        """With the tape of the applications that gave z, of no samples unless it is to be kept."""
        _check(start)
        tape = [torch.empty_like(start if keep else start[:0]) for _ in Tape._fields]
        steps = torch.empty(len(start), dtype=torch.int64)
        found = FixedPoint(torch.empty_like(start), start.new_empty(len(start)), steps, torch.empty_like(start))
        arrays: list[Any] = [a.contiguous().numpy() for a in (injection, start, *found)]
        batch = EquilibriumBatch._make([*arrays, Tape(*(a.numpy() for a in tape))])
        weights, _ = self.weights(_parameters(block))
        over_batch(available_threads(), len(start), solve_equilibria, weights, self.groups, self._mixing, batch)
        return found, tape

    def apply(self, block: nn.Module, z: Tensor, injection: Tensor) -> Tensor:
        """See `BlockEngine.apply`."""
        _check(z)
        z, parameters = z.contiguous(), _parameters(block)
        value, tape = torch.empty_like(z), [torch.empty_like(z) for _ in Tape._fields]
        weights, _ = self.weights(parameters)
        inputs = z.detach().numpy(), injection.detach().contiguous().numpy()
        outputs = Tape(*(a.numpy() for a in tape)), value.numpy()
        over_batch(available_threads(), len(z), apply_blocks, weights, self.groups, *inputs, *outputs)
        out: Tensor = _Application.apply(self, _Applied(value, tape), z, injection, *parameters)
        return out

    def weights(self, parameters: Sequence[Tensor]) -> tuple[EquilibriumWeights, TransposedWeights]:
        """The kernels' layout of the block's parameters.

        What was laid out is compared by value, if the weights are not held: torch's count of a tensor's changes misses
        writes through ``.data``.
        """
        if self._held and self._weights is not None:
            return self._weights
        if self._weights is None or not all(map(torch.equal, parameters, self._copied)):
            self._copied = [p.detach().clone() for p in parameters]
            named = dict(zip(_PARAMETERS, self._copied, strict=True))
            arrays = {f"core.block.{name}": p.numpy() for name, p in named.items()}
            back = TransposedWeights(*(_transposed(named[f"{conv}.weight"]) for conv in _CONVS))
            self._weights = WeightReader(arrays).equilibrium(), back
        return self._weights


def _parameters(block: nn.Module) -> list[Tensor]:
    return [block.get_parameter(name) for name in _PARAMETERS]


def _check(z: Tensor) -> None:
    if z.dtype != torch.float32 or z.device.type != "cpu":
        raise ValueError(
            f"the compiled block is for float32 on the CPU, not {z.dtype} on {z.device}; configure engine: torch"
        )


class _Applied(NamedTuple):
    """d(z, I) (B, T, H), computed, and its tape."""

    value: Tensor
    tape: list[Tensor]


class _Application(torch.autograd.Function):
    """d(z, I), computed before, with its gradient; the large matrix products over the whole batch are torch's."""

    @staticmethod
    def forward(
        ctx: Any, engine: CompiledBlock, done: _Applied, z: Tensor, injection: Tensor, *parameters: Tensor
    ) -> Tensor:
        ctx.groups, ctx.weights = engine.groups, engine.weights(parameters)
        ctx.save_for_backward(z, *done.tape)
        return done.value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out_bar: Tensor) -> tuple[Tensor | None, ...]:
        saved: tuple[Tensor, ...] = ctx.saved_tensors
        z, tape, (weights, transposed) = saved[0], saved[1:], ctx.weights
        if not ctx.needs_input_grad[2]:
            transposed = transposed._replace(weight1=np.empty((0, 0), np.float32))
        batch, horizon, hidden = z.shape
        bars = [*(torch.empty_like(z) for _ in range(3)), *(z.new_empty(batch, len(_NORMS), hidden) for _ in range(2))]
        neighbours = z.new_empty(len(_CONVS), batch, horizon, 3 * hidden)
        grads = BlockGradients(*(a.numpy() for a in (*bars, neighbours)))
        arrays = ((z.numpy(), Tape(*(a.numpy() for a in tape))), out_bar.contiguous().numpy(), grads)
        over_batch(available_threads(), batch, differentiate_blocks, weights, transposed, ctx.groups, *arrays)
        z_bar, injection_bar, rectified_bar, gain_bars, shift_bars = bars
        convs = [*_conv_gradients(neighbours[0], rectified_bar), *_conv_gradients(neighbours[1], injection_bar)]
        scales = [bar[:, norm].sum(0) for norm in range(len(_NORMS)) for bar in (gain_bars, shift_bars)]
        return None, None, z_bar if ctx.needs_input_grad[2] else None, injection_bar, *convs, *scales


def _conv_gradients(neighbours: Tensor, out_bar: Tensor) -> tuple[Tensor, Tensor]:
    """With respect to weight and bias of a `TemporalConv`, from `layers.stack_neighbours` (B, T, 3 I) of its input."""
    flat = out_bar.flatten(0, 1)
    return flat.t() @ neighbours.flatten(0, 1), flat.sum(0)
