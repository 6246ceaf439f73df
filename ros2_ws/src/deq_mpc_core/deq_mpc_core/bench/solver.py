"""The suite ``solver``: this project's engines and their peers on the same problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deq_mpc_core.bench.optima import Mask, independent_optima, reached, verdict
from deq_mpc_core.bench.peers import UNUSABLE, Peer
from deq_mpc_core.bench.peers.mpc_pytorch import MpcPytorchPeer
from deq_mpc_core.bench.problems import random_problems, take
from deq_mpc_core.bench.row import BenchOptions, Row, Work
from deq_mpc_core.bench.scenes import corridor, quadrotors
from deq_mpc_core.bench.timing import Candidate, Effort, compare, measure
from deq_mpc_core.bench.torch_threads import torch_threads
from deq_mpc_core.models import MODELS, Model
from deq_mpc_core.solver import CpuEngine, Data, Engine, SolverOptions, cold_state
from deq_mpc_core.solver.torch_engine import TorchEngine

Array = NDArray[np.float64]

PAPER = SolverOptions(al_iterations=12, newton_steps=4, tolerance=0.0)
"""The paper's cold solve: twelve multiplier iterations whatever the residuals, each of at most four Newton steps."""
CONVERGED = SolverOptions(
    al_iterations=60, newton_steps=5, penalty_init=3e4, penalty_growth=10.0, penalty_max=1e5, tolerance=1e-4
)
"""Until the scaled residuals are below the peers' tolerance; the note says whether the objective is right too."""
TIMED_SEED = 1
"""Of the corridors that are timed. The options of `CONVERGED`, as acados', were chosen on those of seed 0."""
FIXED = SolverOptions(al_iterations=2, newton_steps=2, tolerance=0.0, newton_tolerance=0.0)
"""The same amount of work for every problem."""
PEER_TOLERANCE = 1e-4
_TUNING = "options chosen on other scenes (seed 0)"
_SCENES = 16
_LARGEST_ON_TORCH_CPU = 4096
_DISTINCT = 64
"""Larger batches repeat this many problems."""


def suite(options: BenchOptions) -> Iterator[Row]:
    """All works of the solver."""
    yield from cold_quadrotors(options)
    yield from converged_crazyflies(options)
    yield from horizons(options)
    yield from batches(options)
    yield from devices(options)


def _solving(engine: Engine, problems: Sequence[Data], options: SolverOptions) -> Callable[[int], Any]:
    """Solves the round's problem from the cold start, which is made beforehand."""
    starts = [cold_state(data, options.penalty_init) for data in problems]
    return lambda number: engine.solve(problems[number % len(problems)], starts[number % len(problems)], options)


def _effort(options: BenchOptions) -> Effort:
    return Effort(rounds=20, seconds=2.0, least=2) if options.quick else Effort()


# The paper's quadrotor ------------------------------------------------------------------------------------------------


def cold_quadrotors(options: BenchOptions) -> Iterator[Row]:
    """The paper's quadrotor, T = 5, beside mpc.pytorch; alone on one thread, and in a batch of its size on two."""
    model = MODELS["quadrotor"]()
    for batch, threads in ((1, 1), (200, 2)):
        work = Work("quadrotor, 12 AL iterations of <= 4 Newton steps, cold", batch, 5)
        data = quadrotors(batch)
        engine, optima = CpuEngine(model, threads=threads), independent_optima(model, data)
        plans = engine.solve(data, cold_state(data, PAPER.penalty_init), PAPER).state.tau
        right = reached(model, data, plans, optima)
        solving = _solving(engine, [data], PAPER)
        candidates = [Candidate("deq-mpc CPU", solving, threads, verdict(right), reached=_all(right))]
        missing: list[Row] = []
        with torch_threads(threads):
            try:
                peer = MpcPytorchPeer(model, data, steps=PAPER.al_iterations * PAPER.newton_steps)
                right = reached(model, data, peer.solve_batch(), optima)
                note, run = f"{verdict(right)}; {peer.note}", partial(_whole_batch, peer)
                candidates.append(Candidate(peer.engine, run, threads, note, reached=_all(right)))
            except UNUSABLE as error:
                missing.append(work.missing(MpcPytorchPeer.engine, threads, str(error)))
            yield from compare(work, candidates, _effort(options))
        yield from missing


def _whole_batch(peer: MpcPytorchPeer, _: int) -> Array:
    return peer.solve_batch()


def _all(right: Mask | None) -> Mask | None:
    """Of a batch that is one case: (1,) whether every sample is right."""
    return None if right is None else np.array([right.all()])


# Converged beside interior-point and SQP solvers ----------------------------------------------------------------------


def converged_crazyflies(options: BenchOptions) -> Iterator[Row]:
    """A Crazyflie that leans on four obstacles, T = 10, cold, batch 1: a scene a round, the same for all."""
    model, data = MODELS["crazyflie"](), corridor(_SCENES, seed=TIMED_SEED)
    scenes = [take(data, [b]) for b in range(len(data.radii))]
    work = Work("Crazyflie at 4 active obstacles, converged, cold", 1, data.x_ref.shape[1], cases=len(scenes))
    engine, optima = CpuEngine(model, threads=1), independent_optima(model, data)
    plans = engine.solve(data, cold_state(data, CONVERGED.penalty_init), CONVERGED).state.tau
    right = reached(model, data, plans, optima)
    solving, note = _solving(engine, scenes, CONVERGED), f"{verdict(right)}; {_TUNING}"
    candidates = [Candidate("deq-mpc CPU", solving, note=note, reached=right)]
    missing: list[Row] = []
    starts = cold_state(data, 1.0).tau
    for name, make in _peers(model, data, starts, compiled=not options.quick).items():
        try:
            peer = make()
        except UNUSABLE as error:
            missing.append(work.missing(name, 1, str(error)))
            continue
        found = np.stack([peer.solve(b).tau for b in range(len(scenes))])
        candidates.append(_peer_candidate(peer, len(scenes), reached(model, data, found, optima)))
    yield from compare(work, candidates, _effort(options))
    yield from missing


def _peers(model: Model, data: Data, starts: Array, *, compiled: bool) -> dict[str, Callable[[], Peer]]:
    """Makers of the peers by name; each imports what it needs."""

    def casadi(plugin: str, machine_code: bool) -> Peer:
        from deq_mpc_core.bench.peers.casadi_ocp import CasadiPeer

        return CasadiPeer(model, data, starts, plugin, PEER_TOLERANCE, compiled=machine_code)

    def acados() -> Peer:
        from deq_mpc_core.bench.peers.acados import AcadosPeer

        return AcadosPeer(model, data, starts, PEER_TOLERANCE)

    makers: dict[str, Callable[[], Peer]] = {}
    for plugin in ("ipopt", "fatrop"):
        makers[f"CasADi + {plugin}"] = partial(casadi, plugin, False)
        if compiled:
            makers[f"CasADi + {plugin}, compiled"] = partial(casadi, plugin, True)
    makers["acados SQP + HPIPM"] = acados
    return makers


def _peer_candidate(peer: Peer, scenes: int, right: Mask | None) -> Candidate:
    return Candidate(
        peer.engine,
        lambda _: peer.run(),
        note=f"{verdict(right)}; {peer.note}",
        prepare=lambda number: peer.prepare(number % scenes),
        reached=right,
    )


# Growth with the horizon and the batch --------------------------------------------------------------------------------


def horizons(options: BenchOptions) -> Iterator[Row]:
    """The same number of steps over longer and longer horizons, four obstacles, one thread."""
    knots = (5, 20, 80) if options.quick else (5, 10, 20, 50, 100, 200)
    yield from _growth("Crazyflie, cost against the horizon", [(8, t) for t in knots], options)


def batches(options: BenchOptions) -> Iterator[Row]:
    """The same number of steps in larger and larger batches, four obstacles, one thread."""
    sizes = (1, 64) if options.quick else (1, 4, 16, 64, 256, 1024, 4096)
    yield from _growth("Crazyflie, cost against the batch", [(b, 10) for b in sizes], options)


def _growth(name: str, sizes: Sequence[tuple[int, int]], options: BenchOptions) -> Iterator[Row]:
    """Rows of (batch, horizon), side by side, each with what a knot of a sample costs beside the last size's.

    All solve the same `_DISTINCT` problems, small batches by as many calls as it takes; a row has the time of one call.
    """
    engine = CpuEngine(MODELS["crazyflie"](), threads=1)
    calls = [_all_problems(batch, horizon) for batch, horizon in sizes]
    runs = [partial(_solve_all, [_solving(engine, [data], FIXED) for data in problems]) for problems in calls]
    together = measure([Candidate("deq-mpc CPU", run) for run in runs], _effort(options))
    times = [taken / len(problems) for taken, problems in zip(together, calls, strict=True)]
    costs = [
        1e3 * float(np.median(taken)) / (batch * horizon) for taken, (batch, horizon) in zip(times, sizes, strict=True)
    ]
    for taken, (batch, horizon), cost in zip(times, sizes, costs, strict=True):
        note = f"{cost:.3g} us a knot and sample, {cost / costs[-1]:.2f} of the last row's"
        yield Work(name, batch, horizon).row("deq-mpc CPU", 1, taken, float(np.median(taken)), note)


def _all_problems(batch: int, horizon: int) -> list[Data]:
    """`_DISTINCT` problems in batches, or one larger batch that repeats them."""
    if batch >= _DISTINCT:
        return [_repeated(batch, horizon)]
    problems = _repeated(_DISTINCT, horizon)
    return [take(problems, np.arange(first, first + batch)) for first in range(0, _DISTINCT, batch)]


def _solve_all(solves: Sequence[Callable[[int], Any]], number: int) -> None:
    for solve in solves:
        solve(number)


def _repeated(batch: int, horizon: int) -> Data:
    few = random_problems("crazyflie", min(batch, _DISTINCT), horizon, seed=0)
    return take(few, np.arange(batch) % _DISTINCT)


# The torch engine -----------------------------------------------------------------------------------------------------


def devices(options: BenchOptions) -> Iterator[Row]:
    """The torch engine beside the CPU engine, and on CUDA in larger batches."""
    from deq_mpc_core.bench.machine import gpu

    name, model, threads = "Crazyflie, 2 AL x 2 Newton", MODELS["crazyflie"](), torch.get_num_threads()
    device = gpu()
    sizes = (1, 64) if options.quick else (1, 16, 256, 4096, 65536)
    for batch in sizes:
        data = _repeated(batch, 10)
        work = Work(name, batch, 10)
        engines: list[tuple[str, Engine, int]] = [("deq-mpc CPU", CpuEngine(model, threads=threads), threads)]
        if batch <= _LARGEST_ON_TORCH_CPU:
            engines.append(("deq-mpc torch, CPU", TorchEngine(model), threads))
        if device:
            engines.append((f"deq-mpc torch, {device}", TorchEngine(model, device="cuda"), 1))
        candidates = [Candidate(label, _solving(engine, [data], FIXED), n) for label, engine, n in engines]
        yield from compare(work, candidates, _effort(options))
        if device is None:
            yield work.missing("deq-mpc torch, CUDA", 1, "no CUDA device")
