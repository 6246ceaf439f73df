"""Whether the flight policy is the training-time one: both take the same steps from the same states.

Both compute in float32 where the network does, in different orders, and a step has branches: where the network's
iteration stops, what length the line search takes. At a branch the smallest rounding error decides, and the
training-time policy disagrees with itself as much as with its twin; such steps are found out and set apart.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from deq_mpc_core.models.crazyflie import NX, crazyflie_model
from deq_mpc_core.networks.waypoints import WaypointNetwork
from deq_mpc_core.policy.config import PolicyConfig
from deq_mpc_core.policy.deq_mpc import DeqMpc, JointState
from deq_mpc_core.policy.flight_policy import DeqMpcPolicy, FlightState
from deq_mpc_core.policy.flight_task import FlightTask, Scenario
from deq_mpc_core.policy.interface import Array, Observation
from deq_mpc_core.policy.rollout import roll_out
from deq_mpc_core.solver.arrays import Duals
from deq_mpc_core.solver.cpu_engine import CpuEngine
from deq_mpc_core.solver.solution import SolverState

Step: TypeAlias = "tuple[Observation, FlightState | None]"
"""An observation, and the state before it."""

_DISTURBANCES, _DISTURBANCE, _ABOUT = 50, 8.0, 10.0
"""How often the inputs are disturbed, by how many units in the last place of float32 (what a sum over a hundred inputs
loses), and how far apart the changes of the plan may be."""
_CLEAR = 0.4
"""[m] from the vehicle to the centres of random spheres."""
_AHEAD = 0.1
"""[s] on the vehicle's way to a sphere that is off."""


def training_policy(config: PolicyConfig, weights: Mapping[str, NDArray[np.float32]]) -> DeqMpc[Scenario]:
    """What was trained: the torch network and the alternation around it."""
    network = WaypointNetwork(config.network, config.mpc.horizon, config.mpc.dt)
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    return DeqMpc(FlightTask(network, config), config.alternation, CpuEngine(crazyflie_model(), threads=1))


def _scenario(obs: Observation) -> Scenario:
    x, goal, obstacles = (torch.from_numpy(np.array(a))[None] for a in (obs.x, obs.goal, obs.obstacles))
    return Scenario(x, goal, obstacles, torch.ones(obstacles.shape[:2], dtype=torch.bool))


def _joint_state(state: FlightState) -> JointState:
    """Multipliers are not carried from step to step."""
    solver = SolverState(state.tau[None], Duals(None, None, None, None), np.zeros(1))
    return JointState(torch.from_numpy(state.tau)[None], solver, torch.from_numpy(state.z)[None])


@dataclass(frozen=True)
class Agreement:
    """Result of a comparison.

    Attributes:
        difference: largest of the two plans, states and inputs, SI units, over the steps that rounding does not decide.
        steps: compared.
        undecided: how many of them rounding decides, see the module docstring; not in ``difference``.
    """

    difference: float
    steps: int
    undecided: int


def train_step(training: DeqMpc[Scenario], obs: Observation, state: FlightState | None) -> Array:
    """Plan (T, nz) of the training-time policy."""
    with torch.no_grad():
        if state is None:
            _, after = training.run(_scenario(obs), None)
        else:
            _, after = training.run(_scenario(obs), _joint_state(state), obs.t - state.t)
    return after.tau[0].numpy()


def _disturb(a: Array, rng: np.random.Generator) -> Array:
    """The same array but for the last places of float32."""
    return a * (1.0 + _DISTURBANCE * np.finfo(np.float32).eps * rng.choice([-1.0, 1.0], a.shape))


def _is_undecided(
    training: DeqMpc[Scenario], obs: Observation, state: FlightState | None, plan: Array, difference: float
) -> bool:
    """Whether rounding errors of its inputs alone change the training-time policy's plan about as much."""
    rng = np.random.default_rng(0)
    for _ in range(_DISTURBANCES):
        near = dataclasses.replace(obs, x=_disturb(obs.x, rng), obstacles=_disturb(obs.obstacles, rng))
        if difference < _ABOUT * np.abs(train_step(training, near, state) - plan).max():
            return True
    return False


def compare(flight: DeqMpcPolicy, training: DeqMpc[Scenario], steps: Iterable[Step], limit: float) -> Agreement:
    """Take all steps with both. limit: differences up to which nothing has to be found out."""
    largest, count, undecided = 0.0, 0, 0
    for obs, state in steps:
        count += 1
        plan = train_step(training, obs, state)
        difference = float(np.nan_to_num(np.abs(flight.step(obs, state)[1].tau - plan), nan=np.inf).max())
        if difference > limit and _is_undecided(training, obs, state, plan, difference):
            undecided += 1
        else:
            largest = max(largest, difference)
    return Agreement(largest, count, undecided)


def random_steps(flight: DeqMpcPolicy, count: int, seed: int) -> Iterator[Step]:
    """Observations all over the arena, at any speed and tilt, in front a sphere that is off; each cold and warm."""
    rng = np.random.default_rng(seed)
    low, high = (np.array(corner) for corner in (flight.config.mpc.fence_low, flight.config.mpc.fence_high))
    for _ in range(count):
        x = np.zeros(NX)
        x[0:3], x[3:6] = rng.uniform(low, high), rng.normal(scale=0.5, size=3)
        x[6:9], x[9:12], x[12] = rng.normal(scale=0.1, size=3), rng.normal(scale=0.3, size=3), rng.uniform(0.25, 0.4)
        obstacles = rng.uniform(-0.5, 0.5, (int(rng.integers(0, 41)), 7))
        obstacles[:, 0:3] = rng.uniform(low, high, (len(obstacles), 3))
        obstacles[:, 3] = rng.uniform(0.05, 0.2, len(obstacles))
        obstacles = obstacles[np.linalg.norm(obstacles[:, 0:3] - x[0:3], axis=1) > _CLEAR]
        off = [*(x[0:3] + _AHEAD * x[3:6]), rng.choice([0.0, -0.1]), 0.0, 0.0, 0.0]
        obstacles = np.vstack([obstacles, off])
        goal = rng.uniform(low, high)
        cold = Observation(0.0, x, goal, obstacles)
        yield cold, None
        yield Observation(0.013, x + rng.normal(scale=0.003, size=NX), goal, obstacles), flight.step(cold, None)[1]


def verify(flight: DeqMpcPolicy, training: DeqMpc[Scenario], count: int, limit: float) -> Agreement:
    """Compare over ``count`` random observations, cold and warm, and over ``count`` observations along flights."""
    flown = itertools.islice(roll_out(flight, 10 * count, seed=0), 0, None, 10)
    return compare(flight, training, itertools.chain(random_steps(flight, count, seed=0), flown), limit)
