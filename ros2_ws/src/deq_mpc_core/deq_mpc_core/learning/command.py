"""``deq-mpc train``: from a folder of rosbags to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deq_mpc_core.errors import UserError


def register(app: typer.Typer) -> None:
    """Add ``train``."""
    app.command("train")(train)


def train(  # noqa: PLR0913 - the options of the command
    bags: Annotated[
        list[Path], typer.Option(help="Folder of rosbags, whoever recorded them; may be given several times.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, resume state, curves and dataset cache.")] = Path(
        "runs/train"
    ),
    policy_config: Annotated[
        str, typer.Option(help="config/<name>.yaml or a path: network and alternation.")
    ] = "policy",
    train_config: Annotated[str, typer.Option(help="config/<name>.yaml or a path: losses and schedule.")] = "train",
    init: Annotated[Path | None, typer.Option(help="Checkpoint to start the weights from.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Overrides the configuration's seed.")] = None,
    warmup_steps: Annotated[int | None, typer.Option(min=0, help="Overrides the configuration.")] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Overrides the configuration.")] = None,
    robot: Annotated[
        str | None, typer.Option(help="Its name in topics and named poses, e.g. cf231; default cf.", show_default=False)
    ] = None,
    platform: Annotated[
        str | None, typer.Option(help="Bags with cmd_vel_legacy: whose thrust that is, e.g. cf21_plus.")
    ] = None,
    firmware: Annotated[str | None, typer.Option(help="Of the platform, e.g. 2026.04.")] = None,
    crazyflies_yaml_file: Annotated[
        str | None, typer.Option(help="Crazyswarm2's list of robots, which may say platform and firmware.")
    ] = None,
    remap: Annotated[list[str] | None, typer.Option(help="Topic of a role in the bags, e.g. pose=/cf231/pose.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out.")] = False,
) -> None:
    """Train a policy from rosbags.

    They are an expert's, whoever recorded them. Curves for TensorBoard and the checkpoint go to the folder --out.
    """
    from deq_mpc_core.learning.run import TrainRequest, run_training

    overrides = {"seed": seed, "warmup_steps": warmup_steps, "steps": steps}
    begun = (out / "resume.pt").exists()
    if begun and not resume:
        raise UserError(f"{out} holds a run already; add --resume to go on with it or choose another --out")
    if resume and not begun:
        raise UserError(f"{out} holds no run to go on with; leave out --resume or correct --out")
    run_training(
        TrainRequest(
            bags=tuple(bags),
            out=out,
            policy_config=policy_config,
            train_config=train_config,
            init=init,
            overrides={name: value for name, value in overrides.items() if value is not None},
            vehicle={
                "robot": robot,
                "platform": platform,
                "firmware": firmware,
                "crazyflies_yaml_file": crazyflies_yaml_file,
            },
            remaps=tuple(remap or ()),
        )
    )
