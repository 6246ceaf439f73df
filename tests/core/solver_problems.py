"""Problems that the solver's tests share: a pendulum and the Crazyflie, random but repeatable."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from deq_mpc_core.models import Model
from deq_mpc_core.models.crazyflie import crazyflie_model, hover_thrust, nominal_params
from deq_mpc_core.solver import Data

Array = NDArray[np.float64]

DT = 0.05


@cache
def pendulum_model() -> Model:
    """Damped pendulum (angle from hanging, rate), torque in."""
    angle, rate, torque, stiffness, damping = sp.symbols("angle rate torque stiffness damping", real=True)
    return Model(
        name="pendulum",
        x=(angle, rate),
        u=(torque,),
        p=(stiffness, damping),
        xdot=(rate, torque - stiffness * sp.sin(angle) - damping * rate),
        x_scale=(1.0, 2.0),
        u_scale=(1.0,),
    )


def pendulums(batch: int, horizon: int = 15, seed: int = 0) -> Data:
    """Pull the pendulum up against limits of its torque and rate."""
    rng = np.random.default_rng(seed)
    bound = np.broadcast_to([np.inf, 3.0, 6.0], (batch, horizon, 3))
    return Data(
        x_init=rng.normal(size=(batch, 2)) * [0.5, 1.0],
        x_ref=np.broadcast_to([2.0, 0.0], (batch, horizon, 2)) + rng.normal(size=(batch, 1, 2)) * 0.3,
        u_ref=np.zeros((batch, horizon, 1)),
        q=rng.uniform(1.0, 5.0, (batch, horizon, 2)),
        r=rng.uniform(0.05, 0.2, (batch, horizon, 1)),
        lower=-bound,
        upper=bound,
        centres=np.zeros((batch, horizon, 0, 3)),
        radii=np.zeros((batch, 0)),
        p=np.broadcast_to([9.81, 0.1], (batch, 2)) * rng.uniform(0.8, 1.2, (batch, 2)),
        dt=DT,
    )


def crazyflies(batch: int, horizon: int = 12, spheres: int = 4, seed: int = 0) -> Data:
    """Fly 1 m/s along x through moving spheres around the way, within limits of speed, tilt and commands."""
    rng = np.random.default_rng(seed)
    hover = hover_thrust()
    t = np.arange(horizon) * DT
    x_init = np.zeros((batch, 13))
    x_init[:, 3] = 1.0
    x_init += rng.normal(size=x_init.shape) * ([0.1] * 3 + [0.2] * 3 + [0.1] * 3 + [0.5] * 3 + [0.02])
    x_init[:, 12] += hover
    x_ref = np.zeros((batch, horizon, 13))
    x_ref[..., 0], x_ref[..., 3], x_ref[..., 12] = t, 1.0, hover
    x_ref[..., :6] += rng.normal(size=(batch, 1, 6)) * 0.2
    u_ref = np.broadcast_to([0.0, 0.0, 0.0, hover], (batch, horizon, 4))
    weight = [5.0] * 3 + [1.0] * 3 + [0.5] * 3 + [0.05] * 3 + [1.0]
    bound = np.array([np.inf] * 3 + [1.6] * 3 + [0.5, 0.5, np.inf] + [np.inf] * 3 + [1.0] + [0.35, 0.35, 2.0, 0.5])
    lower = -bound
    lower[16] = 0.1
    along = rng.uniform(0.35, 0.9, (batch, 1, spheres))
    angle = rng.uniform(-np.pi, np.pi, (batch, 1, spheres))
    off = rng.uniform(0.03, 0.35, (batch, 1, spheres))
    centres = np.stack([along, off * np.cos(angle), off * np.sin(angle)], axis=-1)
    velocity = rng.normal(size=(batch, 1, spheres, 3)) * 0.1
    return Data(
        x_init=x_init,
        x_ref=x_ref,
        u_ref=u_ref + rng.normal(size=u_ref.shape) * 0.01,
        q=weight * rng.uniform(0.5, 2.0, (batch, horizon, 13)),
        r=[1.0, 1.0, 0.2, 5.0] * rng.uniform(0.5, 2.0, (batch, horizon, 4)),
        lower=np.broadcast_to(lower, (batch, horizon, 17)),
        upper=np.broadcast_to(bound, (batch, horizon, 17)),
        centres=centres + velocity * t[None, :, None, None],
        radii=rng.uniform(0.05, 0.15, (batch, spheres)),
        p=np.broadcast_to(nominal_params(), (batch, 13)),
        dt=DT,
    )


MODELS: Mapping[str, Model] = {"pendulum": pendulum_model(), "crazyflie": crazyflie_model()}
PROBLEMS = {"pendulum": pendulums, "crazyflie": crazyflies}


def take(data: Data, which: NDArray[np.int64] | list[int]) -> Data:
    """The named samples of a batch."""
    return data._replace(**{name: np.asarray(a)[which] for name, a in data._asdict().items() if name != "dt"})


def cost(data: Data, tau: Array) -> Array:
    """Objective (B,) without constraints."""
    nx = data.x_ref.shape[-1]
    x, u = tau[..., :nx], tau[..., nx:]
    tracking = (data.q * (x - data.x_ref) ** 2).sum((1, 2)) + (data.r * (u - data.u_ref) ** 2).sum((1, 2))
    return 0.5 * tracking
