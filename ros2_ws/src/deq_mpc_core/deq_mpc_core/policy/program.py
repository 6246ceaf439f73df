"""What a trained flight policy consists of when it flies: from a checkpoint or an exported artefact, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.checkpoint import default_checkpoint, load_checkpoint
from deq_mpc_core.config import parse_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.models.crazyflie import nominal_params
from deq_mpc_core.networks.flight_weights import WeightReader
from deq_mpc_core.networks.packing import pack
from deq_mpc_core.networks.shapes import check_weights, parameter_shapes
from deq_mpc_core.policy.config import PolicyConfig
from deq_mpc_core.solver.generate import shipped_slot

TASK = "crazyflie"
"""Of checkpoints and artefacts of this policy; also the name of its model."""


@dataclass(frozen=True)
class FlightProgram:
    """Attributes:
    config: the policy's.
    params: (np,) nominal parameters of the MPC's model.
    slot: printed source of the model, see ``solver.generate.print_slot``.
    network: the network's parameters, see ``networks.packing``.
    """

    config: PolicyConfig
    params: NDArray[np.float64]
    slot: str
    network: NDArray[np.float32]


def make_program(config: PolicyConfig, weights: Mapping[str, NDArray[np.float32]]) -> FlightProgram:
    """From the torch network's parameters by name, which must fit the configuration."""
    network = pack(WeightReader(weights).network(config.network))
    return FlightProgram(config, nominal_params(), shipped_slot(TASK), network)


def read_flight_checkpoint(path: Path | None = None) -> tuple[PolicyConfig, dict[str, NDArray[np.float32]]]:
    """Configuration and weights of a checkpoint, by default of the shipped one, that fit each other.

    Raises:
        UserError: if the checkpoint is missing, damaged, of another task or of a configuration unknown here.
    """
    path = path or default_checkpoint()
    checkpoint = load_checkpoint(path, task=TASK)
    config = parse_config(checkpoint.config, PolicyConfig, str(path))
    try:
        check_weights(checkpoint.weights, parameter_shapes(config.network, config.mpc.horizon))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return config, checkpoint.weights
