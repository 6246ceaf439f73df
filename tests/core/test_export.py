"""Exported policies: they are the checkpoint, load without torch and SymPy, and nothing damaged or foreign is flown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flight_scenes import observation, policy_config, random_network, write_checkpoint
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from deq_mpc_core.checkpoint import load_checkpoint, read_safetensors
from deq_mpc_core.errors import UserError
from deq_mpc_core.policy import artefact, check_policy, export, load_policy
from deq_mpc_core.policy.export import export_policy
from deq_mpc_core.policy.flight_policy import DeqMpcPolicy
from deq_mpc_core.policy.printed import check_printed
from deq_mpc_core.policy.program import make_program, read_flight_checkpoint
from deq_mpc_core.policy.rollout import roll_out
from deq_mpc_core.policy.verification import compare, training_policy
from deq_mpc_core.solver.generate import shipped_slot
from deq_mpc_core.solver.solution import Status


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = policy_config()
    return write_checkpoint(tmp_path_factory.mktemp("policy") / "a.safetensors", config, random_network(config))


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> Path:
    path = checkpoint.with_name("a.policy")
    artefact.save_artefact(path, make_program(*read_flight_checkpoint(checkpoint)))
    return path


def rewrite(path: Path, out: Path, tensors: dict[str, NDArray[Any]] | None = None, **metadata: str) -> Path:
    """A copy with changes, under a digest that fits."""
    before, arrays = read_safetensors(path)
    arrays |= tensors or {}
    after = {**before, **metadata}
    save_file(arrays, out, {**after, "digest": artefact._digest(after, arrays)})
    return out


def refusal(path: Path) -> str:
    messages = []
    for use in (load_policy, check_policy):
        with pytest.raises(UserError) as caught:
            use(path)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "\n" not in messages[0]
    assert messages[0].startswith(f"{path}: ")
    assert ";" in messages[0]
    return messages[0]


# Equality -------------------------------------------------------------------------------------------------------------


def test_an_exported_policy_takes_the_checkpoints_steps_to_the_last_bit(checkpoint: Path, exported: Path) -> None:
    check_policy(exported)
    states: list[Any] = [None, None]
    for step in range(3):
        taken = [
            load_policy(path).step(observation(0.01 * step), states[n]) for n, path in enumerate((checkpoint, exported))
        ]
        states = [state for _, state, _ in taken]
        assert taken[0][0] == taken[1][0]
        np.testing.assert_array_equal(states[0].tau, states[1].tau)


def test_export_verifies_measures_and_writes(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_CHECKED", 10)
    monkeypatch.setattr(export, "_TIMED", 30)
    out = tmp_path / "new" / "a.policy"
    done = export_policy(checkpoint, out)
    assert list(out.parent.iterdir()) == [out]
    assert done.agreement.steps == 30
    assert done.agreement.difference <= export.TOLERANCE
    assert done.load_seconds > 0.0
    assert len(done.step_ms) == 29
    assert "differs" in export.describe(done, out)
    assert isinstance(load_policy(out), DeqMpcPolicy)


def test_a_policy_that_is_not_the_trained_one_is_not_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def detuned(config: Any, weights: dict[str, NDArray[np.float32]]) -> Any:
        changed = {name: value * np.float32(1.001) for name, value in weights.items()}
        return make_program(config, changed)

    monkeypatch.setattr(export, "_CHECKED", 5)
    monkeypatch.setattr(export, "make_program", detuned)
    with pytest.raises(UserError, match=r"differs from the trained one by .* was not written"):
        export_policy(checkpoint, tmp_path / "a.policy")
    assert list(tmp_path.iterdir()) == []


def test_the_comparison_counts_a_plan_that_is_not_finite(checkpoint: Path) -> None:
    config, weights = read_flight_checkpoint(checkpoint)
    broken = {**weights, "head.linear.bias": np.full_like(weights["head.linear.bias"], np.nan)}
    flight = DeqMpcPolicy(make_program(config, broken))
    found = compare(flight, training_policy(config, weights), [(observation(), None)], export.TOLERANCE)
    assert found.difference > export.TOLERANCE


def test_flights_in_the_model_go_somewhere() -> None:
    """Of the baseline, whose way is straight: it leaves, arrives, and begins again."""
    policy = load_policy("straight-line")
    steps = list(roll_out(policy, 900, seed=3))
    assert all(obs.obstacles.shape == (40, 7) for obs, _ in steps)
    starts = [n for n, (_, state) in enumerate(steps) if state is None]
    assert starts[0] == 0
    assert len(starts) >= 2
    first = [obs.x[0] for obs, _ in steps[: starts[1]]]
    assert abs(first[-1] - first[0]) > 1.0
    statuses = [policy.step(obs, state)[2].status for obs, state in steps[::100]]
    assert Status.NUMERICAL_FAILURE not in statuses


# Loading --------------------------------------------------------------------------------------------------------------


def test_loading_imports_neither_torch_nor_sympy(exported: Path) -> None:
    code = (
        "import sys; from deq_mpc_core.policy import load_policy;"
        f"load_policy({str(exported)!r}); sys.exit(len({{'torch', 'sympy', 'casadi'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated(exported: Path, tmp_path: Path, share: float) -> None:
    file = tmp_path / "a.policy"
    content = exported.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert "damaged" in refusal(file)


def test_a_flipped_bit_is_found(exported: Path, tmp_path: Path) -> None:
    content = bytearray(exported.read_bytes())
    content[-1000] ^= 1
    file = tmp_path / "a.policy"
    file.write_bytes(content)
    assert "digest" in refusal(file)


def test_missing_metadata(exported: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.policy"
    save_file(load_file(exported), file, {"artefact_version": str(artefact.VERSION)})
    assert "damaged" in refusal(file)


def test_other_version_task_and_kernels(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.policy"
    assert "version 7" in refusal(rewrite(exported, out, artefact_version="7"))
    assert "'pendulum'" in refusal(rewrite(exported, out, task="pendulum"))
    assert "other solver kernels" in refusal(rewrite(exported, out, kernels="0"))


def test_contents_that_contradict_each_other(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.policy"
    config = json.loads(read_safetensors(exported)[0]["config"])
    changed = json.dumps({**config, "network": {**config["network"], "hidden": 32}})
    assert "float32 (" in refusal(rewrite(exported, out, config=changed))
    far = json.dumps({**config, "mpc": {**config["mpc"], "horizon": 10**9}})
    with pytest.raises(UserError, match=r"horizon: Input should be less than or equal to 1000"):
        load_policy(rewrite(exported, out, config=far))
    assert "recursion" in refusal(rewrite(exported, out, config="[" * 100_000))
    assert "unknown key 'speed'" in refusal(rewrite(exported, out, config=json.dumps({**config, "speed": 1})))
    assert "model parameters" in refusal(rewrite(exported, out, {"params": np.zeros(3)}))
    assert "not finite" in refusal(rewrite(exported, out, {"params": np.full(13, np.nan)}))


def test_what_no_printer_prints_is_not_run(exported: Path, tmp_path: Path) -> None:
    slot = shipped_slot("crazyflie")
    check_printed(slot)
    marker = tmp_path / "ran"
    evil = f"open({str(marker)!r}, 'w')"
    decorator = slot[slot.index("@njit") : slot.index("def f(")]
    additions = [
        f"{evil}\n",
        "import os\n",
        f"X = {evil}\n",
        f"X = set([{evil}])\n",
        f"def g(x):\n    {evil}\n",
        f"{decorator}def g(x):\n    {evil}\n",
        f"{decorator}def g(x={evil}):\n    return x\n",
        f"{decorator}def g(x: {evil}):\n    return x\n",
        f"{decorator}def g(x):\n    return x.__class__\n",
        f"{decorator}def g(x):\n    import os\n",
        f"{decorator}def g(x):\n    return [{evil} for _ in x]\n",
        f"@{evil}\ndef g(x):\n    return x\n",
        "class G:\n    pass\n",
        "def (\n",
    ]
    for addition in additions:
        with pytest.raises(ValueError, match=r"no printer prints|no source code"):
            check_printed(slot + addition)
    assert "no printer prints" in refusal(rewrite(exported, tmp_path / "a.policy", slot=slot + additions[0]))
    assert not marker.exists()


def test_outputs_that_cannot_be_written(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        export_policy(checkpoint, tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match="cannot be written"):
        export_policy(checkpoint, file / "a.policy")


def test_an_exported_policy_cannot_be_trained_on(exported: Path) -> None:
    with pytest.raises(UserError, match="exported policy, which can only fly"):
        load_checkpoint(exported, task="crazyflie")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from deq_mpc_core.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("policy", ["expert", "missing.safetensors"])
def test_command_refuses_in_one_line(policy: str, tmp_path: Path) -> None:
    done = run("export", "--policy", policy, "--out", str(tmp_path / "a.policy"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
