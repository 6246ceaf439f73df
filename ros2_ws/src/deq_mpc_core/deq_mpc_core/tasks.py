"""The paper's state-regulation tasks: drive a system to a goal, one short-horizon MPC problem at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deq_mpc_core.config import Config, load_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.models import MODELS, NOMINAL_PARAMS, Model
from deq_mpc_core.models.quadrotor import MRP, mrp_from_quat
from deq_mpc_core.rotations import quat_from_rpy
from deq_mpc_core.solver.arrays import Data

Array = NDArray[np.float64]


class TaskConfig(Config):
    """One task of ``config/tasks.yaml``; its name is the model's."""

    dt: float
    horizon: int
    q: list[float]
    r: list[float]
    u_lower: list[float]
    u_upper: list[float]
    u_goal: list[float]
    x_goal: list[float]
    start_low: list[float]
    start_high: list[float]


class TasksConfig(Config):
    """``config/tasks.yaml``."""

    pendulum: TaskConfig
    cartpole: TaskConfig
    quadrotor: TaskConfig


TASKS: tuple[str, ...] = tuple(TasksConfig.model_fields)
"""Names of the tasks, which are those of their models."""


@dataclass(frozen=True)
class Task:
    """A state-regulation task. States and inputs are the model's, nz = nx + nu.

    Attributes:
        model: symbolic dynamics; ``p`` (np,) its parameters.
        dt: knot spacing [s].
        horizon: T, knots, the first is now.
        q, r: (nx,), (nu,) weights of 1/2 |x - x_ref|^2_q + 1/2 |u - u_goal|^2_r.
        lower, upper: (nz,) bounds on (x, u), +-inf for none.
        goal: (nx,) state to reach; ``u_goal`` (nu,) the input that holds it.
        start_low, start_high: (nx,) box of the starts; the quadrotor's attitude in it is roll, pitch, yaw.
    """

    model: Model
    p: Array
    dt: float
    horizon: int
    q: Array
    r: Array
    lower: Array
    upper: Array
    goal: Array
    u_goal: Array
    start_low: Array
    start_high: Array

    def problem(self, x_init: ArrayLike, x_ref: ArrayLike | None = None) -> Data:
        """The MPC problems of states x_init (B, nx) and references x_ref (B, T, nx), by default the goal."""
        start = np.atleast_2d(np.asarray(x_init, dtype=np.float64))
        batch, knots = start.shape[0], self.horizon
        reference = self.goal if x_ref is None else np.asarray(x_ref, dtype=np.float64)

        def every_knot(a: Array) -> Array:
            return np.array(np.broadcast_to(a, (batch, knots, a.shape[-1])))

        return Data(
            x_init=start,
            x_ref=every_knot(reference),
            u_ref=every_knot(self.u_goal),
            q=every_knot(self.q),
            r=every_knot(self.r),
            lower=every_knot(self.lower),
            upper=every_knot(self.upper),
            centres=np.zeros((batch, knots, 0, 3)),
            radii=np.zeros((batch, 0)),
            p=np.array(np.broadcast_to(self.p, (batch, self.p.size))),
            dt=self.dt,
        )

    def random_starts(self, rng: np.random.Generator, n: int) -> Array:
        """States (n, nx) drawn from the start distribution."""
        states: Array = rng.uniform(self.start_low, self.start_high, (n, self.model.nx))
        if self.model.name == "quadrotor":
            states[:, MRP] = mrp_from_quat(quat_from_rpy(states[:, MRP]))
        return states


def _checked(name: str, config: TaskConfig, model: Model) -> None:
    lengths = {key: len(value) for key, value in config if isinstance(value, list)}
    for key, length in lengths.items():
        expected = model.nu if key == "r" or key.startswith("u_") else model.nx
        if length != expected:
            raise UserError(f"task {name}: {key} has {length} entries; the model {name} needs {expected}")


@cache
def load_task(name: str) -> Task:
    """The task ``pendulum``, ``cartpole`` or ``quadrotor``.

    Raises:
        UserError: if there is no task of that name, or its lists do not fit the model.
    """
    if name not in TASKS:
        raise UserError(f"no task {name!r}; choose one of {', '.join(TASKS)}")
    config: TaskConfig = getattr(load_config("tasks", TasksConfig), name)
    model = MODELS[name]()
    _checked(name, config, model)
    free = np.full(model.nx, np.inf)
    return Task(
        model=model,
        p=NOMINAL_PARAMS[name](),
        dt=config.dt,
        horizon=config.horizon,
        q=np.array(config.q),
        r=np.array(config.r),
        lower=np.concatenate([-free, config.u_lower]),
        upper=np.concatenate([free, config.u_upper]),
        goal=np.array(config.x_goal),
        u_goal=np.array(config.u_goal),
        start_low=np.array(config.start_low),
        start_high=np.array(config.start_high),
    )
