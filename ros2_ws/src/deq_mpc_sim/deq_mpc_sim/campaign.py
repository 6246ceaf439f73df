"""Many flights in lockstep on all cores. The results do not depend on the number of workers, nor on who flew what."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import FrameType
from typing import TypeVar

from deq_mpc_controller.settings import controller_config, unfiltered_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.policy.interface import Policy
from deq_mpc_sim.bag_writer import FlightBagWriter
from deq_mpc_sim.episode import Conditions, Episode, fly_episode
from deq_mpc_sim.exploration import ExplorationNoise
from deq_mpc_sim.scenes import DEFAULT_SPEED, Scene, make_scene

Item = TypeVar("Item")
Result = TypeVar("Result")

SEED_LIMIT = 2**32
"""Seeds that users give are smaller; what is larger are other domains."""
TRAINING_DOMAIN = 0x7EA10000 * SEED_LIMIT
"""Added to the seed of flights to learn from, so that their scenes and disturbances are never those of an evaluation.

``numpy.random.SeedSequence`` hashes 32-bit words: (seed, index, ...) in evaluations, (seed, 0x7EA10000, index, ...) in
training. They differ in the second word as long as an evaluation has at most ``EPISODE_LIMIT`` scenes.
"""
EPISODE_LIMIT = 1_000_000
"""Most scenes of one campaign."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_GRACE = 2.0


@dataclass(frozen=True)
class SceneArguments:
    """What kind of scene; see ``scenes.make_scene``."""

    kind: str
    motion: str
    radius: float
    speed: float = DEFAULT_SPEED

    def name(self, seed: int, index: int) -> str:
        """Short and different for every scene of these arguments."""
        return f"{self.kind}-{self.motion}-{seed % SEED_LIMIT}-{index:05d}"

    def scene(self, seed: int, index: int) -> Scene:
        """The ``index``-th scene of ``seed``."""
        return make_scene(self.kind, self.motion, self.radius, seed, index, self.speed)


@dataclass(frozen=True)
class Flight:
    """One flight of a campaign.

    Attributes:
        policy: name or path, see ``load_policy``.
        scene: what kind of scene.
        seed, index: which one; they also decide the disturbances.
        bag: where to record it, None for nowhere.
        noise: on the commands.
        filtered: whether the controller's last-resort filter may change commands; not where the policy is learnt from.
        conditions: vehicle and disturbances.
    """

    policy: str
    scene: SceneArguments
    seed: int
    index: int
    bag: Path | None = None
    noise: ExplorationNoise | None = None
    filtered: bool = True
    conditions: Conditions = field(default_factory=Conditions)


@cache
def cached_policy(name: str) -> Policy:
    """The policy, loaded once in each process."""
    from deq_mpc_core.policy import load_policy

    return load_policy(name)


def fly(flight: Flight) -> Episode:
    """Fly one flight, here and now."""
    policy = cached_policy(flight.policy)
    scene, seed = flight.scene.scene(flight.seed, flight.index), (flight.seed, flight.index)
    config = controller_config() if flight.filtered else unfiltered_config()
    if flight.bag is None:
        return fly_episode(policy, scene, seed, None, flight.noise, config, flight.conditions)
    with FlightBagWriter(flight.bag) as writer:
        return fly_episode(policy, scene, seed, writer, flight.noise, config, flight.conditions)


def fly_all(
    flights: Sequence[Flight],
    workers: int | None = None,
    on_done: Callable[[Flight, Episode], None] = lambda flight, episode: None,
) -> list[Episode]:
    """Fly all flights; see ``run_all``."""
    return run_all(fly, flights, workers, on_done)


def run_all(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None = None,
    on_done: Callable[[Item, Result], None] = lambda item, result: None,
) -> list[Result]:
    """Do the work on all items, in any order, and give the results in the given one.

    Args:
        work: a function of a module, the same in every process.
        items: what to do it on.
        workers: processes; 1 works in this one, None takes one per core.
        on_done: is told of every item as it is done.

    Raises:
        UserError: as ``work`` does, or if a worker dies.
    """
    wanted = check_workers(workers)
    if min(wanted, len(items)) > 1:
        return _run_in_pool(work, items, min(wanted, len(items)), on_done)
    results = []
    for item in items:
        results.append(work(item))
        on_done(item, results[-1])
    return results


def check_workers(workers: int | None) -> int:
    """How many processes are wanted; None is one per core.

    Raises:
        UserError: if that is none.
    """
    wanted = usable_cores() if workers is None else workers
    if wanted < 1:
        raise UserError(f"{wanted} workers cannot work; choose at least 1")
    return wanted


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_in_pool(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, on_done: Callable[[Item, Result], None]
) -> list[Result]:
    results: dict[int, Result] = {}
    with (
        _one_thread_per_child(),
        ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker) as pool,
    ):
        numbers = {pool.submit(work, item): number for number, item in enumerate(items)}
        try:
            for future in as_completed(numbers):
                number = numbers[future]
                results[number] = future.result()
                on_done(items[number], results[number])
        except BrokenProcessPool as error:
            raise UserError("a worker died, perhaps for want of memory; try fewer --workers") from error
        finally:
            pool.shutdown(cancel_futures=True)
    return [results[number] for number in range(len(items))]


@contextmanager
def _one_thread_per_child() -> Iterator[None]:
    """Children started meanwhile compute on one thread: the flights are what runs in parallel."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start_worker() -> None:
    """End on an interrupt, and when the parent is gone."""
    signal.signal(signal.SIGINT, _leave)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _leave(signum: int, _: FrameType | None) -> None:
    """Leave quietly: the blocks under way clean up, for at most ``_GRACE`` seconds."""
    status = 128 + signum
    timer = threading.Timer(_GRACE, os._exit, [status])
    timer.daemon = True
    timer.start()
    sys.exit(status)


def _follow_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
