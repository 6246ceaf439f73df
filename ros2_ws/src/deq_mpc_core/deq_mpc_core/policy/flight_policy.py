"""The trained policy in flight: compiled network and solver, one sample, state in and out. Loads without torch.

The twin of ``deq_mpc.py``, which trains it; a test holds the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.checkpoint import default_checkpoint, load_checkpoint
from deq_mpc_core.config import parse_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.models.crazyflie import NX, POS, hover_thrust
from deq_mpc_core.networks.flight_network import FlightNetwork
from deq_mpc_core.networks.shapes import check_weights, parameter_shapes
from deq_mpc_core.policy.config import PolicyConfig
from deq_mpc_core.policy.interface import Array, Command, Observation, PolicyInfo
from deq_mpc_core.policy.mpc import Mpc, MpcState, complete_reference, residuals


@dataclass(frozen=True)
class FlightState:
    """Warm start of the joint fixed point: the MPC's, and the network's z (T, H) float32."""

    mpc: MpcState
    z: NDArray[np.float32]


class DeqMpcPolicy:
    """theta^i = NN(x, o, tau^{i-1}), tau^i = AL_m(theta^i): N iterations cold, a few warm."""

    def __init__(self, config: PolicyConfig, weights: dict[str, NDArray[np.float32]]) -> None:
        self.config = config
        self._mpc = Mpc(config.mpc)
        self._network = FlightNetwork(weights, config.network, config.mpc.horizon, config.mpc.dt)
        self.dt, self.horizon = config.mpc.dt, config.mpc.horizon
        self._fence = np.array([config.mpc.fence_low, config.mpc.fence_high])
        self._weight = hover_thrust()

    def step(self, obs: Observation, state: FlightState | None) -> tuple[Command, FlightState, PolicyInfo]:
        """See `Policy.step`."""
        alternation, mpc = self.config.alternation, self._mpc
        fence = self._fence if obs.fence is None else obs.fence
        context = self._network.encode(obs.x, obs.goal, obs.obstacles, fence, self._weight)
        problem = mpc.problem(obs, np.zeros((self.horizon, NX)))
        solver = mpc.warm_start(obs, state.mpc, problem, alternation.warm) if state is not None else None
        if state is None or solver is None:
            options, iterations = alternation.cold, alternation.cold_iterations
            solver, z = mpc.cold_start(problem, options), self._network.initial_z()
        else:
            options, iterations, z = alternation.warm, alternation.warm_iterations, state.z
        theta = previous = np.full((self.horizon, 6), np.nan)
        for _ in range(iterations):
            tau = solver.tau
            refined = self._network.refine(context, self._knots(obs, tau), z)
            previous, theta, z = theta, _to_world(refined.theta, obs.x), refined.z
            reference = complete_reference(theta[:, :3], theta[:, 3:], obs.x[8], hover_thrust(obs.model_params))
            solution = mpc.solve(problem._replace(x_ref=reference[None]), solver, options)
            solver = solution.state
        found = {
            "theta": float(np.abs(theta - previous).mean()),  # NaN after a single iteration: nothing to compare with
            "tau": float(np.abs(solver.tau - tau)[0, :, :6].mean()),
            "network": float(refined.residual),
            **residuals(solution),
        }
        info = PolicyInfo(int(solution.status[0]), mpc.plan(solution), found, iterations)
        return mpc.command(solution), FlightState(mpc.state(solution, obs), z), info

    def _knots(self, obs: Observation, tau: Array) -> Array:
        """What the network sees of the iterate tau (1, T, nz)."""
        if self.config.alternation.coupling == "diff-mpc":
            states = np.repeat(obs.x[None], self.horizon, axis=0)
        else:
            states = np.ascontiguousarray(tau[0, :, :NX])
        return self._network.describe_knots(obs.x, states, obs.obstacles)


def _to_world(theta: Array, x: Array) -> Array:
    """Waypoints (T, 6) from the yaw frame of x (13,), relative, to the world, absolute."""
    c, s = np.cos(x[8]), np.sin(x[8])
    turn = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])  # row vectors: v R^T
    return np.hstack([theta[:, :3] @ turn + x[POS], theta[:, 3:] @ turn])


def read_flight_checkpoint(path: Path | None = None) -> tuple[PolicyConfig, dict[str, NDArray[np.float32]]]:
    """Configuration and weights of a checkpoint, by default of the shipped one, that fit each other.

    Raises:
        UserError: if the checkpoint is missing, damaged, of another task or of a configuration unknown here.
    """
    path = path or default_checkpoint()
    checkpoint = load_checkpoint(path, task="crazyflie")
    config = parse_config(checkpoint.config, PolicyConfig, str(path))
    try:
        check_weights(checkpoint.weights, parameter_shapes(config.network, config.mpc.horizon))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return config, checkpoint.weights


def load_flight_policy(path: Path | None = None) -> DeqMpcPolicy:
    """The policy of a checkpoint, by default of the shipped one.

    Raises:
        UserError: see `read_flight_checkpoint`.
    """
    return DeqMpcPolicy(*read_flight_checkpoint(path))
