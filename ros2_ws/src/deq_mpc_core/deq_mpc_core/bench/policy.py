"""How long a control step takes: the paper's tasks cold and warm, the shipped Crazyflie policy among obstacles."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.bench import flight_policy
from deq_mpc_core.bench.row import BenchOptions, Row, Work
from deq_mpc_core.bench.timing import Candidate, Effort, compare
from deq_mpc_core.bench.torch_threads import torch_threads
from deq_mpc_core.bench.trained import TASKS, Trained, train_briefly
from deq_mpc_core.policy.deq_mpc import JointState
from deq_mpc_core.policy.regulation import RegulationPolicy

Array = NDArray[np.float64]

_CASES = 20
"""Different starts that the rounds take in turn."""


def suite(options: BenchOptions) -> Iterator[Row]:
    """Batch 1, one thread."""
    effort = Effort(rounds=20, seconds=2.0) if options.quick else Effort()
    with torch_threads(1):
        for name in TASKS[: 1 if options.quick else None]:
            yield from _regulation(train_briefly(name, quick=options.quick), effort)
        yield from flight_policy.suite(options)


def _regulation(trained: Trained, effort: Effort) -> Iterator[Row]:
    name, task = trained.task.model.name, trained.task
    states = trained.batch(_CASES, seed=1)[:, 0].numpy()
    ours = RegulationPolicy(task, *trained.by("compiled"))
    policies = {"ours": ours, "torch network, our solver": RegulationPolicy(task, *trained.by("torch"))}
    cold = Work(f"DEQ-MPC-DEQ {name}, hidden {trained.file.network.hidden}, cold", 1, task.horizon, cases=_CASES)
    warm = Work(f"DEQ-MPC-DEQ {name}, hidden {trained.file.network.hidden}, warm", 1, task.horizon, cases=_CASES)
    yield from compare(cold, [_candidate(*item, states, None, trained) for item in policies.items()], effort)
    starts = [ours.step(x, None) for x in states]
    followed = np.stack([last.tau[0, 1, : task.model.nx].numpy() for _, _, last in starts])
    joint = [state for _, state, _ in starts]
    yield from compare(warm, [_candidate(*item, followed, joint, trained) for item in policies.items()], effort)


def _candidate(
    engine: str, policy: RegulationPolicy, states: Array, joint: list[JointState] | None, trained: Trained
) -> Candidate:
    """Steps from ``states`` (N, nx), cold or from the ``joint`` states."""

    def run(number: int) -> object:
        case = number % len(states)
        return policy.step(states[case], None if joint is None else joint[case])

    steps = [policy.step(x, None if joint is None else joint[i])[2].network_steps.item() for i, x in enumerate(states)]
    note = f"after {trained.steps} steps of training; {np.mean(steps):.1f} Anderson steps in the last iteration"
    return Candidate(engine, run, note=note)
