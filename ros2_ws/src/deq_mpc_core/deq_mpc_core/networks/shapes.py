"""Names and shapes of the network's parameters, without torch: what a checkpoint's weights are checked against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from deq_mpc_core.errors import UserError
from deq_mpc_core.features.dimensions import EGO_SIZE, KNOT_SIZE, THETA_SIZE, TOKEN_SIZE
from deq_mpc_core.networks.config import NetworkConfig

Shapes = dict[str, tuple[int, ...]]


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _mlp(name: str, inputs: int, hidden: int) -> Shapes:
    return _linear(f"{name}.0", inputs, hidden) | _norm(f"{name}.1", hidden) | _linear(f"{name}.3", hidden, hidden)


def _attention(name: str, hidden: int) -> Shapes:
    linears = _linear(f"{name}.query", hidden, hidden) | _linear(f"{name}.key_value", hidden, 2 * hidden)
    return linears | _linear(f"{name}.output", hidden, hidden) | _norm(f"{name}.norm", hidden)


def _core(config: NetworkConfig) -> Shapes:
    hidden, shapes = config.hidden, Shapes()
    if config.kind == "deq":
        for number in (1, 2):
            shapes |= _linear(f"core.block.conv{number}.linear", 3 * hidden, hidden)
        for number in (1, 2, 3):
            shapes |= _norm(f"core.block.norm{number}", hidden)
        return shapes
    for block in range(config.blocks):
        shapes |= _linear(f"core.blocks.{block}.0.linear", 3 * hidden, hidden) | _norm(f"core.blocks.{block}.1", hidden)
    return shapes


def parameter_shapes(config: NetworkConfig, horizon: int) -> Shapes:
    """Shape of each parameter of ``waypoints.WaypointNetwork``, by its name in the state_dict."""
    hidden = config.hidden
    shapes: Shapes = {"encoder.nothing": (hidden,), "encoder.time": (horizon, hidden)}
    shapes |= _mlp("encoder.scene", EGO_SIZE + config.features.scan_size, hidden)
    shapes |= _mlp("encoder.token", TOKEN_SIZE, hidden) | _mlp("encoder.output", hidden, hidden)
    for kind, layers in (("token", config.token_layers), ("query", config.query_layers)):
        for layer in range(layers):
            shapes |= _attention(f"encoder.{kind}_layers.{layer}", hidden)
    shapes |= _mlp("knot", KNOT_SIZE, hidden) | _norm("norm", hidden)
    return shapes | _core(config) | _linear("head.linear", 3 * hidden, THETA_SIZE)


def check_weights(weights: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Compare names and shapes.

    Raises:
        UserError: naming the first weight that is missing, unknown or of another shape.
    """
    advice = "the weights and the configuration are not of the same training; use a checkpoint as it was written"
    for name in (*shapes, *weights):
        if name not in weights:
            raise UserError(f"weight {name!r} is missing; {advice}")
        if name not in shapes:
            raise UserError(f"weight {name!r} is unknown to the configuration; {advice}")
        if weights[name].shape != shapes[name]:
            raise UserError(f"weight {name!r} has shape {weights[name].shape}, not {shapes[name]}; {advice}")
