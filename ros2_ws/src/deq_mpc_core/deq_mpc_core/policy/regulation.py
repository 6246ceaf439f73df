"""DEQ-MPC for the paper's state-regulation tasks: training and control run the same alternation, ``deq_mpc.py``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deq_mpc_core.config import Config
from deq_mpc_core.networks.config import CoreConfig
from deq_mpc_core.networks.refiner import Context, Refinement
from deq_mpc_core.networks.state_network import StateNetwork
from deq_mpc_core.policy.config import AlternationConfig
from deq_mpc_core.policy.deq_mpc import DeqMpc, Iterate, JointState
from deq_mpc_core.solver.arrays import Data
from deq_mpc_core.solver.cpu_engine import CpuEngine
from deq_mpc_core.solver.engine import Engine
from deq_mpc_core.solver.solution import Array
from deq_mpc_core.tasks import Task


class RegulationConfig(Config):
    """Sections ``network`` and ``alternation`` of ``config/regulation.yaml``, the same for every task."""

    network: CoreConfig
    alternation: AlternationConfig


@dataclass(frozen=True)
class States:
    """A batch of observations: the states x (B, nx), float64, are all there is to see."""

    x: Tensor


class RegulationTask:
    """State references (B, T, nx) as theta; see `JointTask`."""

    def __init__(self, task: Task, network: StateNetwork) -> None:
        self.task, self.network = task, network
        self.dt, self.horizon, self.theta_size = task.dt, task.horizon, task.model.nx
        self._goal = torch.from_numpy(task.goal)

    def initial_z(self, batch: int) -> Tensor:
        """See `JointTask.initial_z`."""
        return self.network.initial_z(batch)

    def encode(self, scene: States) -> Context:
        """See `JointTask.encode`."""
        return self.network.encode(scene.x - self._goal)

    def propose(self, scene: States, context: Context, states: Tensor, z: Tensor) -> Refinement:
        """See `JointTask.propose`."""
        refined = self.network.refine_states(context, states - self._goal, z)
        return refined._replace(theta=scene.x[:, None] + refined.theta.double())

    def problem(self, scene: States, theta: Tensor) -> Data:
        """See `JointTask.problem`."""
        return self.task.problem(scene.x.numpy(), theta.detach().numpy())._replace(x_ref=theta)


def regulation_network(task: Task, config: RegulationConfig, seed: int) -> StateNetwork:
    """An untrained network for a task; a function of its arguments."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StateNetwork(config.network, task.horizon, task.model.x_scale)


def regulation_deq_mpc(
    task: Task, network: StateNetwork, config: RegulationConfig, engine: Engine | None = None
) -> DeqMpc[States]:
    """DEQ-MPC around a network for a task."""
    return DeqMpc(RegulationTask(task, network), config.alternation, engine or CpuEngine(task.model))


class RegulationPolicy:
    """A trained network in closed loop, one state at a time."""

    def __init__(self, task: Task, network: StateNetwork, config: RegulationConfig) -> None:
        self.task = task
        self._model = regulation_deq_mpc(task, network, config, CpuEngine(task.model, threads=1))

    def step(self, x: Array, state: JointState | None) -> tuple[Array, JointState, Iterate]:
        """The input (nu,) within its bounds for the state x (nx,), the state to go on from, and the last iterate.

        ``state`` is None for a cold start, else that of the step before, one knot ago.
        """
        with torch.no_grad():
            iterates, state = self._model.run(States(torch.from_numpy(x[None])), state, self.task.dt)
        nx = self.task.model.nx
        u: Array = np.clip(iterates[-1].tau[0, 0, nx:].numpy(), self.task.lower[nx:], self.task.upper[nx:])
        return u, state, iterates[-1]
