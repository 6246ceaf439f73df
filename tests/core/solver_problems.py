"""Shorthands for the random problems of ``bench/problems.py`` that the solver's tests share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from deq_mpc_core import models
from deq_mpc_core.bench.problems import DT, random_problems, take
from deq_mpc_core.models import Model
from deq_mpc_core.models.pendulum import pendulum_model
from deq_mpc_core.solver import Data
from deq_mpc_core.solver import objective as cost

__all__ = ["DT", "MODELS", "PROBLEMS", "cost", "crazyflies", "pendulum_model", "pendulums", "take"]


def pendulums(batch: int, horizon: int = 15, seed: int = 0) -> Data:
    """Pendulums against limits of torque, angle and rate."""
    return random_problems("pendulum", batch, horizon, seed)


def crazyflies(batch: int, horizon: int = 12, spheres: int = 4, seed: int = 0) -> Data:
    """Crazyflies against spheres and limits of speed, tilt and commands."""
    return random_problems("crazyflie", batch, horizon, seed, spheres=spheres)


def _problems(name: str) -> Callable[..., Data]:
    return lambda batch, seed: random_problems(name, batch, 12, seed)


MODELS: Mapping[str, Model] = {name: model() for name, model in models.MODELS.items()}
PROBLEMS: Mapping[str, Callable[..., Data]] = {name: _problems(name) for name in MODELS}
