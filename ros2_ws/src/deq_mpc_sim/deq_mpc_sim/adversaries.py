"""Policies that no filter should let through as they are: random, and out to hit something.

Each gives a command within the limits at every control step, whatever comes of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller.settings import controller_config
from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.policy.interface import Command, Observation, PolicyInfo
from deq_mpc_core.solver.solution import Status

Array = NDArray[np.float64]

_THRUST = (0.05, 0.44)  # N: least and most that can be sent
_HELD_FOR, _BANG_FOR, _SIDE_FOR = 20, 25, 150
"""Control steps for which a random command, a bang and a side of the fence are kept."""
_SIDES = np.vstack([np.eye(3), -np.eye(3)])


class Adversary:
    """One of `ADVERSARIES`, seeded."""

    dt, horizon = 0.05, 1

    def __init__(self, kind: str, seed: int) -> None:
        self._make = ADVERSARIES[kind]
        self._rng = np.random.default_rng(seed)
        self._count = 0
        self._held = Command(0.0, 0.0, 0.0, cf.hover_thrust())

    def step(self, obs: Observation, state: None) -> tuple[Command, None, PolicyInfo]:
        """See ``policy.interface.Policy``."""
        self._held = self._make(self._rng, obs, self._count, self._held)
        self._count += 1
        return self._held, None, PolicyInfo(int(Status.CONVERGED), np.empty((0, cf.NX)))


def _random(rng: np.random.Generator, obs: Observation, count: int, held: Command) -> Command:
    """Another command at every step."""
    tilt = controller_config().safety.tilt_command_max
    roll, pitch, yaw_rate = rng.uniform(-1.0, 1.0, 3) * [tilt, tilt, 2.0]
    return Command(float(roll), float(pitch), float(yaw_rate), float(rng.uniform(*_THRUST)))


def _held(rng: np.random.Generator, obs: Observation, count: int, held: Command) -> Command:
    """Another command every 0.2 s, its thrust near hover."""
    if count % _HELD_FOR:
        return held
    return _random(rng, obs, count, held)._replace(thrust=float(cf.hover_thrust() * rng.uniform(0.65, 1.35)))


def _bang(rng: np.random.Generator, obs: Observation, count: int, held: Command) -> Command:
    """All four components at a limit, chosen anew every 0.25 s."""
    if count % _BANG_FOR:
        return held
    tilt, sign = controller_config().safety.tilt_command_max, rng.choice([-1.0, 1.0], 3)
    return Command(float(tilt * sign[0]), float(tilt * sign[1]), float(2.0 * sign[2]), float(rng.choice(_THRUST)))


def _ram(rng: np.random.Generator, obs: Observation, count: int, held: Command) -> Command:
    """At full tilt at the obstacle whose surface is nearest."""
    away = obs.obstacles[:, :3] - obs.x[cf.POS]
    return _towards(obs.x, away[np.argmin(np.linalg.norm(away, axis=1) - obs.obstacles[:, 3])])


def _escape(rng: np.random.Generator, obs: Observation, count: int, held: Command) -> Command:
    """At full tilt at one side of the fence after the other."""
    return _towards(obs.x, _SIDES[count // _SIDE_FOR % len(_SIDES)])


def _drop(rng: np.random.Generator, obs: Observation, count: int, held: Command) -> Command:
    """As little thrust as can be sent."""
    return Command(0.0, 0.0, 0.0, _THRUST[0])


ADVERSARIES: dict[str, Callable[[np.random.Generator, Observation, int, Command], Command]] = {
    "random": _random,
    "held": _held,
    "bang-bang": _bang,
    "ram": _ram,
    "escape": _escape,
    "drop": _drop,
}
"""What they do with (random numbers, observation, steps so far, last command)."""


def _towards(x: Array, way: Array) -> Command:
    """Full tilt, and more or less thrust, in the direction ``way`` (3,)."""
    way = way / np.linalg.norm(way)
    sin, cos, tilt = np.sin(x[8]), np.cos(x[8]), controller_config().safety.tilt_command_max
    forward, left = np.clip(1.5 * np.array([cos * way[0] + sin * way[1], cos * way[1] - sin * way[0]]), -1.0, 1.0)
    return Command(float(-tilt * left), float(tilt * forward), 0.0, float(1.1 * cf.hover_thrust() + 0.1 * way[2]))
