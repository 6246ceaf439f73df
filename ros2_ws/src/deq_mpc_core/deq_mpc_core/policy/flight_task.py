"""The flight task of DEQ-MPC in torch, for training: observations, waypoints, the MPC that tracks them.

The flight twin is ``flight_policy.py``; a test holds the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deq_mpc_core.features.dimensions import THETA_SIZE, TOKEN_SIZE
from deq_mpc_core.features.flight import FlightFeatures
from deq_mpc_core.features.flight_torch import ObservationFeatures, describe_knots, rotate_to_yaw_frame
from deq_mpc_core.models.crazyflie import YAW, hover_thrust
from deq_mpc_core.networks.refiner import Context, Refinement
from deq_mpc_core.networks.waypoints import WaypointNetwork
from deq_mpc_core.policy.config import PolicyConfig
from deq_mpc_core.policy.mpc import pose
from deq_mpc_core.solver.arrays import Data


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


def to_world(theta: Tensor, x: Tensor) -> Tensor:
    """Waypoints (B, T, 6) from the yaw frame of x (B, 13), relative, to the world, absolute."""
    back = -x[:, None, YAW]
    pos = rotate_to_yaw_frame(theta[..., :3], back) + x[:, None, :3]
    return torch.cat([pos, rotate_to_yaw_frame(theta[..., 3:], back)], dim=-1)


class FlightTask:
    """Waypoints and velocities (B, T, 6), world frame, as theta; see `JointTask`."""

    theta_size = THETA_SIZE

    def __init__(self, network: WaypointNetwork, config: PolicyConfig) -> None:
        self.network, self.config = network, config
        self.dt, self.horizon = config.mpc.dt, config.mpc.horizon
        self._weight = hover_thrust()
        self._fence = np.array([config.mpc.fence_low, config.mpc.fence_high])
        self._features = FlightFeatures(config.network.features)

    def initial_z(self, batch: int) -> Tensor:
        """See `JointTask.initial_z`."""
        return self.network.initial_z(batch)

    def encode(self, scene: Scenario) -> Context:
        """See `JointTask.encode`. Present obstacles come first in each row of the mask."""
        x, goal, obstacles = (a.numpy() for a in (scene.x, scene.goal, scene.obstacles))
        counts = scene.mask.sum(1).tolist()
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
        return self.network.encode(ObservationFeatures(ego, scan, torch.from_numpy(tokens), scene.mask, relative_goal))

    def describe_knots(self, scene: Scenario, states: Tensor) -> Tensor:
        """(B, T, KNOT_SIZE) what the network sees of the states (B, T, 13) of an iterate."""
        return describe_knots(scene.x, states, scene.obstacles, scene.mask, self.dt, self.config.network.features)

    def propose(self, scene: Scenario, context: Context, states: Tensor, z: Tensor) -> Refinement:
        """See `JointTask.propose`."""
        refined = self.network.refine(context, self.describe_knots(scene, states), z)
        return refined._replace(theta=to_world(refined.theta.double(), scene.x))

    def problem(self, scene: Scenario, theta: Tensor) -> Data:
        """See `JointTask.problem`."""
        obstacles = torch.where(scene.mask[..., None], scene.obstacles, 0.0).numpy()
        posed = pose(self.config.mpc, scene.x.numpy(), theta.detach().numpy(), obstacles)
        return posed._replace(x_ref=torch.cat([theta, torch.from_numpy(posed.x_ref[..., THETA_SIZE:])], dim=-1))
