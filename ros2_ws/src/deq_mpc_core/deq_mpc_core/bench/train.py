"""What a training step takes, and where: network, its fixed point, solver and adjoint, forwards and backwards.

Two steps are timed: one of a cold control step alone, and the shipped one, which goes on with warm-started control
steps (``stream_steps`` in ``config/regulation.yaml``).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from deq_mpc_core.bench.row import BenchOptions, Row, Work
from deq_mpc_core.bench.timing import Candidate, Effort, compare
from deq_mpc_core.bench.torch_threads import torch_threads
from deq_mpc_core.bench.trained import TASKS, Trained, train_briefly
from deq_mpc_core.learning.losses import descend
from deq_mpc_core.learning.regulation import ImitationTrainer
from deq_mpc_core.networks.cores import BlockEngine, Equilibrium
from deq_mpc_core.networks.fixed_point import FixedPoint
from deq_mpc_core.networks.refiner import Context, Refinement
from deq_mpc_core.networks.state_network import StateNetwork
from deq_mpc_core.policy.regulation import RegulationTask, States
from deq_mpc_core.solver import CpuEngine, Data, Gradients, Solution, SolverOptions, SolverState
from deq_mpc_core.solver.engine import Engine
from deq_mpc_core.tasks import Task
from deq_mpc_core.threads import available_threads

Array = NDArray[np.float64]

_BATCHES = 4
"""Different batches that the rounds take in turn."""
_PROFILED = 10
_QUICK_PROFILED = 3


def suite(options: BenchOptions) -> Iterator[Row]:
    """Batch 200, all cores: N = 6 iterations cold, then the warm ones; losses on all, backwards, clipped, Adam."""
    effort = Effort(rounds=4, seconds=5.0, least=4) if options.quick else Effort(rounds=32)
    threads = available_threads()
    with torch_threads(threads):
        for name in TASKS[: 1 if options.quick else None]:
            trained = train_briefly(name, quick=options.quick)
            for stream_steps in (0, trained.file.train.stream_steps):
                yield from _steps(trained, stream_steps, threads, effort)
            yield from _profile(trained, threads, _QUICK_PROFILED if options.quick else _PROFILED)


def _trainer(
    trained: Trained, engine: Literal["compiled", "torch"], stream_steps: int, solver: Engine | None = None
) -> ImitationTrainer:
    network, config = trained.by(engine)
    train = trained.file.train.model_copy(update={"stream_steps": stream_steps})
    return ImitationTrainer(trained.task, network, config, train, solver)


def _steps(trained: Trained, stream_steps: int, threads: int, effort: Effort) -> Iterator[Row]:
    size = trained.file.train.batch
    batches = [trained.batch(size, seed) for seed in range(_BATCHES)]
    trainers = {
        "ours": _trainer(trained, "compiled", stream_steps),
        "torch network, our solver": _trainer(trained, "torch", stream_steps),
    }
    candidates = []
    for label, trainer in trainers.items():
        used = trainer.train_step(batches[0])["anderson_steps"]
        note = f"after {trained.steps} steps of training; {used:.1f} Anderson steps an iteration"
        candidates.append(Candidate(label, partial(_step, trainer, batches), threads, note))
    part = f"cold control step and {stream_steps} streaming, as shipped" if stream_steps else "cold control step alone"
    yield from compare(_work(trained, part), candidates, effort)


def _step(trainer: ImitationTrainer, batches: list[Tensor], number: int) -> object:
    return trainer.train_step(batches[number % len(batches)])


def _work(trained: Trained, part: str) -> Work:
    name = f"training step, DEQ-MPC-DEQ {trained.task.model.name}, hidden {trained.file.network.hidden}, {part}"
    return Work(name, trained.file.train.batch, trained.task.horizon, cases=_BATCHES)


@dataclass
class Watch:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time spent within."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - begin


class _WatchedSolver:
    """An `Engine` that is timed."""

    def __init__(self, engine: Engine, watch: Watch) -> None:
        self.model, self._engine, self._watch = engine.model, engine, watch

    def solve(self, data: Data, state: SolverState, options: SolverOptions) -> Solution:
        with self._watch.stage("solver"):
            return self._engine.solve(data, state, options)

    def adjoint(
        self, data: Data, solution: Solution, tau_bar: Array, *, exact: bool = True
    ) -> tuple[Gradients, NDArray[np.int64]]:
        with self._watch.stage("adjoint"):
            return self._engine.adjoint(data, solution, tau_bar, exact=exact)


class _WatchedBlock:
    """A `BlockEngine` whose fixed points are timed."""

    def __init__(self, engine: BlockEngine, watch: Watch) -> None:
        self._engine, self._watch = engine, watch

    def weights_held(self, block: nn.Module) -> AbstractContextManager[None]:
        return self._engine.weights_held(block)

    def solve(self, block: nn.Module, injection: Tensor, start: Tensor) -> FixedPoint:
        with self._watch.stage("fixed point"):
            return self._engine.solve(block, injection, start)

    def apply(self, block: nn.Module, z: Tensor, injection: Tensor) -> Tensor:
        return self._engine.apply(block, z, injection)

    def solve_last(self, block: nn.Module, injection: Tensor, start: Tensor) -> tuple[Tensor, FixedPoint]:
        with self._watch.stage("fixed point"):
            return self._engine.solve_last(block, injection, start)


class _WatchedTask(RegulationTask):
    """A task whose network is timed, its fixed point included."""

    def __init__(self, task: Task, network: StateNetwork, watch: Watch) -> None:
        super().__init__(task, network)
        self._watch = watch

    def encode(self, scene: States) -> Context:
        with self._watch.stage("network"):
            return super().encode(scene)

    def propose(self, scene: States, context: Context, states: Tensor, z: Tensor) -> Refinement:
        with self._watch.stage("network"):
            return super().propose(scene, context, states, z)


class ProfiledTrainer:
    """A trainer, of cold control steps alone, whose parts report to a watch."""

    def __init__(self, trained: Trained) -> None:
        self._watch = watch = Watch()
        self._trainer = _trainer(trained, "compiled", 0, _WatchedSolver(CpuEngine(trained.task.model), watch))
        network, optimizer = self._trainer.network, self._trainer.optimizer
        self._trainer.model.task = _WatchedTask(trained.task, network, watch)
        if isinstance(network.core, Equilibrium):
            network.core.engine = _WatchedBlock(network.core.engine, watch)
        self._stack = ExitStack()
        optimizer.register_step_pre_hook(lambda *_: self._stack.enter_context(watch.stage("optimiser")))
        optimizer.register_step_post_hook(lambda *_: self._stack.close())

    def step(self, samples: Tensor) -> dict[str, float]:
        """Milliseconds of one training step by stage; clipping and the losses' gradients count as network backward."""
        trainer, watch = self._trainer, self._watch
        watch.seconds.clear()
        with watch.stage("forward"):
            loss, _ = trainer.loss(samples)
        with watch.stage("descent"):
            descend(loss, trainer.optimizer, list(trainer.network.parameters()), trainer.config.clip)
        s = watch.seconds
        values = {
            "fixed point": s["fixed point"],
            "network forward": s["network"] - s["fixed point"],
            "solver": s["solver"],
            "adjoint": s["adjoint"],
            "network backward": s["descent"] - s["adjoint"] - s["optimiser"],
            "optimiser": s["optimiser"],
            "losses and data": s["forward"] - s["network"] - s["solver"],
        }
        return {stage: 1e3 * value for stage, value in values.items()}


def _profile(trained: Trained, threads: int, count: int) -> Iterator[Row]:
    profiled, size = ProfiledTrainer(trained), trained.file.train.batch
    profiles = [profiled.step(trained.batch(size, seed)) for seed in range(count + 1)][1:]
    work = _work(trained, "cold control step alone, by stage")
    whole = np.array([sum(profile.values()) for profile in profiles])
    baseline = float(np.median(whole))
    yield work.row("ours: all", threads, whole, baseline, "the ratios of the stages are their shares")
    for stage in profiles[0]:
        yield work.row(f"ours: {stage}", threads, np.array([profile[stage] for profile in profiles]), baseline)
