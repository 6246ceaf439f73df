"""Batches and the trainer: symmetries, gradients, the same run twice, and runs that are resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flight_scenes import policy_config, straight_flights
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from deq_mpc_core.cli import main
from deq_mpc_core.config import config_path, load_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.learning.batches import Batches, Symmetry
from deq_mpc_core.learning.train import TrainConfig, Trainer

Array = NDArray[np.float64]
EIGHT = [(turns, mirrored) for turns in range(4) for mirrored in (False, True)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    """Small batches on torch are slower on more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def symmetry(turns: int, mirrored: bool, batch: int = 1, centre: tuple[float, float] = (0.0, 0.0)) -> Symmetry:
    return Symmetry(np.full(batch, turns), np.full(batch, mirrored), np.array(centre))


# Symmetries -----------------------------------------------------------------------------------------------------------


def test_batches_without_augmentation_are_the_dataset() -> None:
    dataset = straight_flights(16, 0.05)
    batch = Batches(dataset, np.zeros(2)).read(np.array([1, 4]), None, 2)
    assert len(batch.scenarios) == len(batch.labels) == 3
    np.testing.assert_array_equal(batch.scenarios[0].x, dataset.x[[1, 4]])
    np.testing.assert_array_equal(batch.scenarios[2].x, dataset.x_next[[1, 4], 1])
    np.testing.assert_array_equal(batch.scenarios[0].mask, [[True, False], [True, True]])
    first, later = (batch.scenarios[i].obstacles[1, 1] for i in (0, 2))
    np.testing.assert_allclose(later[:3], first[:3] + 0.02 * first[4:7], atol=1e-12)
    for j, scenario in enumerate(batch.scenarios):  # the label starts where the vehicle is
        np.testing.assert_allclose(batch.labels[j][:, 0, :3], scenario.x[:, :3], atol=1e-6, err_msg=str(j))


@pytest.mark.parametrize("step", [0, 2])
def test_augmentation_keeps_what_is_relative(step: int) -> None:
    """Distances between vehicle, goal, spheres and label, and speeds along them, are those of the original."""
    dataset = straight_flights(16, 0.05, samples=40)
    index = np.arange(40)
    batches = Batches(dataset, np.array([0.3, -0.2]))
    plain, turned = batches.read(index, None, 2), batches.read(index, np.random.default_rng(1), 2)
    assert not np.allclose(plain.labels[step], turned.labels[step])
    relative = [_relations(b.scenarios[step], b.labels[step]) for b in (plain, turned)]
    for mine, other in zip(*relative, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-9)


def _relations(scenario: Any, label: Any) -> list[Array]:
    x, goal, spheres = scenario.x.numpy(), scenario.goal.numpy(), scenario.obstacles.numpy()
    mask, label = scenario.mask.numpy()[..., None], label.numpy()
    to_goal, to_sphere = goal - x[:, :3], (spheres[..., :3] - x[:, None, :3]) * mask
    relative_speed = (spheres[..., 4:7] - x[:, None, 3:6]) * mask
    to_label = label[..., :3] - x[:, None, :3]
    return [
        np.linalg.norm(to_goal, axis=-1),
        np.linalg.norm(to_sphere, axis=-1),
        (to_goal[:, None] * to_sphere).sum(-1),
        (to_sphere * relative_speed).sum(-1),
        (to_goal[:, None] * to_label).sum(-1),
        (to_goal[:, None] * label[..., 3:]).sum(-1),
        (to_goal * x[:, 3:6]).sum(-1),
        x[:, 2],
    ]


@pytest.mark.parametrize(("turns", "mirrored"), EIGHT)
@given(rpy=st.tuples(*[st.floats(-0.02, 0.02)] * 3), yaw_rate=st.floats(-1.0, 1.0))
@settings(max_examples=20, deadline=None)
def test_states_turn_like_the_vehicle(turns: int, mirrored: bool, rpy: tuple[float, ...], yaw_rate: float) -> None:
    """The thrust's direction is mapped as a vector; the heading stays or is mirrored; to second order."""
    x = np.zeros((1, 13))
    x[0, :6], x[0, 6:9], x[0, 11] = [0.3, -0.4, 1.0, 0.5, 0.1, -0.2], rpy, yaw_rate
    map_ = symmetry(turns, mirrored, centre=(0.2, 0.1))
    y = map_.states(x)
    thrust = [Rotation.from_euler("xyz", a[0, 6:9]).apply([0.0, 0.0, 1.0])[None] for a in (x, y)]
    np.testing.assert_allclose(thrust[1], map_.vector(thrust[0]), atol=2e-3)
    sign = -1.0 if mirrored else 1.0
    np.testing.assert_array_equal(y[0, [8, 11]], [sign * rpy[2], sign * yaw_rate])
    np.testing.assert_allclose(y[:, 3:6], map_.vector(x[:, 3:6]))


def test_four_quarter_turns_and_two_mirrorings_are_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(3, 5, 13))
    turn, mirror = symmetry(1, False, 3, (0.3, 0.4)), symmetry(0, True, 3, (0.3, 0.4))
    around = turn.states(turn.states(turn.states(turn.states(x))))
    np.testing.assert_allclose(around, x, atol=1e-12)
    np.testing.assert_allclose(mirror.states(mirror.states(x)), x, atol=1e-12)
    assert not np.allclose(turn.states(x), x)


# Trainer --------------------------------------------------------------------------------------------------------------


def trainer(kind: str = "deq", **changes: Any) -> Trainer:
    raw = {"batch": 4, "warmup_batch": 8, "warmup_steps": 2, "steps": 2, "validate_every": 100, "save_every": 100}
    raw |= {"validation_samples": 4}
    config = load_config("train", TrainConfig).model_copy(update=raw | changes)
    policy = policy_config(kind)
    return Trainer(policy, config, straight_flights(policy.mpc.horizon, policy.mpc.dt), 0.3)


def weights(trained: Trainer) -> dict[str, Array]:
    return {name: value.numpy().copy() for name, value in trained.network.state_dict().items()}


def assert_same(one: Trainer, two: Trainer) -> None:
    for name, value in weights(one).items():
        np.testing.assert_array_equal(value, weights(two)[name], err_msg=name)


def test_the_warm_up_learns() -> None:
    run, losses = trainer(warmup_steps=30, steps=0), []
    run.run([lambda step, scalars: losses.append(scalars["theta_error"])], lambda: None)
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])  # without learning: 1 +- 0.05


def test_both_phases_run_and_report() -> None:
    run, seen, saved = trainer(), [], []
    run.run([lambda step, scalars: seen.append((step, scalars))], lambda: saved.append(run.step))
    assert [step for step, _ in seen] == [1, 2, 3, 4]
    assert saved == [4]
    last = seen[-1][1]
    assert {"loss", "gradient_norm", "tau_error", "joint_tau_residual", "validation_tau_error"} <= set(last)
    assert all(np.isfinite(value) for value in last.values())
    assert last["numerical_failures"] == 0.0
    assert run.curves["validation_tau_error"] == [(4, last["validation_tau_error"])]
    assert "tau_error" not in seen[0][1]  # the warm-up has no plan


@pytest.mark.parametrize("kind", ["deq", "nn"])
def test_the_gradient_through_the_solver_reaches_every_parameter(kind: str) -> None:
    run = trainer(kind, warmup_steps=0, theta_weight=0.0, contraction_weight=0.0)
    before = weights(run)
    for _ in range(2):  # the head starts at zero, which hides the rest in the first step
        run.train_step()
    unmoved = [name for name, value in weights(run).items() if np.array_equal(value, before[name])]
    assert unmoved == []


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    runs = [trainer(seed=seed, steps=1) for seed in (4, 4, 5)]
    for run in runs:
        run.run([], lambda: None)
    assert_same(runs[0], runs[1])
    assert not np.array_equal(*(weights(run)["head.linear.bias"] for run in runs[1:]))


@pytest.mark.parametrize("at", [1, 3], ids=["in the warm-up", "in the solver phase"])
def test_a_resumed_run_ends_like_an_uninterrupted_one(at: int, tmp_path: Path) -> None:
    whole, broken = trainer(), trainer()
    whole.run([], lambda: None)
    state = tmp_path / "resume.pt"

    def stop(step: int, scalars: dict[str, float]) -> None:
        if step == at:
            broken.save(state)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.run([stop], lambda: None)
    torch.manual_seed(99)
    resumed = trainer()
    resumed.load(state)
    assert resumed.step == at
    resumed.run([], lambda: None)
    assert_same(whole, resumed)
    assert list(tmp_path.iterdir()) == [state]


def test_foreign_and_damaged_resume_states_are_refused(tmp_path: Path) -> None:
    state = tmp_path / "resume.pt"
    trainer().save(state)
    with pytest.raises(UserError, match=r"another train configuration \(clip was [\d.]+, now 1.0\)"):
        trainer(clip=1.0).load(state)
    with pytest.raises(UserError, match=r"another policy configuration \(network.\w+ was .*, now .*\)"):
        trainer("nn").load(state)
    other = trainer()
    other.dataset = straight_flights(other.policy.mpc.horizon, other.policy.mpc.dt, samples=13)
    with pytest.raises(UserError, match="another data set; use") as caught:
        other.load(state)
    assert "\n" not in str(caught.value)
    state.write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be resumed from"):
        trainer().load(state)


# Command --------------------------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["train", *map(str, arguments)])
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    return error


def test_a_folder_without_bags_is_a_one_line_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert str(empty) in refused(capsys, "--bags", empty, "--out", tmp_path / "run")


def test_a_run_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "resume.pt").touch()
    assert "--resume" in refused(capsys, "--bags", tmp_path, "--out", tmp_path)


def test_nothing_to_resume_and_an_unwritable_folder_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert "no run to go on with" in refused(capsys, "--bags", tmp_path, "--out", run, "--resume")
    assert not run.exists()
    (tmp_path / "file").touch()
    assert "file: cannot be written" in refused(capsys, "--bags", tmp_path, "--out", tmp_path / "file")


def test_a_number_that_is_not_finite_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(config_path("train").read_text().replace("clip: 2.0", "clip: .inf"))
    assert "clip" in refused(capsys, "--bags", tmp_path, "--out", tmp_path / "run", "--train-config", config)
