"""DEQ-MPC in torch, batched and differentiable, for any task: what training runs.

    theta^i = NN_phi(x_init, o, tau^{i-1}),   tau^i = AL_m(theta^i; warm-started at tau^{i-1}, lambda, eta, mu)

Gurumurthy et al., DEQ-MPC (CoRL 2025), section 3. With coupling diff-mpc the network sees x_init repeated in place of
tau^{i-1}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from deq_mpc_core.networks.refiner import Context, Refinement, Refiner
from deq_mpc_core.policy.config import AlternationConfig
from deq_mpc_core.policy.starts import first_iterate, read_now
from deq_mpc_core.solver.arrays import Data
from deq_mpc_core.solver.differentiable import solve
from deq_mpc_core.solver.engine import Engine
from deq_mpc_core.solver.solution import Solution, SolverOptions, SolverState


class Scene(Protocol):
    """A batch of observations; all but the state is between a task and its network."""

    @property
    def x(self) -> Tensor:
        """(B, nx) states, float64."""
        ...


S = TypeVar("S", bound=Scene)
S_contra = TypeVar("S_contra", bound=Scene, contravariant=True)


class JointTask(Protocol[S_contra]):
    """What the alternation asks of a task: how it is seen, how theta is proposed, what problem theta makes.

    Attributes:
        dt: knot spacing [s]. horizon: T. theta_size: numbers in theta at a knot.
    """

    dt: float
    horizon: int
    theta_size: int

    @property
    def network(self) -> Refiner:
        """What proposes theta."""
        ...

    def initial_z(self, batch: int) -> Tensor:
        """(B, T, H) cold start of the network's fixed point."""
        ...

    def encode(self, scene: S_contra) -> Context:
        """What the network sees of the observation, once per control step."""
        ...

    def propose(self, scene: S_contra, context: Context, states: Tensor, z: Tensor) -> Refinement:
        """Theta (B, T, theta_size), float64, in the frame of `problem`, for the iterate's states (B, T, nx)."""
        ...

    def problem(self, scene: S_contra, theta: Tensor) -> Data:
        """The solver's data, tensors or arrays; what depends on theta carries its gradient."""
        ...


@dataclass(frozen=True)
class JointState:
    """Iterate of the joint fixed point: the plan with its gradient, the solver's state, the network's z."""

    tau: Tensor
    solver: SolverState
    z: Tensor


@dataclass(frozen=True)
class Iterate:
    """One DEQ-MPC iteration.

    Attributes:
        theta: (B, T, n_theta) references, in the frame of the solver. tau: (B, T, nz) plan.
        network_residual, network_steps, penalty: (B,) of the network's own fixed point, see `Refinement`.
        solution: of the solver.
    """

    theta: Tensor
    tau: Tensor
    network_residual: Tensor
    network_steps: Tensor
    penalty: Tensor
    solution: Solution


class DeqMpc(Generic[S]):
    """The alternation of a task's network and the solver; stateless."""

    def __init__(self, task: JointTask[S], config: AlternationConfig, engine: Engine) -> None:
        self.task, self.config, self.engine = task, config, engine

    def _start(self, scene: S, last: JointState | None, elapsed: float) -> tuple[JointState, SolverOptions, int]:
        """The iterate to start from, cut from the past's gradient, with the options and how many iterations to do."""
        task, c = self.task, self.config
        theta = torch.zeros(len(scene.x), task.horizon, task.theta_size, dtype=torch.float64)
        problem = Data._make(a.numpy() if isinstance(a, Tensor) else a for a in task.problem(scene, theta))
        tau = None if last is None else read_now(last.solver.tau, elapsed, task.dt)
        if last is None or tau is None:
            z, options, count = task.initial_z(len(scene.x)), c.cold, c.cold_iterations
        else:
            z, options, count = last.z.detach(), c.warm, c.warm_iterations
        solver = first_iterate(problem, options.penalty_init, tau)
        return JointState(torch.from_numpy(solver.tau), solver, z), options, count

    def _visible_states(self, scene: S, tau: Tensor) -> Tensor:
        """What the network sees of the iterate, (B, T, nx)."""
        if self.config.coupling == "diff-mpc":
            return scene.x[:, None].expand(-1, self.task.horizon, -1)
        return tau[..., : scene.x.shape[1]]

    def iterate(
        self, scene: S, context: Context, state: JointState, options: SolverOptions, *, exact: bool = True
    ) -> tuple[Iterate, JointState]:
        """One network evaluation and m AL iterations. exact: see `deq_mpc_core.solver.differentiable.solve`."""
        proposed = self.task.propose(scene, context, self._visible_states(scene, state.tau), state.z)
        problem = self.task.problem(scene, proposed.theta)
        tau, solution = solve(self.engine, problem, state.solver, options, exact=exact)
        iterate = Iterate(proposed.theta, tau, proposed.residual, proposed.steps, proposed.penalty, solution)
        return iterate, JointState(tau, solution.state, proposed.z)

    def run(
        self, scene: S, state: JointState | None, elapsed: float = 0.0, *, exact: bool = True
    ) -> tuple[list[Iterate], JointState]:
        """All iterations of one control step: warm, ``elapsed`` [s] after ``state``, or cold if that is of no use."""
        state, options, count = self._start(scene, state, elapsed)
        context = self.task.encode(scene)
        iterates = []
        with self.task.network.core.weights_held():
            for _ in range(count):
                iterate, state = self.iterate(scene, context, state, options, exact=exact)
                iterates.append(iterate)
        return iterates, state
