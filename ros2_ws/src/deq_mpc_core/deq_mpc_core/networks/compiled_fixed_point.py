"""z* = d(z*, I) by the flight's compiled kernels: float32 on a CPU, without gradient, for training and inference.

Each sample is solved on its own, so that its answer has the same bits whatever its batch mates are, and costs only the
steps that it needs itself. `fixed_point.solve_anderson` is the reference, for any type and device.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from deq_mpc_core.networks.config import FixedPointConfig
from deq_mpc_core.networks.fixed_point import FixedPoint
from deq_mpc_core.networks.flight_kernels import EquilibriumBatch, Mixing, solve_equilibria
from deq_mpc_core.networks.flight_weights import EquilibriumWeights, WeightReader
from deq_mpc_core.threads import available_threads, over_batch


class CompiledFixedPoint:
    """The kernels' copy of one block's weights, renewed when they change."""

    def __init__(self, groups: int, config: FixedPointConfig) -> None:
        self._groups = groups
        self._mixing = Mixing(
            config.memory, np.float32(config.mixing), config.max_steps, config.tolerance, config.regularisation
        )
        self._seen: tuple[tuple[int, int], ...] = ()
        self._weights: EquilibriumWeights | None = None

    def solve(self, parameters: Mapping[str, Tensor], injection: Tensor, start: Tensor) -> FixedPoint:
        """Fixed points from the starts (B, T, H) for the injections (B, T, H).

        Args:
            parameters: of ``cores.EquilibriumBlock``, by name.

        Raises:
            ValueError: if the tensors are not float32 on the CPU.
        """
        if start.dtype != torch.float32 or start.device.type != "cpu":
            raise ValueError(
                f"the compiled fixed point is for float32 on the CPU, not {start.dtype} on {start.device}; "
                "configure engine: torch"
            )
        found = FixedPoint(torch.empty_like(start), start.new_empty(len(start)), torch.empty(len(start)).long())
        batch = EquilibriumBatch(*(a.contiguous().numpy() for a in (injection, start, *found)))
        weights = self._refresh(parameters)
        over_batch(available_threads(), len(start), solve_equilibria, weights, self._groups, self._mixing, batch)
        return found

    def _refresh(self, parameters: Mapping[str, Tensor]) -> EquilibriumWeights:
        """Transposed copies; torch counts the changes of a tensor in its version."""
        versions = tuple((p.data_ptr(), p._version) for p in parameters.values())
        if self._weights is None or versions != self._seen:
            self._weights = WeightReader(
                {f"core.block.{n}": p.detach().numpy() for n, p in parameters.items()}
            ).equilibrium()
            self._seen = versions
        return self._weights
