"""Parameters of the flight network: the kernels' structures, and how they are filled from the torch network's names.

Linear weights are (inputs, outputs), so that inner loops run over outputs and vectorise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.features.dimensions import THETA_SIZE
from deq_mpc_core.networks.config import NetworkConfig

Array32 = NDArray[np.float32]


class Mlp(NamedTuple):
    """Linear - LayerNorm - ReLU - Linear."""

    weight1: Array32
    bias1: Array32
    gain: Array32
    shift: Array32
    weight2: Array32
    bias2: Array32


class AttentionStack(NamedTuple):
    """Weights of L attention layers, stacked along the first axis; L may be 0."""

    query_weight: Array32
    query_bias: Array32
    key_value_weight: Array32
    key_value_bias: Array32
    output_weight: Array32
    output_bias: Array32
    gain: Array32
    shift: Array32


class ConvWeights(NamedTuple):
    """Blocks of kind nn, stacked along the first axis."""

    weight: Array32
    bias: Array32
    gain: Array32
    shift: Array32


class EquilibriumWeights(NamedTuple):
    """Parameters of d."""

    weight1: Array32
    bias1: Array32
    weight2: Array32
    bias2: Array32
    gain1: Array32
    shift1: Array32
    gain2: Array32
    shift2: Array32
    gain3: Array32
    shift3: Array32


class EncoderWeights(NamedTuple):
    """Parameters of ``waypoints.ObservationEncoder``."""

    scene: Mlp
    token: Mlp
    nothing: Array32
    time: Array32
    token_layers: AttentionStack
    query_layers: AttentionStack
    output: Mlp


class RefinerWeights(NamedTuple):
    """Parameters of ``waypoints.WaypointNetwork`` around its core."""

    knot: Mlp
    gain: Array32
    shift: Array32
    head_weight: Array32
    head_bias: Array32
    output_scale: Array32


class NetworkWeights(NamedTuple):
    """All parameters; of the two cores, the one of the other kind is empty."""

    encoder: EncoderWeights
    refiner: RefinerWeights
    equilibrium: EquilibriumWeights
    conv: ConvWeights


class Sizes(NamedTuple):
    """What decides the shapes of `NetworkWeights`; ``deq``: whether the core is an equilibrium."""

    horizon: int
    rays: int
    hidden: int
    heads: int
    groups: int
    token_layers: int
    query_layers: int
    blocks: int
    deq: bool


def network_sizes(config: NetworkConfig, horizon: int) -> Sizes:
    """Sizes of a configuration's network."""
    return Sizes(
        horizon=horizon,
        rays=config.features.scan_size,
        hidden=config.hidden,
        heads=config.heads,
        groups=config.groups,
        token_layers=config.token_layers,
        query_layers=config.query_layers,
        blocks=config.blocks,
        deq=config.kind == "deq",
    )


class WeightReader:
    """Torch parameters to the kernels' layout: linear weights become (inputs, outputs)."""

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self._weights = weights

    def vector(self, name: str) -> Array32:
        """A parameter as it is."""
        return np.ascontiguousarray(self._weights[name], dtype=np.float32)

    def matrix(self, name: str) -> Array32:
        """A linear weight, (inputs, outputs)."""
        return np.ascontiguousarray(self._weights[name].T, dtype=np.float32)

    def mlp(self, name: str) -> Mlp:
        """See ``layers.encoder``."""
        first, norm, last = (f"{name}.{place}" for place in (0, 1, 3))
        return Mlp(
            self.matrix(f"{first}.weight"),
            self.vector(f"{first}.bias"),
            self.vector(f"{norm}.weight"),
            self.vector(f"{norm}.bias"),
            self.matrix(f"{last}.weight"),
            self.vector(f"{last}.bias"),
        )

    def attention(self, name: str, layers: int, hidden: int) -> AttentionStack:
        """``layers`` layers named ``name.0`` and so on."""

        def stack(part: str, outputs: int) -> tuple[Array32, Array32]:
            weight, bias = np.zeros((layers, hidden, outputs), np.float32), np.zeros((layers, outputs), np.float32)
            for layer in range(layers):
                weight[layer] = self.matrix(f"{name}.{layer}.{part}.weight")
                bias[layer] = self.vector(f"{name}.{layer}.{part}.bias")
            return weight, bias

        norm = np.zeros((2, layers, hidden), np.float32)
        for layer in range(layers):
            norm[0, layer] = self.vector(f"{name}.{layer}.norm.weight")
            norm[1, layer] = self.vector(f"{name}.{layer}.norm.bias")
        return AttentionStack(
            *stack("query", hidden), *stack("key_value", 2 * hidden), *stack("output", hidden), norm[0], norm[1]
        )

    def encoder(self, config: NetworkConfig) -> EncoderWeights:
        """See `EncoderWeights`."""
        return EncoderWeights(
            self.mlp("encoder.scene"),
            self.mlp("encoder.token"),
            self.vector("encoder.nothing"),
            self.vector("encoder.time"),
            self.attention("encoder.token_layers", config.token_layers, config.hidden),
            self.attention("encoder.query_layers", config.query_layers, config.hidden),
            self.mlp("encoder.output"),
        )

    def refiner(self, config: NetworkConfig) -> RefinerWeights:
        """See `RefinerWeights`."""
        scale = np.repeat(np.array([config.position_scale, config.velocity_scale], np.float32), THETA_SIZE // 2)
        return RefinerWeights(
            self.mlp("knot"),
            self.vector("norm.weight"),
            self.vector("norm.bias"),
            self.matrix("head.linear.weight"),
            self.vector("head.linear.bias"),
            scale,
        )

    def equilibrium(self) -> EquilibriumWeights:
        """Core of kind deq."""
        block = "core.block"
        convs = [
            (self.matrix(f"{block}.{c}.linear.weight"), self.vector(f"{block}.{c}.linear.bias"))
            for c in ("conv1", "conv2")
        ]
        norms = [
            (self.vector(f"{block}.{n}.weight"), self.vector(f"{block}.{n}.bias")) for n in ("norm1", "norm2", "norm3")
        ]
        return EquilibriumWeights(*convs[0], *convs[1], *norms[0], *norms[1], *norms[2])

    def conv_stack(self, blocks: int) -> ConvWeights:
        """Core of kind nn."""
        names = [f"core.blocks.{block}" for block in range(blocks)]
        return ConvWeights(
            np.stack([self.matrix(f"{name}.0.linear.weight") for name in names]),
            np.stack([self.vector(f"{name}.0.linear.bias") for name in names]),
            np.stack([self.vector(f"{name}.1.weight") for name in names]),
            np.stack([self.vector(f"{name}.1.bias") for name in names]),
        )

    def network(self, config: NetworkConfig) -> NetworkWeights:
        """The whole network."""
        hidden, deq = config.hidden, config.kind == "deq"
        return NetworkWeights(
            self.encoder(config),
            self.refiner(config),
            self.equilibrium() if deq else _empty_equilibrium(),
            _empty_conv(hidden) if deq else self.conv_stack(config.blocks),
        )


def _empty_equilibrium() -> EquilibriumWeights:
    matrix, vector = np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
    return EquilibriumWeights(matrix, vector, matrix, *[vector] * 7)


def _empty_conv(hidden: int) -> ConvWeights:
    vectors = np.zeros((0, hidden), np.float32)
    return ConvWeights(np.zeros((0, 3 * hidden, hidden), np.float32), *[vectors] * 3)
