"""DEQ-MPC in torch, batched and differentiable: what training runs. The flight twin is ``flight_policy.py``.

    theta^i = NN_phi(x_init, o, tau^{i-1}),   tau^i = AL_m(theta^i; warm-started at tau^{i-1}, lambda, eta, mu)

Gurumurthy et al., DEQ-MPC (CoRL 2025), section 3. With coupling diff-mpc the network sees x_init repeated in place of
tau^{i-1}.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deq_mpc_core.models.crazyflie import NU, NX, crazyflie_model, hover_thrust, nominal_params
from deq_mpc_core.networks.dimensions import TOKEN_SIZE
from deq_mpc_core.networks.waypoints import Context, ObservationFeatures, WaypointNetwork
from deq_mpc_core.policy.config import PolicyConfig
from deq_mpc_core.policy.features import FlightFeatures
from deq_mpc_core.policy.features_torch import describe_knots, rotate_to_yaw_frame
from deq_mpc_core.policy.mpc import bounds, cost_weights
from deq_mpc_core.solver.arrays import Data
from deq_mpc_core.solver.cpu_engine import CpuEngine
from deq_mpc_core.solver.differentiable import solve
from deq_mpc_core.solver.engine import Engine
from deq_mpc_core.solver.solution import Solution, SolverOptions, SolverState, cold_state, shift_trajectory


@dataclass(frozen=True)
class Scenario:
    """A batch of observations, float64, world frame, SI.

    Attributes:
        x: (B, 13) states. goal: (B, 3). obstacles: (B, K, 7), any finite padding where mask (B, K) is False.
    """

    x: Tensor
    goal: Tensor
    obstacles: Tensor
    mask: Tensor


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
        theta: (B, T, 6) waypoints and velocities, world frame. tau: (B, T, nz) plan.
        network_residual: (B,) of the network's own fixed point; penalty: (B,) differentiable, see `Refinement`.
        solution: of the solver.
    """

    theta: Tensor
    tau: Tensor
    network_residual: Tensor
    penalty: Tensor
    solution: Solution


def to_world(theta: Tensor, x: Tensor) -> Tensor:
    """Waypoints (B, T, 6) from the yaw frame of x (B, 13), relative, to the world, absolute."""
    back = -x[:, None, 8]
    pos = rotate_to_yaw_frame(theta[..., :3], back) + x[:, None, :3]
    return torch.cat([pos, rotate_to_yaw_frame(theta[..., 3:], back)], dim=-1)


class DeqMpc:
    """The alternation around a network; stateless."""

    def __init__(self, network: WaypointNetwork, config: PolicyConfig, engine: Engine | None = None) -> None:
        self.network, self.config = network, config
        self.engine = engine or CpuEngine(crazyflie_model())
        self._params = nominal_params()
        self._weight = hover_thrust()
        q, r = cost_weights(config.mpc)
        lower, upper = bounds(config.mpc)
        self._q, self._r, self._lower, self._upper = (torch.from_numpy(a) for a in (q, r, lower, upper))
        self._fence = np.array([config.mpc.fence_low, config.mpc.fence_high])
        self._features = FlightFeatures(config.network.features)

    def encode(self, scenario: Scenario) -> Context:
        """What the network sees of the observation. Present obstacles come first in each row of the mask."""
        x, goal, obstacles = (a.numpy() for a in (scenario.x, scenario.goal, scenario.obstacles))
        counts = scenario.mask.sum(1).tolist()
        seen = [
            self._features.observe(x[b], goal[b], obstacles[b, :count], self._fence, self._weight)
            for b, count in enumerate(counts)
        ]
        tokens = np.zeros((*obstacles.shape[:2], TOKEN_SIZE), np.float32)
        for b, count in enumerate(counts):
            tokens[b, :count] = seen[b].tokens
        ego, scan, relative_goal = (
            torch.from_numpy(np.stack(a)) for a in zip(*((f.ego, f.scan, f.goal) for f in seen), strict=True)
        )
        return self.network.encode(
            ObservationFeatures(ego, scan, torch.from_numpy(tokens), scenario.mask, relative_goal)
        )

    def problem(self, scenario: Scenario, theta: Tensor) -> Data:
        """The solver's data for waypoints theta (B, T, 6), world frame."""
        s, mpc = scenario, self.config.mpc
        batch, horizon = theta.shape[:2]
        yaw = s.x[:, None, 8:9].expand(-1, horizon, -1)
        zeros = torch.zeros(batch, horizon, 3, dtype=torch.float64)
        thrust = torch.full((batch, horizon, 1), self._weight, dtype=torch.float64)
        x_ref = torch.cat([theta.double(), zeros[..., :2], yaw, zeros, thrust], dim=-1)
        u_ref = torch.cat([zeros, thrust], dim=-1)
        times = mpc.dt * torch.arange(horizon, dtype=torch.float64)
        centres = s.obstacles[:, None, :, :3] + times[:, None, None] * s.obstacles[:, None, :, 4:7]
        return Data(
            x_init=s.x,
            x_ref=x_ref,
            u_ref=u_ref,
            q=self._q.expand(batch, horizon, NX),
            r=self._r.expand(batch, horizon, NU),
            lower=self._lower.expand(batch, horizon, NX + NU),
            upper=self._upper.expand(batch, horizon, NX + NU),
            centres=centres,
            radii=torch.where(s.mask, s.obstacles[..., 3] + mpc.margin, 0.0),
            p=torch.from_numpy(np.tile(self._params, (batch, 1))),
            dt=mpc.dt,
        )

    def _at_rest(self, scenario: Scenario) -> SolverState:
        """tau^0 of the paper: x_init repeated, inputs at their reference, multipliers zero."""
        batch, horizon = len(scenario.x), self.config.mpc.horizon
        data = self.problem(scenario, torch.zeros(batch, horizon, 6, dtype=torch.float64))
        arrays = Data._make(a.detach().numpy() if isinstance(a, Tensor) else a for a in data)
        return cold_state(arrays, self.config.alternation.cold.penalty_init)

    def cold_start(self, scenario: Scenario) -> JointState:
        """The first iterate of a flight."""
        solver = self._at_rest(scenario)
        return JointState(torch.from_numpy(solver.tau), solver, self.network.initial_z(len(scenario.x)))

    def warm_start(self, scenario: Scenario, state: JointState, elapsed: float) -> JointState:
        """The last iterate ``elapsed`` [s] later, multipliers reset as in the paper, cut from the past's gradient."""
        tau = shift_trajectory(state.solver.tau, elapsed / self.config.mpc.dt)
        solver = self._at_rest(scenario).with_tau(tau).with_penalty(self.config.alternation.warm.penalty_init)
        return JointState(torch.from_numpy(tau), solver, state.z.detach())

    def _knots(self, scenario: Scenario, tau: Tensor) -> Tensor:
        s = scenario
        if self.config.alternation.coupling == "diff-mpc":
            states = s.x[:, None].expand(-1, self.config.mpc.horizon, -1)
        else:
            states = tau[..., :NX]
        return describe_knots(s.x, states, s.obstacles, s.mask, self.config.mpc.dt, self.config.network.features)

    def iterate(
        self, scenario: Scenario, context: Context, state: JointState, options: SolverOptions, *, exact: bool = True
    ) -> tuple[Iterate, JointState]:
        """One network evaluation and m AL iterations. exact: see `deq_mpc_core.solver.differentiable.solve`."""
        refined = self.network.refine(context, self._knots(scenario, state.tau), state.z)
        theta = to_world(refined.theta.double(), scenario.x)
        tau, solution = solve(self.engine, self.problem(scenario, theta), state.solver, options, exact=exact)
        iterate = Iterate(theta, tau, refined.residual, refined.penalty, solution)
        return iterate, JointState(tau, solution.state, refined.z)

    def run(
        self, scenario: Scenario, state: JointState | None, elapsed: float = 0.0, *, exact: bool = True
    ) -> tuple[list[Iterate], JointState]:
        """All iterations of one control step: cold if ``state`` is None, else warm, ``elapsed`` [s] after it."""
        alternation = self.config.alternation
        if state is None:
            state, options, count = self.cold_start(scenario), alternation.cold, alternation.cold_iterations
        else:
            state, options, count = (
                self.warm_start(scenario, state, elapsed),
                alternation.warm,
                alternation.warm_iterations,
            )
        context = self.encode(scenario)
        iterates = []
        for _ in range(count):
            iterate, state = self.iterate(scenario, context, state, options, exact=exact)
            iterates.append(iterate)
        return iterates, state
