"""Checkpoints: one safetensors file with the weights in float32 and, as JSON in its metadata, what made them.

Metadata: ``format_version``, ``task``, ``config`` (the policy's), ``data`` (what it was trained on), ``curves``.
Reads and writes without torch, so that a flight loads it quickly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from deq_mpc_core.errors import UserError
from deq_mpc_core.outputs import write_file

FORMAT_VERSION = 1
_UNREADABLE = (SafetensorError, OSError, ValueError, TypeError, AttributeError)
"""What reading a damaged file raises; the last two come of types that NumPy lacks."""


@dataclass(frozen=True)
class Checkpoint:
    """A policy's weights and what is known of them.

    Attributes:
        weights: parameters by name, float32, as in the torch network's ``state_dict``.
        task: what the policy does, e.g. ``crazyflie``.
        config: the policy's configuration, as plain JSON values.
        data: description of the training data.
        curves: values over training steps, by name.
    """

    weights: dict[str, NDArray[np.float32]]
    task: str
    config: dict[str, Any]
    data: dict[str, Any]
    curves: dict[str, Any]


def default_checkpoint(task: str = "crazyflie") -> Path:
    """Path of the checkpoint that is installed with the package."""
    return Path(str(files("deq_mpc_core"))) / "checkpoints" / f"{task}.safetensors"


def save_checkpoint(
    path: Path,
    weights: Mapping[str, Any],
    *,
    task: str,
    config: Mapping[str, Any],
    data: Mapping[str, Any],
    curves: Mapping[str, Any],
) -> None:
    """Write a checkpoint; a reader sees the old file or the whole new one, never a part.

    Args:
        path: where to; an existing file is replaced.
        weights: arrays or CPU tensors by name, e.g. ``network.state_dict()``; stored as float32.
        task: see `Checkpoint`, as the rest; all must be JSON values.

    Raises:
        ValueError: if a weight is not finite.
    """
    arrays = {name: np.ascontiguousarray(np.asarray(value), dtype=np.float32) for name, value in weights.items()}
    broken = _first_not_finite(arrays)
    if broken is not None:
        raise ValueError(f"weight {broken!r} is not finite; nothing was written to {path}")
    metadata = {"format_version": FORMAT_VERSION, "task": task, "config": config, "data": data, "curves": curves}
    content = save(arrays, {key: json.dumps(value, allow_nan=False) for key, value in metadata.items()})
    write_file(path, content)


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and tensors of a checkpoint or an exported policy.

    Raises:
        UserError: if the file is missing or damaged.
    """
    inside = path / "checkpoint.safetensors"
    try:
        if inside.is_file():
            raise UserError(f"{path}: is the folder of a training run; name the checkpoint in it: {inside}")
        if not path.is_file():
            raise UserError(f"{path}: no such checkpoint; check the path, or train one with `deq-mpc train`")
        with safe_open(str(path), framework="numpy") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  (it is not a mapping)
            return stream.metadata() or {}, tensors
    except _UNREADABLE as error:
        raise UserError(f"{path}: is not a checkpoint or is damaged ({error}); copy or train it again") from error


def load_checkpoint(path: Path, *, task: str) -> Checkpoint:
    """Read and check a checkpoint.

    Raises:
        UserError: if the file is missing, damaged, of another task or version, or holds weights that are not finite.
    """
    raw, weights = read_safetensors(path)
    checkpoint = _interpret(path, raw, weights, task)
    broken = _first_not_finite(checkpoint.weights)
    if broken is not None:
        raise UserError(f"{path}: weight {broken!r} is not finite; the training diverged, use another checkpoint")
    return checkpoint


def _interpret(path: Path, raw: Mapping[str, str], weights: dict[str, NDArray[Any]], task: str) -> Checkpoint:
    missing = {"format_version", "task", "config", "data", "curves"} - set(raw)
    if "artefact_version" in raw:
        raise UserError(f"{path}: is an exported policy, which can only fly; use the checkpoint that it was made from")
    if missing:
        names = ", ".join(sorted(missing))
        raise UserError(f"{path}: has no {names} in its metadata; it was not written by `deq-mpc train`, train one")
    try:
        fields = {key: json.loads(value) for key, value in raw.items()}
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}: its metadata is damaged ({error}); copy or train it again") from error
    version = fields.pop("format_version")
    if version != FORMAT_VERSION:
        raise UserError(f"{path}: has format version {version}, this program reads {FORMAT_VERSION}; train it again")
    if fields["task"] != task:
        raise UserError(f"{path}: is of task {fields['task']!r}, not {task!r}; use a checkpoint of {task!r}")
    wrong = [name for name, value in weights.items() if value.dtype != np.float32]
    if wrong:
        raise UserError(f"{path}: weight {wrong[0]!r} is not float32; train it again")
    return Checkpoint(weights, fields["task"], fields["config"], fields["data"], fields["curves"])


def _first_not_finite(weights: Mapping[str, NDArray[Any]]) -> str | None:
    return next((name for name, value in weights.items() if not np.isfinite(value).all()), None)
