"""How long a control step of the shipped Crazyflie policy takes, along flights among obstacles in its own model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from deq_mpc_core.bench.row import BenchOptions, Row, Work
from deq_mpc_core.bench.timing import Candidate, Effort, compare
from deq_mpc_core.policy.flight_policy import DeqMpcPolicy, load_flight_policy
from deq_mpc_core.policy.interface import Observation, PolicyState
from deq_mpc_core.policy.rollout import SPHERES, roll_out
from deq_mpc_core.solver.solution import SolverOptions

Step: TypeAlias = "tuple[Observation, PolicyState | None]"

_STEPS, _QUICK_STEPS = 2000, 200
"""Control steps that are timed, each of another observation."""
_COLD = 10
"""So many times fewer cold steps are timed."""


def suite(options: BenchOptions) -> Iterator[Row]:
    """Batch 1, one thread: a warm step of every observation, a cold one of some."""
    policy = load_flight_policy()
    turns = policy.config.alternation
    steps = list(roll_out(policy, _QUICK_STEPS if options.quick else _STEPS, seed=0))
    cold: list[Step] = [(obs, None) for obs, _ in steps[::_COLD]]
    warm = [step for step in steps if step[1] is not None]
    yield from _time("cold", policy, cold, turns.cold_iterations, turns.cold)
    yield from _time("warm", policy, warm, turns.warm_iterations, turns.warm)


def _time(kind: str, policy: DeqMpcPolicy, steps: Sequence[Step], iterations: int, solver: SolverOptions) -> list[Row]:
    work = Work(f"shipped Crazyflie policy, {SPHERES} obstacles, {kind}", 1, policy.horizon, cases=len(steps))
    note = f"{iterations} x (network and {solver.al_iterations} AL iterations)"
    candidate = Candidate("ours", lambda number: policy.step(*steps[number % len(steps)]), note=note)
    return compare(work, [candidate], Effort(rounds=len(steps)))
