"""Networks for the policy and training suites: trained briefly, to take as many Anderson steps as a trained one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from deq_mpc_core.learning.regulation import (
    ImitationFile,
    ImitationTrainer,
    expert_trajectories,
    load_imitation,
    windows,
)
from deq_mpc_core.networks.state_network import StateNetwork
from deq_mpc_core.policy.regulation import RegulationConfig, regulation_network
from deq_mpc_core.tasks import Task, load_task

TASKS = ("pendulum", "quadrotor", "cartpole")
_TRAJECTORIES = 40
_STEPS = 30
_QUICK_STEPS = 3
_SEED = 0


@dataclass(frozen=True)
class Trained:
    """A task with a network that was trained on ``samples``, windows of the expert's states, for ``steps`` steps."""

    task: Task
    file: ImitationFile
    network: StateNetwork
    samples: Tensor
    steps: int

    def batch(self, size: int, seed: int) -> Tensor:
        """A random batch of the samples."""
        index = np.random.default_rng(seed).choice(len(self.samples), size, replace=len(self.samples) < size)
        return self.samples[torch.from_numpy(index)]

    def by(self, engine: Literal["compiled", "torch"]) -> tuple[StateNetwork, RegulationConfig]:
        """The same network, its block computed by another engine, and the configuration that says so."""
        fixed_point = self.file.network.fixed_point.model_copy(update={"engine": engine})
        network = self.file.network.model_copy(update={"fixed_point": fixed_point})
        config = self.file.policy.model_copy(update={"network": network})
        copy = regulation_network(self.task, config, _SEED)
        copy.load_state_dict(self.network.state_dict())
        return copy, config


def train_briefly(name: str, *, quick: bool) -> Trained:
    """The shipped configuration on a task; seeded."""
    task, file = load_task(name), load_imitation()
    states = expert_trajectories(task, file.expert, np.random.default_rng(_SEED), _TRAJECTORIES)
    network = regulation_network(task, file.policy, _SEED)
    steps = _QUICK_STEPS if quick else _STEPS
    trained = Trained(task, file, network, windows(states, task.horizon + file.train.stream_steps), steps)
    trainer = ImitationTrainer(task, network, file.policy, file.train)
    for step in range(steps):
        trainer.train_step(trained.batch(file.train.batch, step))
    return trained
