"""One training run: dataset, trainer, progress, TensorBoard, checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track
from torch.utils.tensorboard import SummaryWriter

from deq_mpc_core.checkpoint import save_checkpoint
from deq_mpc_core.config import load_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.learning.dataset import Dataset, DatasetConfig, prepare_dataset
from deq_mpc_core.learning.sampling import SampleSpec
from deq_mpc_core.learning.train import TrainConfig, Trainer
from deq_mpc_core.models.crazyflie import attitude_models
from deq_mpc_core.outputs import check_folder
from deq_mpc_core.policy.config import PolicyConfig, load_policy_config
from deq_mpc_core.policy.program import read_flight_checkpoint

TASK = "crazyflie"


@dataclass(frozen=True)
class TrainRequest:
    """Arguments of ``deq-mpc train``."""

    bags: tuple[Path, ...]
    out: Path
    policy_config: str
    train_config: str
    init: Path | None
    overrides: Mapping[str, int]
    vehicle: Mapping[str, str | None]
    remaps: tuple[str, ...]


def run_training(request: TrainRequest) -> Path:
    """Train, or go on where ``resume.pt`` in the output folder stands; returns the checkpoint's path.

    Raises:
        UserError: on bags, configurations or resume states that cannot be used.
    """
    console = Console(stderr=True)
    policy = load_policy_config(request.policy_config)
    config = load_config(request.train_config, TrainConfig).model_copy(update=dict(request.overrides))
    dataset_config = load_config("dataset", DatasetConfig).of_bags(request.vehicle, request.remaps)
    check_folder(request.out)
    start = None if request.init is None else read_start(request.init, policy)
    spec = SampleSpec(policy.mpc.dt, policy.mpc.horizon, config.stream_period, config.stream_steps)
    dataset, report = prepare_dataset(
        request.bags,
        dataset_config,
        spec,
        attitude_models().nominal.tau_thrust,
        request.out / "cache",
        lambda bags: track(bags, description="reading bags", console=console, disable=not console.is_terminal),
    )
    console.print(report.table())
    trainer = Trainer(policy, config, dataset, dataset_config.validation_fraction)
    if start is not None:
        trainer.network.load_state_dict(start)
    state = request.out / "resume.pt"
    if state.exists():
        trainer.load(state)
        console.print(f"going on at step {trainer.step}")
    checkpoint = request.out / "checkpoint.safetensors"
    started = time.monotonic()

    def save() -> None:
        try:
            save_checkpoint(
                checkpoint,
                trainer.network.state_dict(),
                task=TASK,
                config=policy.model_dump(mode="json"),
                data=describe_data(dataset, config, time.monotonic() - started),
                curves=trainer.curves,
            )
        except ValueError as error:
            raise UserError(f"the training diverged before step {trainer.step} ({error}); lower its rates") from error
        trainer.save(state)

    request.out.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with SummaryWriter(str(request.out / "tensorboard")) as writer, Progress(*columns, console=console) as progress:
        bar = progress.add_task("training", total=trainer.total_steps, completed=trainer.step)

        def show(step: int, scalars: dict[str, float]) -> None:
            phase = "warm-up" if step <= config.warmup_steps else "solver"
            error = scalars.get("tau_error", scalars.get("theta_error", float("nan")))
            progress.update(bar, completed=step, description=f"{phase} error {error:.4f}")
            for name, value in scalars.items():
                writer.add_scalar(name, value, step)

        trainer.run([show], save)
    console.print(f"checkpoint: {checkpoint}")
    return checkpoint


def read_start(path: Path, policy: PolicyConfig) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint, which has to be of the policy's network.

    Raises:
        UserError: if the checkpoint cannot be read or is of another network.
    """
    config, arrays = read_flight_checkpoint(path)
    if config.network != policy.network or config.mpc.horizon != policy.mpc.horizon:
        raise UserError(
            f"{path}: is of another network than the policy configuration; use the configuration it was made with"
        )
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def describe_data(dataset: Dataset, config: TrainConfig, seconds: float) -> dict[str, object]:
    """What the checkpoint says of its making."""
    return {
        "flights": len(dataset.sources),
        "samples": len(dataset),
        "sample_spec": {"dt": dataset.spec.dt, "horizon": dataset.spec.horizon, "dt_control": dataset.spec.dt_control},
        "train": config.model_dump(mode="json"),
        "seconds_of_last_run": round(seconds, 1),
    }
