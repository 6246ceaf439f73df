"""The short-horizon MPC of the flight task: from an observation and a state reference to a command, warm-started.

Every policy flies through it; they differ in who gives the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from deq_mpc_core.config import Config, load_config
from deq_mpc_core.models.crazyflie import NU, NX, POS, RPY, THRUST, VEL, crazyflie_model, hover_thrust, nominal_params
from deq_mpc_core.obstacles import centres_at
from deq_mpc_core.policy.interface import Array, Command, Observation
from deq_mpc_core.solver.arrays import Data
from deq_mpc_core.solver.cpu_engine import CpuEngine
from deq_mpc_core.solver.solution import Solution, SolverOptions, SolverState, cold_state, shift_trajectory

Triple = Annotated[tuple[float, float, float], Field(strict=False)]


class MpcWeights(Config):
    """Diagonal weights; units in ``config/mpc.yaml``."""

    pos: float = Field(gt=0)
    vel: float = Field(ge=0)
    rpy: float = Field(ge=0)
    yaw: float = Field(ge=0)
    rpy_rate: float = Field(ge=0)
    thrust: float = Field(ge=0)
    roll_pitch_command: float = Field(gt=0)
    yaw_rate_command: float = Field(gt=0)
    thrust_command: float = Field(gt=0)


class MpcConfig(Config):
    """``config/mpc.yaml``: the MPC of the flight task, SI units."""

    dt: float = Field(gt=0)
    horizon: int = Field(ge=2)
    margin: float = Field(ge=0)
    fence_low: Triple
    fence_high: Triple
    speed_max: float = Field(gt=0)
    tilt_max: float = Field(gt=0)
    tilt_command_max: float = Field(gt=0)
    yaw_rate_max: float = Field(gt=0)
    thrust_min: float = Field(ge=0)
    thrust_max: float = Field(gt=0)
    weights: MpcWeights
    cold: SolverOptions
    warm: SolverOptions

    @model_validator(mode="after")
    def _check_order(self) -> MpcConfig:
        if any(low >= high for low, high in zip(self.fence_low, self.fence_high, strict=True)):
            raise ValueError("fence_low must lie below fence_high on every axis; correct the fence")
        if self.thrust_min >= self.thrust_max:
            raise ValueError("thrust_min must be below thrust_max; correct one of them")
        return self


def load_mpc_config() -> MpcConfig:
    """The shipped configuration."""
    return load_config("mpc", MpcConfig)


@dataclass(frozen=True)
class MpcState:
    """Warm start of the MPC: the plan (1, T, NX + NU) and the time [s] of its first knot."""

    tau: Array
    t: float


def cost_weights(config: MpcConfig) -> tuple[Array, Array]:
    """Diagonals q (NX,) and r (NU,)."""
    w = config.weights
    q = np.array([w.pos] * 3 + [w.vel] * 3 + [w.rpy, w.rpy, w.yaw] + [w.rpy_rate] * 3 + [w.thrust])
    r = np.array([w.roll_pitch_command, w.roll_pitch_command, w.yaw_rate_command, w.thrust_command])
    return q, r


def bounds(config: MpcConfig, fence: Array | None = None) -> tuple[Array, Array]:
    """Lower and upper bounds (NX + NU,) on (x, u). fence: (2, 3) corners [m], default the configured arena."""
    upper = np.full(NX + NU, np.inf)
    upper[VEL] = config.speed_max
    upper[RPY][:2] = config.tilt_max
    upper[NX : NX + 2] = config.tilt_command_max
    upper[NX + 2] = config.yaw_rate_max
    lower = -upper
    lower[NX + 3], upper[NX + 3] = config.thrust_min, config.thrust_max
    lower[POS] = config.fence_low if fence is None else fence[0]
    upper[POS] = config.fence_high if fence is None else fence[1]
    return lower, upper


def complete_reference(pos: Array, vel: Array, yaw: Array | float, thrust: Array | float) -> Array:
    """State reference (..., T, NX) from positions and velocities (..., T, 3): level, not rotating, ``thrust`` [N]."""
    reference = np.zeros((*pos.shape[:-1], NX))
    reference[..., POS] = pos
    reference[..., VEL] = vel
    reference[..., 8] = yaw
    reference[..., THRUST] = thrust
    return reference


class Mpc:
    """Solves the flight task's MPC on one core; ``solve`` is a function of its arguments alone."""

    def __init__(self, config: MpcConfig | None = None) -> None:
        self.config = config or load_mpc_config()
        self.engine = CpuEngine(crazyflie_model(), threads=1)
        self._nominal = nominal_params()
        q, r = cost_weights(self.config)
        horizon = self.config.horizon
        self._q = np.ascontiguousarray(np.broadcast_to(q, (1, horizon, NX)))
        self._r = np.ascontiguousarray(np.broadcast_to(r, (1, horizon, NU)))

    def problem(self, obs: Observation, reference: Array) -> Data:
        """The problem of one control step. reference: (T, NX)."""
        config = self.config
        p = self._nominal if obs.model_params is None else obs.model_params
        u_ref = np.zeros((1, config.horizon, NU))
        u_ref[..., 3] = hover_thrust(p)
        lower, upper = bounds(config, obs.fence)
        shape = (1, config.horizon, NX + NU)
        radii = obs.obstacles[:, 3]
        return Data(
            x_init=obs.x[None],
            x_ref=reference[None],
            u_ref=u_ref,
            q=self._q,
            r=self._r,
            lower=np.ascontiguousarray(np.broadcast_to(lower, shape)),
            upper=np.ascontiguousarray(np.broadcast_to(upper, shape)),
            centres=centres_at(obs.obstacles, config.dt * np.arange(config.horizon, dtype=np.float64))[None],
            radii=np.where(radii > 0.0, radii + config.margin, 0.0)[None],
            p=p[None],
            dt=config.dt,
        )

    def cold_start(self, problem: Data, options: SolverOptions) -> SolverState:
        """tau^0 of the paper: x_init repeated, inputs at their reference, multipliers zero."""
        return cold_state(problem, options.penalty_init)

    def warm_start(
        self, obs: Observation, state: MpcState | None, problem: Data, options: SolverOptions
    ) -> SolverState | None:
        """The previous plan read later by the time that has passed, multipliers zero; None if there is none to use."""
        if state is None or not 0.0 <= obs.t - state.t <= self.config.dt * self.config.horizon:
            return None
        tau = shift_trajectory(state.tau, (obs.t - state.t) / self.config.dt)
        return cold_state(problem, options.penalty_init).with_tau(tau)

    def solve(self, problem: Data, state: SolverState, options: SolverOptions) -> Solution:
        """One solve on the calling thread."""
        return self.engine.solve(problem, state, options)

    def track(self, obs: Observation, reference: Array, state: MpcState | None) -> tuple[Solution, MpcState]:
        """One control step towards a given reference (T, NX), with the configured cold or warm options."""
        problem = self.problem(obs, reference)
        start = self.warm_start(obs, state, problem, self.config.warm)
        if start is None:
            solution = self.solve(problem, self.cold_start(problem, self.config.cold), self.config.cold)
        else:
            solution = self.solve(problem, start, self.config.warm)
        return solution, self.state(solution, obs)

    def state(self, solution: Solution, obs: Observation) -> MpcState:
        """What the next step starts from."""
        return MpcState(solution.state.tau, obs.t)

    def command(self, solution: Solution) -> Command:
        """The first input of the plan, within the command limits."""
        lower, upper = bounds(self.config)
        u = np.clip(solution.state.tau[0, 0, NX:], lower[NX:], upper[NX:])
        return Command(float(u[0]), float(u[1]), float(u[2]), float(u[3]))

    def plan(self, solution: Solution) -> Array:
        """Planned states (T, NX)."""
        return solution.state.tau[0, :, :NX]


def residuals(solution: Solution) -> dict[str, float]:
    """The solver's residuals of one sample, scaled units."""
    return {"dynamics": float(solution.dynamics[0]), "inequality": float(solution.violation[0])}
