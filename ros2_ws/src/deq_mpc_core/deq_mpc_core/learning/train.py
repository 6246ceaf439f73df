"""Training of the joint fixed point from recorded flights.

Phase 1 (warm-up) fits the network alone: theta for an uninformed iterate against the expert's waypoints. Phase 2
trains through the solver as in DEQ-MPC (CoRL 2025), section 4: one cold solve of N iterations and L streaming steps of
warm iterations along the expert's trajectory, with an L1 loss on every iterate.

See ``losses.py`` for the loss.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from deq_mpc_core.config import Config
from deq_mpc_core.errors import UserError
from deq_mpc_core.learning.batches import Batch, Batches
from deq_mpc_core.learning.dataset import Dataset
from deq_mpc_core.learning.losses import JointLoss, StateLoss, descend
from deq_mpc_core.models.crazyflie import POS, VEL, crazyflie_model
from deq_mpc_core.networks.waypoints import WaypointNetwork
from deq_mpc_core.policy.config import PolicyConfig
from deq_mpc_core.policy.deq_mpc import DeqMpc, Iterate
from deq_mpc_core.policy.flight_task import FlightTask, Scenario
from deq_mpc_core.solver.cpu_engine import CpuEngine
from deq_mpc_core.solver.solution import Status


class TrainConfig(Config):
    """``config/train.yaml``."""

    seed: int = Field(ge=0, lt=2**32)
    batch: int = Field(ge=1)
    warmup_steps: int = Field(ge=0)
    warmup_batch: int = Field(ge=1)
    steps: int = Field(ge=0)
    learning_rate: float = Field(gt=0)
    fine_learning_rate: float = Field(gt=0)
    final_learning_rate: float = Field(gt=0)
    clip: float = Field(gt=0)
    velocity_weight: float = Field(ge=0)
    theta_weight: float = Field(ge=0)
    contraction_weight: float = Field(ge=0)
    stream_steps: int = Field(ge=0, le=1000)
    stream_period: float = Field(gt=0, le=1)
    exact_gradient: bool
    validate_every: int = Field(ge=1)
    validation_samples: int = Field(ge=1)
    save_every: int = Field(ge=1)


Curves = dict[str, list[tuple[int, float]]]
Listener = Callable[[int, dict[str, float]], None]


def uninformed_iterate(scenario: Scenario, horizon: int, dt: float, rng: np.random.Generator) -> Tensor:
    """States (B, T, NX) that tell nothing of the label: x_init repeated, or a random arc from it, evenly mixed."""
    batch = len(scenario.x)
    states = scenario.x[:, None].repeat(1, horizon, 1)
    t = dt * torch.arange(horizon, dtype=torch.float64)[None, :, None]
    acc = torch.from_numpy(1.5 * rng.normal(size=(batch, 1, 3)))
    arc = torch.from_numpy(rng.random((batch, 1, 1)) < 0.5).double()
    vel = scenario.x[:, None, 3:6]
    states[..., 0:3] += arc * (vel * t + 0.5 * acc * t**2)
    states[..., 3:6] += arc * acc * t
    states[..., 6:8] += arc * torch.stack([-acc[..., 1], acc[..., 0]], dim=-1) / 9.81
    return states


@dataclass
class Trainer:
    """Owns network and optimiser; `run` does the steps that are left. Resumable through `save` and `load`."""

    policy: PolicyConfig
    config: TrainConfig
    dataset: Dataset
    validation_fraction: float
    step: int = 0
    curves: Curves = field(default_factory=dict)

    def __post_init__(self) -> None:
        torch.manual_seed(self.config.seed)
        mpc = self.policy.mpc
        self.network = WaypointNetwork(self.policy.network, mpc.horizon, mpc.dt)
        self.task = FlightTask(self.network, self.policy)
        self.model = DeqMpc(self.task, self.policy.alternation, CpuEngine(crazyflie_model()))
        self.state_loss = StateLoss(((POS, 1.0), (VEL, self.config.velocity_weight)))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=self.config.learning_rate)
        self.training, self.validation = self.dataset.split(self.validation_fraction, self.config.seed)
        centre = 0.5 * (np.array(mpc.fence_low[:2]) + np.array(mpc.fence_high[:2]))
        self._batches = Batches(self.dataset, centre)

    @property
    def total_steps(self) -> int:
        """Steps of both phases."""
        return self.config.warmup_steps + self.config.steps

    def run(self, listeners: Sequence[Listener], save: Callable[[], None]) -> None:
        """Train until `total_steps`; listeners get every step's scalars, ``save`` is called every so often and last."""
        while self.step < self.total_steps:
            scalars = self.train_step()
            self.step += 1
            if self.step % self.config.validate_every == 0 or self.step == self.total_steps:
                scalars |= self.validate()
            for name, value in scalars.items():
                if (self.step % 20 == 0 or name.startswith("validation")) and math.isfinite(value):
                    self.curves.setdefault(name, []).append((self.step, value))
            for listener in listeners:
                listener(self.step, scalars)
            if self.step % self.config.save_every == 0 or self.step == self.total_steps:
                save()

    def _learning_rate(self) -> float:
        c = self.config
        warming = self.step < c.warmup_steps
        first, at, of = (c.learning_rate, self.step, c.warmup_steps)
        if not warming:
            first, at, of = (c.fine_learning_rate, self.step - c.warmup_steps, c.steps)
        last = c.final_learning_rate if not warming or c.steps == 0 else c.fine_learning_rate
        return last + 0.5 * (first - last) * (1.0 + math.cos(math.pi * at / max(of, 1)))

    def train_step(self) -> dict[str, float]:
        """One optimiser step; its random numbers depend on seed and step alone."""
        warming = self.step < self.config.warmup_steps
        rng = np.random.default_rng([self.config.seed, self.step])
        size = self.config.warmup_batch if warming else self.config.batch
        index = rng.choice(self.training, size=min(size, len(self.training)), replace=False)
        batch = self._batches.read(index, rng, 0 if warming else self.config.stream_steps)
        loss, scalars = self._warmup_loss(batch, rng) if warming else self._solver_loss(batch)
        rate = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        norm = descend(loss, self.optimizer, list(self.network.parameters()), self.config.clip)
        return {
            **scalars,
            "loss": loss.item(),
            "gradient_norm": norm,
            "skipped": float(not math.isfinite(norm)),
            "learning_rate": rate,
        }

    def _warmup_loss(self, batch: Batch, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        scenario, mpc = batch.scenarios[0], self.policy.mpc
        states = uninformed_iterate(scenario, mpc.horizon, mpc.dt, rng)
        z = self.network.initial_z(len(scenario.x))
        proposed = self.task.propose(scenario, self.task.encode(scenario), states, z)
        error = self.state_loss(proposed.theta, batch.labels[0])
        loss = error + self.config.contraction_weight * proposed.penalty.mean()
        return loss, {"theta_error": error.item(), "network_residual": proposed.residual.mean().item()}

    def _solver_loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        c = self.config
        joint = JointLoss(self.state_loss, c.theta_weight, c.contraction_weight)
        state, terms, iterates = None, [], []
        for scenario, label in zip(batch.scenarios, batch.labels, strict=True):
            done, state = self.model.run(scenario, state, c.stream_period, exact=c.exact_gradient)
            terms += joint.terms(done, label)
            iterates += done
        return torch.stack(terms).mean(), self._report(iterates, batch, "")

    def _report(self, iterates: Sequence[Iterate], batch: Batch, prefix: str) -> dict[str, float]:
        """Errors of the last iterate, and how far the joint iteration is from its fixed point."""
        last, label = iterates[-1], batch.labels[-1]
        cold = iterates[: self.policy.alternation.cold_iterations]
        scalars = {
            "tau_error": self.state_loss(last.tau, label).item(),
            "theta_error": self.state_loss(last.theta, label).item(),
            "network_residual": float(last.network_residual.mean()),
            "dynamics_residual": float(np.median(last.solution.dynamics)),
            "inequality_residual": float(np.median(last.solution.violation)),
            "numerical_failures": float(np.mean(last.solution.status == Status.NUMERICAL_FAILURE)),
        }
        if len(cold) > 1:
            scalars["joint_theta_residual"] = float((cold[-1].theta - cold[-2].theta).detach().abs().mean())
            scalars["joint_tau_residual"] = float((cold[-1].tau - cold[-2].tau)[..., :6].detach().abs().mean())
        return {prefix + name: value for name, value in scalars.items()}

    def validate(self) -> dict[str, float]:
        """Cold and streaming errors on a fixed part of the validation flights."""
        if not len(self.validation):
            return {}
        rng = np.random.default_rng(self.config.seed)
        index = rng.permutation(self.validation)[: self.config.validation_samples]
        batch = self._batches.read(index, None, self.config.stream_steps)
        state, iterates = None, []
        with torch.no_grad():
            for scenario in batch.scenarios:
                done, state = self.model.run(scenario, state, self.config.stream_period)
                iterates += done
        return self._report(iterates, batch, "validation_")

    def _identity(self) -> dict[str, Any]:
        """What a run may not change between one session and the next."""
        return {
            "policy configuration": self.policy.model_dump(mode="json"),
            "train configuration": self.config.model_dump(mode="json"),
            "data set": self.dataset.fingerprint,
        }

    def save(self, path: Path) -> None:
        """Everything `load` needs to go on as if nothing had happened; the file appears whole or not at all."""
        content = {
            **self._identity(),
            "step": self.step,
            "curves": self.curves,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        torch.save(content, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Go on from `save`.

        Raises:
            UserError: if the file cannot be read or belongs to another configuration or data set.
        """
        try:
            content: dict[str, Any] = dict(torch.load(path, weights_only=True))
        except Exception as error:  # torch raises many kinds for a damaged file
            raise UserError(f"{path}: cannot be resumed from; remove it to start anew") from error
        for name, ours in self._identity().items():
            if content.get(name) != ours:
                what = f"{name}{_difference(content.get(name), ours)}"
                raise UserError(f"{path}: was made with another {what}; use another --out or what it was made with")
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.curves = content["step"], content["curves"]


def _difference(was: Any, now: Any, place: str = "") -> str:
    """Where two configurations differ first, and how; "" for what is no configuration."""
    if isinstance(was, dict) and isinstance(now, dict):
        key = next(key for key in {**now, **was} if was.get(key) != now.get(key))
        return _difference(was.get(key), now.get(key), f"{place}.{key}" if place else key)
    return f" ({place} was {was}, now {now})" if place else ""
