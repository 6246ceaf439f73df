"""The short-horizon MPC of the flight task: from an observation and waypoints to a command, warm-started.

Every policy flies through it; they differ in who gives the waypoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from deq_mpc_core.config import Config, load_config
from deq_mpc_core.models.crazyflie import (
    NU,
    NX,
    POS,
    RPY,
    THRUST,
    THRUST_CMD,
    VEL,
    YAW,
    crazyflie_model,
    hover_thrust,
    nominal_params,
)
from deq_mpc_core.obstacles import centres_at
from deq_mpc_core.policy.interface import Array, Command, Observation, PolicyInfo
from deq_mpc_core.policy.starts import first_iterate, read_now
from deq_mpc_core.solver.arrays import Data
from deq_mpc_core.solver.cpu_engine import CpuEngine
from deq_mpc_core.solver.solution import Solution, SolverOptions

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
    horizon: int = Field(ge=2, le=1000)
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


def pose(
    config: MpcConfig, x: Array, theta: Array, obstacles: Array, params: Array | None = None, fence: Array | None = None
) -> Data:
    """The MPC's problems for a batch of observations; the compiled flight step poses them by the same rules.

    The reference is level and does not turn, at the yaw of now and the thrust that hovers. Obstacles go on at their
    velocity, grown by the margin; a radius <= 0 switches one off.

    Args:
        x: (B, 13) states. theta: (B, T, 6) positions and velocities to track.
        obstacles: (B, K, 7), see ``Observation``. params: (np,) of the model, by default nominal.
        fence: (2, 3), by default the configured arena.
    """
    batch, horizon, tracked = theta.shape
    params = nominal_params() if params is None else params
    x_ref, u_ref = np.zeros((batch, horizon, NX)), np.zeros((batch, horizon, NU))
    x_ref[..., :tracked], x_ref[..., YAW] = theta, x[:, None, YAW]
    x_ref[..., THRUST] = u_ref[..., THRUST_CMD] = hover_thrust(params)
    radii = obstacles[..., 3]
    q, r, lower, upper = (
        np.broadcast_to(a, (batch, horizon, len(a))) for a in (*cost_weights(config), *bounds(config, fence))
    )
    return Data(
        x_init=x,
        x_ref=x_ref,
        u_ref=u_ref,
        q=q,
        r=r,
        lower=lower,
        upper=upper,
        centres=centres_at(obstacles, config.dt * np.arange(horizon, dtype=np.float64)),
        radii=np.where(radii > 0.0, radii + config.margin, 0.0),
        p=np.broadcast_to(params, (batch, len(params))),
        dt=config.dt,
    )


class Mpc:
    """Solves the flight task's MPC on one core, stateless."""

    def __init__(self, config: MpcConfig | None = None) -> None:
        self.config = config or load_mpc_config()
        self.engine = CpuEngine(crazyflie_model(), threads=1)

    def track(self, obs: Observation, theta: Array, state: MpcState | None) -> tuple[Command, MpcState, PolicyInfo]:
        """One control step towards positions and velocities (T, 6), cold or warm, each with its options."""
        config = self.config
        problem = pose(config, obs.x[None], theta[None], obs.obstacles[None], obs.model_params, obs.fence)
        last = None if state is None else read_now(state.tau, obs.t - state.t, config.dt)
        options = config.cold if last is None else config.warm
        solution = self.engine.solve(problem, first_iterate(problem, options.penalty_init, last), options)
        tau = solution.state.tau
        info = PolicyInfo(int(solution.status[0]), tau[0, :, :NX], residuals(solution), 1)
        return self._command(tau[0, 0, NX:]), MpcState(tau, obs.t), info

    def _command(self, u: Array) -> Command:
        """The input within its limits."""
        lower, upper = bounds(self.config)
        return Command(*np.clip(u, lower[NX:], upper[NX:]).tolist())


def residuals(solution: Solution) -> dict[str, float]:
    """The solver's residuals of one sample, scaled units."""
    return {"dynamics": float(solution.dynamics[0]), "inequality": float(solution.violation[0])}
