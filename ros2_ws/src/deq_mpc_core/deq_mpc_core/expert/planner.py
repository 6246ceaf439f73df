"""Long-horizon planner.

A grid path for each look-ahead, each refined by the solver with the spheres' motion; the best one flies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from deq_mpc_core.config import Config, load_config
from deq_mpc_core.expert.grid import Grid, PathField, path_field
from deq_mpc_core.models.point_mass import NU, NX, point_mass_model
from deq_mpc_core.obstacles import centres_at, move
from deq_mpc_core.policy.interface import Array
from deq_mpc_core.policy.mpc import MpcConfig, load_mpc_config
from deq_mpc_core.policy.straight_line import travel
from deq_mpc_core.solver.arrays import Data
from deq_mpc_core.solver.cpu_engine import CpuEngine
from deq_mpc_core.solver.solution import SolverOptions, Status, cold_state


class ExpertWeights(Config):
    """Weights of the planner's problem."""

    pos: float = Field(gt=0)
    vel: float = Field(ge=0)
    acc: float = Field(gt=0)


class ExpertConfig(Config):
    """``config/expert.yaml``, SI units."""

    dt: float = Field(gt=0)
    horizon: int = Field(ge=2)
    replan_period: float = Field(gt=0)
    speed: float = Field(gt=0)
    approach_rate: float = Field(gt=0)
    margin: float = Field(ge=0)
    acceleration_max: float = Field(gt=0)
    grid_spacing: float = Field(gt=0)
    grid_margin: float = Field(ge=0)
    comfort: float = Field(gt=0)
    comfort_weight: float = Field(ge=0)
    lookahead: Annotated[tuple[float, ...], Field(strict=False, min_length=1)]
    weights: ExpertWeights
    solver: SolverOptions


def load_expert_config() -> ExpertConfig:
    """The shipped configuration."""
    return load_config("expert", ExpertConfig)


@dataclass(frozen=True)
class Plan:
    """A planned flight: states (T, 6) pos, vel every dt [s] from time t [s]."""

    t: float
    dt: float
    states: Array

    def sample(self, t: Array) -> Array:
        """States (n, 6) at times t (n,), linear in between, the last held with zero velocity after the end."""
        at = np.clip((t - self.t) / self.dt, 0.0, len(self.states) - 1)
        low = np.minimum(at.astype(int), len(self.states) - 2)
        weight = (at - low)[:, None]
        states: Array = (1.0 - weight) * self.states[low] + weight * self.states[low + 1]
        states[at >= len(self.states) - 1, 3:] = 0.0
        return states


def follow_path(corners: Array, horizon: int, dt: float, speed: float, approach_rate: float) -> Array:
    """States (horizon, 6) along a polyline; see `travel` for the speed."""
    lengths = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    keep = np.concatenate([[True], lengths > 1e-9])
    corners, lengths = corners[keep], lengths[lengths > 1e-9]
    states = np.zeros((horizon, NX))
    states[:, :3] = corners[-1]
    if not len(lengths):
        return states
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    travelled, velocity = travel(along[-1], horizon, dt, speed, approach_rate)
    segment = np.clip(np.searchsorted(along, travelled, side="right") - 1, 0, len(lengths) - 1)
    direction = (np.diff(corners, axis=0) / lengths[:, None])[segment]
    states[:, :3] = corners[segment] + (travelled - along[segment])[:, None] * direction
    states[:, 3:] = velocity[:, None] * direction
    return states


class Planner:
    """Plans from a state to a goal around spheres of known, constant velocity."""

    def __init__(self, config: ExpertConfig | None = None, mpc: MpcConfig | None = None) -> None:
        self.config = config or load_expert_config()
        self._mpc = mpc or load_mpc_config()
        self._engine = CpuEngine(point_mass_model(), threads=1)
        self._fields: dict[bytes, PathField] = {}

    def _field(self, goal: Array, centres: Array, radii: Array, fence: Array) -> PathField:
        """The cost-to-go field; kept between calls, because a static scene asks for the same one at every replan."""
        key = b"".join(np.ascontiguousarray(a).tobytes() for a in (goal, centres, radii, fence))
        if key not in self._fields:
            if len(self._fields) >= len(self.config.lookahead):
                self._fields.clear()
            c = self.config
            grid = Grid(fence[0], fence[1], c.grid_spacing)
            self._fields[key] = path_field(grid, goal, centres, radii, c.grid_margin, c.comfort, c.comfort_weight)
        return self._fields[key]

    def plan(self, t: float, state: Array, goal: Array, obstacles: Array, fence: Array | None = None) -> Plan:
        """Best plan from state (6,) pos, vel at time t. obstacles (K, 7), fence (2, 3); see `Observation`."""
        c = self.config
        box = np.array([self._mpc.fence_low, self._mpc.fence_high]) if fence is None else fence
        moving = bool(np.any(obstacles[:, 4:7]))
        looks = c.lookahead if moving else (0.0,)
        references = []
        for look in looks:
            field = self._field(goal, move(obstacles, look)[:, :3], obstacles[:, 3], box)
            references.append(follow_path(field.path(state[:3]), c.horizon, c.dt, c.speed, c.approach_rate))
        data = self._problem(state, np.array(references), obstacles, box)
        start = cold_state(data, c.solver.penalty_init)
        tau = start.tau.copy()
        tau[:, 1:, :NX] = data.x_ref[:, 1:]
        solution = self._engine.solve(data, start.with_tau(tau), c.solver)
        states = solution.state.tau[:, :, :NX]
        bad = np.maximum(solution.dynamics, solution.violation) + 1e3 * (solution.status == Status.NUMERICAL_FAILURE)
        feasible = bad < 0.02
        late = np.linalg.norm(states[:, :, :3] - goal, axis=2).sum(axis=1)
        best = int(np.argmin(np.where(feasible, late, 1e6 * (1.0 + bad))))
        return Plan(t, c.dt, states[best])

    def _problem(self, state: Array, references: Array, obstacles: Array, fence: Array) -> Data:
        c = self.config
        batch = len(references)
        shape = (batch, c.horizon)
        upper = np.full(NX + NU, np.inf)
        upper[3:6], upper[6:9] = self._mpc.speed_max, c.acceleration_max
        lower = -upper
        lower[:3], upper[:3] = fence
        q = np.array([c.weights.pos] * 3 + [c.weights.vel] * 3)
        radii = np.where(obstacles[:, 3] > 0.0, obstacles[:, 3] + c.margin, 0.0)
        centres = centres_at(obstacles, c.dt * np.arange(c.horizon, dtype=np.float64))
        return Data(
            x_init=np.tile(state, (batch, 1)),
            x_ref=references,
            u_ref=np.zeros((*shape, NU)),
            q=np.tile(q, (*shape, 1)),
            r=np.full((*shape, NU), c.weights.acc),
            lower=np.tile(lower, (*shape, 1)),
            upper=np.tile(upper, (*shape, 1)),
            centres=np.tile(centres, (batch, 1, 1, 1)),
            radii=np.tile(radii, (batch, 1)),
            p=np.zeros((batch, 0)),
            dt=c.dt,
        )
