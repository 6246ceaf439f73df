"""Imitation of an expert on the paper's state-regulation tasks.

The expert is the same solver with a long horizon, in closed loop from random starts. A sample is a window of T + L
states of its trajectory: the first control step sees state 0 and is to plan states 0..T-1, the next, warm-started, sees
state 1 and is to plan 1..T, and so on; DEQ-MPC (CoRL 2025), section 4. The loss is that of ``losses.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from deq_mpc_core.config import Config, load_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.learning.losses import JointLoss, StateLoss, descend
from deq_mpc_core.networks.config import CoreConfig
from deq_mpc_core.networks.state_network import StateNetwork
from deq_mpc_core.policy.config import AlternationConfig
from deq_mpc_core.policy.deq_mpc import Iterate
from deq_mpc_core.policy.regulation import RegulationConfig, States, regulation_deq_mpc
from deq_mpc_core.solver import CpuEngine, SolverOptions, cold_state, shift_trajectory
from deq_mpc_core.solver.engine import Engine
from deq_mpc_core.tasks import Task

Array = NDArray[np.float64]


class ImitationConfig(Config):
    """Section ``train`` of ``config/regulation.yaml``."""

    batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    clip: float = Field(gt=0)
    theta_weight: float = Field(ge=0)
    contraction_weight: float = Field(ge=0)
    stream_steps: int = Field(ge=0)
    exact_gradient: bool


class ExpertConfig(Config):
    """Section ``expert`` of ``config/regulation.yaml``."""

    knots: int = Field(ge=2)
    horizon: int = Field(ge=2)
    replan: int = Field(ge=1)
    stage_weight: float = Field(ge=0)
    terminal_weight: float = Field(gt=0)
    reach: float = Field(gt=0)
    solver: SolverOptions


class ImitationFile(Config):
    """``config/regulation.yaml``: the policy, its training and the expert."""

    network: CoreConfig
    alternation: AlternationConfig
    train: ImitationConfig
    expert: ExpertConfig

    @property
    def policy(self) -> RegulationConfig:
        """What a policy needs without its training."""
        return RegulationConfig(network=self.network, alternation=self.alternation)


def load_imitation(name_or_path: str = "regulation") -> ImitationFile:
    """The shipped file, or another of its form."""
    return load_config(name_or_path, ImitationFile)


def expert_trajectories(task: Task, config: ExpertConfig, rng: np.random.Generator, count: int) -> Array:
    """State trajectories (N <= count, config.knots, nx) from random starts; those that miss the goal are left out.

    Raises:
        UserError: if all miss it.
    """
    engine, nx = CpuEngine(task.model), task.model.nx
    long = replace(task, horizon=config.horizon)
    weights = np.full((config.horizon, 1), config.stage_weight)
    weights[-1] = config.terminal_weight
    x = task.random_starts(rng, count)
    driven, sound, tau = [x[:, None]], np.ones(count, bool), None
    for _ in range(0, config.knots - 1, config.replan):
        data = long.problem(x)
        data = data._replace(q=weights * data.q)
        start = cold_state(data, config.solver.penalty_init)
        if tau is not None:
            start = start.with_tau(shift_trajectory(tau, config.replan))
        solution = engine.solve(data, start, config.solver)
        tau = solution.state.tau
        sound &= np.maximum(solution.dynamics, solution.violation) < config.solver.tolerance
        driven.append(tau[:, 1 : config.replan + 1, :nx])
        x = np.ascontiguousarray(tau[:, config.replan, :nx])
    states = np.concatenate(driven, axis=1)[:, : config.knots]
    sound &= (np.abs(states[:, -1] - task.goal) < config.reach * np.array(task.model.x_scale)).all(axis=1)
    if not sound.any():
        raise UserError(f"the expert of task {task.model.name} never reached the goal; give it more knots or starts")
    return states[sound]


def windows(trajectories: Array, length: int) -> Tensor:
    """All runs (N, length, nx) of consecutive states of the trajectories (M, knots, nx)."""
    views = np.lib.stride_tricks.sliding_window_view(trajectories, length, axis=1)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(views, -1, 2).reshape(-1, length, trajectories.shape[-1])))


@dataclass
class ImitationTrainer:
    """Owns the optimiser of a task's network; samples are windows (B, >= T + stream_steps, nx), see the module."""

    task: Task
    network: StateNetwork
    policy: RegulationConfig
    config: ImitationConfig
    engine: Engine | None = None
    optimizer: torch.optim.Adam = field(init=False)

    def __post_init__(self) -> None:
        self.model = regulation_deq_mpc(self.task, self.network, self.policy, self.engine)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=self.config.learning_rate)
        states = StateLoss(((slice(0, self.task.model.nx), 1.0),))
        self.objective = JointLoss(states, self.config.theta_weight, self.config.contraction_weight)

    def loss(self, samples: Tensor) -> tuple[Tensor, list[Iterate]]:
        """The loss of one cold control step and the streaming ones after it, with all their iterates."""
        c, horizon = self.config, self.task.horizon
        state, terms, iterates = None, [], []
        for step in range(c.stream_steps + 1):
            scene, label = States(samples[:, step].contiguous()), samples[:, step : step + horizon]
            done, state = self.model.run(scene, state, self.task.dt, exact=c.exact_gradient)
            terms += self.objective.terms(done, label)
            iterates += done
        return torch.stack(terms).mean(), iterates

    def train_step(self, samples: Tensor) -> dict[str, float]:
        """One optimiser step."""
        loss, iterates = self.loss(samples)
        norm = descend(loss, self.optimizer, list(self.network.parameters()), self.config.clip)
        steps = torch.stack([iterate.network_steps for iterate in iterates]).double().mean()
        return {"loss": loss.item(), "gradient_norm": norm, "anderson_steps": steps.item()}

    def validate(self, samples: Tensor) -> float:
        """Mean L1 between the last iterate's plan and the expert's states, cold start."""
        with torch.no_grad():
            iterates, _ = self.model.run(States(samples[:, 0].contiguous()), None)
        return self.objective.state(iterates[-1].tau, samples[:, : self.task.horizon]).item()
