"""What a policy takes and gives: state in, state out, nothing hidden."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PolicyState = Any  # opaque to callers; each policy has its own immutable type


@dataclass(frozen=True)
class Observation:
    """What the policy knows at one control step; world frame, SI.

    Attributes:
        t: time of the state [s], monotonic within a flight.
        x: vehicle state (13,): pos, vel, rpy, rpy_rate, thrust (see ``models/crazyflie.py``).
        goal: (3,) position [m].
        obstacles: (K, 7) spheres: x y z radius vx vy vz [m, m/s]; any K, order stable during a flight.
        model_params: (np,) parameters of the MPC's model, e.g. with an estimated disturbance; None: nominal.
        fence: (2, 3) lower and upper corner [m] of the box to stay in; None: the configured arena.
    """

    t: float
    x: Array
    goal: Array
    obstacles: Array
    model_params: Array | None = None
    fence: Array | None = None


class Command(NamedTuple):
    """Attitude command, ROS signs: roll, pitch [rad], yaw_rate [rad/s], collective thrust [N]."""

    roll: float
    pitch: float
    yaw_rate: float
    thrust: float


@dataclass(frozen=True)
class PolicyInfo:
    """Diagnostics of one step.

    Attributes:
        status: one of ``deq_mpc_core.solver.Status``.
        plan: (T, 13) planned states from ``obs.t``, every ``policy.dt``.
        residuals: joint fixed point: ``theta``, ``tau``, ``network``; solver: ``dynamics``, ``inequality``.
        iterations: DEQ-MPC iterations done in this step.
    """

    status: int
    plan: Array
    residuals: dict[str, float] = field(default_factory=dict)
    iterations: int = 0


class Policy(Protocol):
    """A controller for the flight task. ``step`` is a function of its arguments alone."""

    dt: float
    horizon: int

    def step(self, obs: Observation, state: PolicyState | None) -> tuple[Command, PolicyState, PolicyInfo]:
        """One control step. ``state=None`` starts cold."""
        ...
