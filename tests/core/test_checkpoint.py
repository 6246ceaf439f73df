"""Checkpoints: what is written is read, and nothing damaged or foreign is accepted."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from deq_mpc_core.checkpoint import FORMAT_VERSION, default_checkpoint, load_checkpoint, save_checkpoint
from deq_mpc_core.errors import UserError

WEIGHTS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([0.5])}
FACTS: dict[str, Any] = {
    "task": "crazyflie",
    "config": {"network": {"hidden": 64}},
    "data": {"flights": 3},
    "curves": {"loss": [[0, 1.5], [10, 0.2]]},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "policy.safetensors"
    save_checkpoint(file, WEIGHTS, **FACTS)
    return file


def metadata(**changes: Any) -> dict[str, str]:
    return {key: json.dumps(value) for key, value in {"format_version": FORMAT_VERSION, **FACTS, **changes}.items()}


def refusal(path: Path, task: str = "crazyflie") -> str:
    with pytest.raises(UserError) as caught:
        load_checkpoint(path, task=task)
    message = str(caught.value)
    assert str(path) in message
    assert ";" in message
    assert "\n" not in message
    return message


def test_round_trip(path: Path) -> None:
    loaded = load_checkpoint(path, task="crazyflie")
    assert set(loaded.weights) == set(WEIGHTS)
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(loaded.weights[name], value)
    assert {key: getattr(loaded, key) for key in FACTS} == FACTS


def test_takes_a_state_dict(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(3, 2).double()
    save_checkpoint(tmp_path / "t.safetensors", layer.state_dict(), **FACTS)
    loaded = load_checkpoint(tmp_path / "t.safetensors", task="crazyflie")
    np.testing.assert_allclose(loaded.weights["weight"], layer.weight.detach().numpy(), rtol=1e-6)


def test_missing(tmp_path: Path) -> None:
    assert "no such checkpoint" in refusal(tmp_path / "none.safetensors")
    assert "no such checkpoint" in refusal(tmp_path)
    assert "too long" in refusal(tmp_path / ("a" * 300))


def test_the_folder_of_a_run_is_answered_with_the_checkpoint_in_it(tmp_path: Path) -> None:
    inside = tmp_path / "checkpoint.safetensors"
    inside.touch()
    assert f"name the checkpoint in it: {inside}" in refusal(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "damaged" in refusal(path)


def test_foreign_bytes(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("these are not weights, whatever its header may say\n" * 20)
    assert "damaged" in refusal(file)


def test_foreign_safetensors(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file(WEIGHTS, file)
    assert "metadata" in refusal(file)


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3"])
def test_types_that_numpy_lacks(tmp_path: Path, kind: str) -> None:
    header = json.dumps({"a": {"dtype": kind, "shape": [1], "data_offsets": [0, 2 if kind == "BF16" else 1]}}).encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(2 if kind == "BF16" else 1))
    assert "damaged" in refusal(file)


@pytest.mark.parametrize("config", ["{", "[" * 100_000])
def test_damaged_metadata(tmp_path: Path, config: str) -> None:
    file = tmp_path / "x.safetensors"
    save_file(WEIGHTS, file, {**metadata(), "config": config})
    assert "metadata is damaged" in refusal(file)


def test_other_task_version_and_type(tmp_path: Path, path: Path) -> None:
    assert "'pendulum'" in refusal(path, task="pendulum")
    file = tmp_path / "x.safetensors"
    save_file(WEIGHTS, file, metadata(format_version=FORMAT_VERSION + 1))
    assert f"version {FORMAT_VERSION + 1}" in refusal(file)
    save_file({"b": np.zeros(3)}, file, metadata())
    assert "float32" in refusal(file)


def test_weights_that_are_not_finite(tmp_path: Path, path: Path) -> None:
    broken = {**WEIGHTS, "b": np.float32([np.nan])}
    before = path.read_bytes()
    with pytest.raises(ValueError, match="'b'"):
        save_checkpoint(path, broken, **FACTS)
    assert path.read_bytes() == before
    file = tmp_path / "x.safetensors"
    save_file(broken, file, metadata())
    assert "'b'" in refusal(file)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(UserError, match="disk full"):
        save_checkpoint(path, {"a": np.zeros(100)}, **FACTS)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_loading_does_not_import_torch(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from deq_mpc_core.checkpoint import load_checkpoint;"
        f"load_checkpoint(Path({str(path)!r}), task='crazyflie'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_default_lies_in_the_package() -> None:
    assert default_checkpoint().parts[-3:] == ("deq_mpc_core", "checkpoints", "crazyflie.safetensors")
