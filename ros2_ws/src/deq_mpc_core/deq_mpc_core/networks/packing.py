"""The network's parameters in one flat array, and cut up again inside the kernels.

Numba takes 0.2 us at every call to look at an array, 10 us for a network's. The order is that of the fields.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deq_mpc_core.features.dimensions import EGO_SIZE, KNOT_SIZE, THETA_SIZE, TOKEN_SIZE
from deq_mpc_core.networks.config import NetworkConfig
from deq_mpc_core.networks.flight_weights import (
    Array32,
    AttentionStack,
    ConvWeights,
    EncoderWeights,
    EquilibriumWeights,
    Mlp,
    NetworkWeights,
    RefinerWeights,
    Sizes,
    WeightReader,
)
from deq_mpc_core.networks.shapes import parameter_shapes

ALIGNMENT = 16
"""Every parameter begins at a multiple of so many floats, a cache line."""

_jit = njit(cache=True, error_model="numpy")
Cursor = NDArray[np.int64]


def _leaves(tree: tuple[Any, ...]) -> list[Array32]:
    return [leaf for node in tree for leaf in (_leaves(node) if isinstance(node, tuple) else [node])]


def pack(weights: NetworkWeights) -> Array32:
    """All parameters in one array; `unpack` is the inverse."""
    leaves = _leaves(weights)
    starts = np.cumsum([0, *(-(-leaf.size // ALIGNMENT) * ALIGNMENT for leaf in leaves)])
    flat = np.zeros(starts[-1], np.float32)
    for start, leaf in zip(starts[:-1], leaves, strict=True):
        flat[start : start + leaf.size] = leaf.ravel()
    return flat


def packed_size(config: NetworkConfig, horizon: int) -> int:
    """Length of what `pack` makes of a network of this configuration."""
    weights = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(config, horizon).items()}
    return pack(WeightReader(weights).network(config)).size


@_jit
def _take(flat: Array32, cursor: Cursor, size: int) -> Array32:
    first = cursor[0]
    cursor[0] = first + (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    return flat[first : first + size]


@_jit
def _take_matrix(flat: Array32, cursor: Cursor, rows: int, columns: int) -> Array32:
    return _take(flat, cursor, rows * columns).reshape(rows, columns)


@_jit
def _take_matrices(flat: Array32, cursor: Cursor, count: int, rows: int, columns: int) -> Array32:
    return _take(flat, cursor, count * rows * columns).reshape(count, rows, columns)


@_jit
def _take_mlp(flat: Array32, cursor: Cursor, inputs: int, hidden: int) -> Mlp:
    return Mlp(
        _take_matrix(flat, cursor, inputs, hidden),
        _take(flat, cursor, hidden),
        _take(flat, cursor, hidden),
        _take(flat, cursor, hidden),
        _take_matrix(flat, cursor, hidden, hidden),
        _take(flat, cursor, hidden),
    )


@_jit
def _take_attention(flat: Array32, cursor: Cursor, layers: int, hidden: int) -> AttentionStack:
    return AttentionStack(
        _take_matrices(flat, cursor, layers, hidden, hidden),
        _take_matrix(flat, cursor, layers, hidden),
        _take_matrices(flat, cursor, layers, hidden, 2 * hidden),
        _take_matrix(flat, cursor, layers, 2 * hidden),
        _take_matrices(flat, cursor, layers, hidden, hidden),
        _take_matrix(flat, cursor, layers, hidden),
        _take_matrix(flat, cursor, layers, hidden),
        _take_matrix(flat, cursor, layers, hidden),
    )


@_jit
def _take_encoder(flat: Array32, cursor: Cursor, sizes: Sizes) -> EncoderWeights:
    hidden = sizes.hidden
    return EncoderWeights(
        _take_mlp(flat, cursor, EGO_SIZE + sizes.rays, hidden),
        _take_mlp(flat, cursor, TOKEN_SIZE, hidden),
        _take(flat, cursor, hidden),
        _take_matrix(flat, cursor, sizes.horizon, hidden),
        _take_attention(flat, cursor, sizes.token_layers, hidden),
        _take_attention(flat, cursor, sizes.query_layers, hidden),
        _take_mlp(flat, cursor, hidden, hidden),
    )


@_jit
def _take_refiner(flat: Array32, cursor: Cursor, hidden: int) -> RefinerWeights:
    return RefinerWeights(
        _take_mlp(flat, cursor, KNOT_SIZE, hidden),
        _take(flat, cursor, hidden),
        _take(flat, cursor, hidden),
        _take_matrix(flat, cursor, 3 * hidden, THETA_SIZE),
        _take(flat, cursor, THETA_SIZE),
        _take(flat, cursor, THETA_SIZE),
    )


@_jit
def _take_equilibrium(flat: Array32, cursor: Cursor, hidden: int) -> EquilibriumWeights:
    return EquilibriumWeights(
        _take_matrix(flat, cursor, 3 * hidden, hidden),
        _take(flat, cursor, hidden),
        _take_matrix(flat, cursor, 3 * hidden, hidden),
        _take(flat, cursor, hidden),
        _take(flat, cursor, hidden),
        _take(flat, cursor, hidden),
        _take(flat, cursor, hidden),
        _take(flat, cursor, hidden),
        _take(flat, cursor, hidden),
        _take(flat, cursor, hidden),
    )


@_jit
def _take_conv(flat: Array32, cursor: Cursor, blocks: int, hidden: int) -> ConvWeights:
    return ConvWeights(
        _take_matrices(flat, cursor, blocks, 3 * hidden, hidden),
        _take_matrix(flat, cursor, blocks, hidden),
        _take_matrix(flat, cursor, blocks, hidden),
        _take_matrix(flat, cursor, blocks, hidden),
    )


@_jit
def unpack(flat: Array32, sizes: Sizes) -> NetworkWeights:
    """Views of what `pack` has packed for a network of these sizes."""
    cursor = np.zeros(1, np.int64)
    return NetworkWeights(
        _take_encoder(flat, cursor, sizes),
        _take_refiner(flat, cursor, sizes.hidden),
        _take_equilibrium(flat, cursor, sizes.hidden if sizes.deq else 0),
        _take_conv(flat, cursor, 0 if sizes.deq else sizes.blocks, sizes.hidden),
    )
