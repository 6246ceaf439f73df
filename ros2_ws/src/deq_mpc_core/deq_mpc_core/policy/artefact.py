"""Artefacts of ``deq-mpc export``: one safetensors file with all that a flight policy needs, ready for its kernels.

Tensors: ``network`` (parameters in the kernels' layout), ``params`` (nominal, of the MPC's model). Metadata:
``artefact_version``, ``task``, ``config`` (the policy's, MPC included, JSON), ``slot`` (printed source of the model),
``kernels`` (digest of the sources that the slot was printed for) and ``digest`` of everything else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from deq_mpc_core.checkpoint import read_safetensors
from deq_mpc_core.config import parse_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.models.crazyflie import nominal_params
from deq_mpc_core.networks.packing import packed_size
from deq_mpc_core.outputs import write_file
from deq_mpc_core.policy.compiled import kernel_digest
from deq_mpc_core.policy.config import PolicyConfig
from deq_mpc_core.policy.printed import check_printed
from deq_mpc_core.policy.program import TASK, FlightProgram
from deq_mpc_core.solver.generate import is_shipped_slot

VERSION = 1
_KEYS = ("artefact_version", "task", "config", "slot", "kernels", "digest")


def is_artefact(metadata: Mapping[str, str]) -> bool:
    """Whether a safetensors file with this metadata is one, of whatever version."""
    return "artefact_version" in metadata


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, NDArray[Any]]) -> str:
    total = hashlib.sha256()
    for key in sorted(set(metadata) - {"digest"}):
        total.update(f"{key}\0{metadata[key]}\0".encode())
    for name in sorted(tensors):
        total.update(f"{name} {tensors[name].dtype} {tensors[name].shape}\0".encode())
        total.update(np.ascontiguousarray(tensors[name]).data)
    return total.hexdigest()


def save_artefact(path: Path, program: FlightProgram) -> None:
    """Write an artefact; a reader sees the old file or the whole new one, never a part.

    Raises:
        UserError: if it cannot be written.
    """
    tensors: dict[str, NDArray[Any]] = {"network": program.network, "params": program.params}
    metadata = {
        "artefact_version": str(VERSION),
        "task": TASK,
        "config": json.dumps(program.config.model_dump(mode="json"), allow_nan=False),
        "slot": program.slot,
        "kernels": kernel_digest(),
    }
    write_file(path, save(tensors, {**metadata, "digest": _digest(metadata, tensors)}))


def load_artefact(path: Path) -> FlightProgram:
    """Read and check an artefact.

    Raises:
        UserError: if it is missing, damaged, of another task or version, or was made for other kernels.
    """
    metadata, tensors = read_safetensors(path)
    if not is_artefact(metadata):
        raise UserError(f"{path}: is no exported policy; make one with `deq-mpc export`")
    if metadata["artefact_version"] != str(VERSION):
        found = metadata["artefact_version"]
        raise UserError(f"{path}: has artefact version {found}, this program reads {VERSION}; export it again")
    if set(metadata) != set(_KEYS) or metadata["digest"] != _digest(metadata, tensors):
        raise UserError(f"{path}: is damaged, its contents do not have their digest; copy or export it again")
    if metadata["task"] != TASK:
        raise UserError(f"{path}: is of task {metadata['task']!r}, not {TASK!r}; use an artefact of {TASK!r}")
    if metadata["kernels"] != kernel_digest():
        raise UserError(f"{path}: was exported for other solver kernels than the installed ones; export it again")
    try:
        config = parse_config(json.loads(metadata["config"]), PolicyConfig, str(path))
        if not is_shipped_slot(TASK, metadata["slot"]):
            check_printed(metadata["slot"])
        return _program(config, metadata["slot"], tensors)
    except (ValueError, KeyError, RecursionError) as error:
        raise UserError(f"{path}: {error}; export it again") from error


def _program(config: PolicyConfig, slot: str, tensors: Mapping[str, NDArray[Any]]) -> FlightProgram:
    network, params = tensors["network"], tensors["params"]
    expected = (packed_size(config.network, config.mpc.horizon),)
    if network.dtype != np.float32 or network.shape != expected:
        raise ValueError(f"its network has {network.dtype} {network.shape}, its configuration float32 {expected}")
    if params.dtype != np.float64 or params.shape != nominal_params().shape:
        raise ValueError(f"its model parameters are {params.dtype} {params.shape}, not those of the Crazyflie")
    if not (np.isfinite(network).all() and np.isfinite(params).all()):
        raise ValueError("it holds a number that is not finite")
    return FlightProgram(config, np.array(params), slot, np.array(network))
