"""Baseline without learning: the same MPC, horizon and constraints, with waypoints straight to the goal."""

from __future__ import annotations

import numpy as np

from deq_mpc_core.models.crazyflie import POS
from deq_mpc_core.policy.interface import Array, Command, Observation, PolicyInfo
from deq_mpc_core.policy.mpc import Mpc, MpcConfig, MpcState


def travel(distance: float, horizon: int, dt: float, speed: float, approach_rate: float) -> tuple[Array, Array]:
    """Way [m] and speed [m/s] at ``horizon`` times: min(speed, approach_rate * way left), from ``distance`` left.

    That is constant, then an exponential approach.
    """
    t = dt * np.arange(horizon)
    cruise = max(distance - speed / approach_rate, 0.0)
    late = np.maximum(t - cruise / speed, 0.0)
    approach = cruise + (distance - cruise) * (1.0 - np.exp(-approach_rate * late))
    travelled = np.where(t * speed < cruise, speed * t, approach)
    return travelled, np.minimum(speed, approach_rate * (distance - travelled))


def straight_waypoints(
    pos: Array, goal: Array, horizon: int, dt: float, speed: float, approach_rate: float
) -> tuple[Array, Array]:
    """Positions and velocities (horizon, 3) along the line to the goal, the first at ``pos``; see `travel`."""
    distance = float(np.linalg.norm(goal - pos))
    direction = (goal - pos) / distance if distance > 1e-9 else np.zeros(3)
    travelled, velocity = travel(distance, horizon, dt, speed, approach_rate)
    return pos + travelled[:, None] * direction, velocity[:, None] * direction


class StraightLinePolicy:
    """See the module docstring. speed [m/s], approach_rate [1/s]."""

    def __init__(self, config: MpcConfig | None = None, *, speed: float = 1.0, approach_rate: float = 2.0) -> None:
        self._mpc = Mpc(config)
        self._speed, self._approach_rate = speed, approach_rate
        self.dt, self.horizon = self._mpc.config.dt, self._mpc.config.horizon

    def step(self, obs: Observation, state: MpcState | None) -> tuple[Command, MpcState, PolicyInfo]:
        """See `Policy.step`."""
        pos, vel = straight_waypoints(obs.x[POS], obs.goal, self.horizon, self.dt, self._speed, self._approach_rate)
        return self._mpc.track(obs, np.concatenate([pos, vel], axis=1), state)
