"""Flights of a policy in its own MPC's model: observations of the kind it meets, without a simulator."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.models.crazyflie import NU, NX, POS, THRUST, hover_thrust, nominal_params
from deq_mpc_core.policy.interface import Array, Command, Observation, Policy, PolicyState
from deq_mpc_core.solver.generate import load_shipped_kernels

PERIOD = 0.01
"""Between two steps [s]."""
SPHERES = 40
_ENDS = 1.5
"""[m] the flight goes to and fro between x = -1.5 and x = 1.5, each time to another place."""
_KEEP_OUT = 0.45
"""[m] from the ends to the spheres' centres."""
_ARRIVED = 0.2
_PATIENCE = 6.0
"""[s] after which the vehicle is set down at another start."""


def _ends(rng: np.random.Generator) -> tuple[Array, Array]:
    """Start and goal."""
    ends = np.array([[-_ENDS, 0.0, 0.0], [_ENDS, 0.0, 0.0]])[:: rng.choice([-1, 1])]
    return tuple(ends + rng.uniform([0.0, -1.2, 0.7], [0.0, 1.2, 1.4], (2, 3)))


def _spheres(rng: np.random.Generator, ends: tuple[Array, Array]) -> NDArray[np.float64]:
    """(SPHERES, 7), half of them moving."""
    rows: list[Array] = []
    while len(rows) < SPHERES:
        centre = rng.uniform([-1.5, -1.8, 0.4], [1.5, 1.8, 1.7])
        if min(np.linalg.norm(centre - end) for end in ends) > _KEEP_OUT:
            vel = rng.uniform(-0.3, 0.3, 3) * (len(rows) % 2)
            rows.append(np.array([*centre, rng.uniform(0.08, 0.15), *vel]))
    return np.array(rows)


def _at_rest(pos: Array) -> Array:
    x = np.zeros(NX)
    x[POS], x[THRUST] = pos, hover_thrust()
    return x


class _Plant:
    """The model over one period."""

    def __init__(self) -> None:
        self._rk4 = load_shipped_kernels("crazyflie").rk4.rk4
        self._params, self._work = nominal_params(), np.empty((5, NX))

    def advance(self, x: Array, command: Command) -> Array:
        out = np.empty(NX)
        self._rk4(x, np.array(command, dtype=np.float64).reshape(NU), self._params, PERIOD, self._work, out)
        return out


class _Flight:
    """A scene, and the vehicle at its start."""

    def __init__(self, rng: np.random.Generator, t: float) -> None:
        self.begun = t
        start, self.goal = _ends(rng)
        self.spheres, self.x = _spheres(rng, (start, self.goal)), _at_rest(start)

    def is_over(self, t: float) -> bool:
        arrived = np.linalg.norm(self.x[POS] - self.goal) < _ARRIVED
        return bool(arrived or t - self.begun > _PATIENCE or not np.isfinite(self.x).all())


def roll_out(policy: Policy, steps: int, seed: int) -> Iterator[tuple[Observation, PolicyState | None]]:
    """``steps`` observations among SPHERES spheres, each with the policy's state before it (None: a cold start)."""
    rng, plant = np.random.default_rng(seed), _Plant()
    flight, state = _Flight(rng, 0.0), None
    for step in range(steps):
        t = step * PERIOD
        if flight.is_over(t):
            flight, state = _Flight(rng, t), None
        obs = Observation(t, flight.x, flight.goal, flight.spheres.copy())
        yield obs, state
        command, state, _ = policy.step(obs, state)
        flight.x = plant.advance(flight.x, command)
        flight.spheres[:, 0:3] += PERIOD * flight.spheres[:, 4:7]
