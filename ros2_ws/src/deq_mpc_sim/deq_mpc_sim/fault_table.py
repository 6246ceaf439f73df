"""The table of every fault in every phase of a flight: what it led to, how soon, and whether that is good."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import NamedTuple

import numpy as np

from deq_mpc_controller.flight import IN_FLIGHT, Mode, Source
from deq_mpc_controller.safety import Action, Reason, beyond_fence
from deq_mpc_controller.settings import controller_config
from deq_mpc_core.errors import UserError
from deq_mpc_sim.campaign import SceneArguments, cached_policy, run_all
from deq_mpc_sim.fault_cases import MOTORS_STOP, SELF_LOCKED, FaultCase, Phase, all_cases
from deq_mpc_sim.good_ends import Good, Outcome
from deq_mpc_sim.mishaps import NOTHING, Mishap
from deq_mpc_sim.scenes import Scene
from deq_mpc_sim.whole_flight import REST, FlightLog, Moment, WholeFlight

logging.getLogger("deq_mpc_controller").addHandler(logging.NullHandler())  # what it logs of a fault is in the cell

SCENE = SceneArguments("clutter", "moving", 0.1)
POLICY, HOVER_POLICY = "default", "straight-line"
SOFT = 1.5
"""Fastest touch-down of a landing [m/s]: the drop from 0.1 m, twice what the shipped landing ends with."""
FENCE = (controller_config().safety.fence_low, controller_config().safety.fence_high)
"""Inside which everything has to end; the floor is no fence [m]."""
_FLOOR = 1e-3  # m


@dataclass(frozen=True)
class Onset:
    """A fault in a phase, from ``t`` [s] on, in flights of a ``seed``."""

    name: str
    phase: Phase
    t: float
    seed: int


@dataclass(frozen=True)
class Cell:
    """What came of it.

    Attributes:
        fault, phase, seed: what, when, and in which flight.
        onset: when it set in [s].
        path: flight states from then on.
        reason: what was said of it, or "".
        time_to_reaction: from the onset until it was said [s]; None: never.
        failure: what the flight state machine gives as the flight's failure in the end, or "".
        outcome: how it ended.
        impact: touch-down [m/s].
        clearance: smallest from an obstacle while it flew to the goal [m]; None: it did not.
        beyond: largest distance outside the fence [m]; negative: inside.
        grounded, inside, motors_off: whether it ended on the ground, inside the fence, motors off for a while.
        bad: what is not good, or "".
        why: that the declared end is a good one.
    """

    fault: str
    phase: str
    seed: int
    onset: float
    path: tuple[str, ...]
    reason: str
    time_to_reaction: float | None
    failure: str
    outcome: str
    impact: float
    clearance: float | None
    beyond: float
    grounded: bool
    inside: bool
    motors_off: bool
    bad: str
    why: str

    @property
    def good(self) -> bool:
        """Whether everything is as declared."""
        return not self.bad


def chosen_cases(only: str | None) -> tuple[FaultCase, ...]:
    """The faults whose name contains ``only``; all, if it is None.

    Raises:
        UserError: if there is none.
    """
    cases = tuple(case for case in all_cases() if only is None or only in case.name)
    if not cases:
        raise UserError(f"no fault's name contains {only!r}; there are: {', '.join(case.name for case in all_cases())}")
    return cases


def fly_table(
    cases: Sequence[FaultCase],
    phases: Sequence[Phase],
    seeds: Sequence[int] = (0,),
    workers: int | None = None,
    on_done: Callable[[Cell], None] = lambda cell: None,
) -> list[Cell]:
    """Fly every case in every phase with every seed; ``workers`` and ``on_done`` as in ``campaign.run_all``."""
    onsets = {seed: phase_middles(_fly(seed, NOTHING), scene_of(seed)) for seed in seeds}
    cells = [Onset(case.name, phase, onsets[seed][phase], seed) for case in cases for phase in phases for seed in seeds]
    return run_all(fly_cell, cells, workers, lambda _, cell: on_done(cell))


def fly_cell(onset: Onset) -> Cell:
    """Fly one cell and judge it."""
    case = next(case for case in all_cases() if case.name == onset.name)
    return judge(_fly(onset.seed, case.mishap(onset.t)), onset, case.good_in(onset.phase))


@cache
def scene_of(seed: int) -> Scene:
    """The scene that all flights of a seed go through."""
    return SCENE.scene(seed, 0)


def _fly(seed: int, mishap: Mishap) -> FlightLog:
    policies = cached_policy(POLICY), cached_policy(HOVER_POLICY)
    return WholeFlight(*policies, scene_of(seed), seed, mishap).fly()


def phase_middles(log: FlightLog, scene: Scene) -> dict[Phase, float]:
    """When half of the climb, of the way to the goal and of the descent were done in a flight without faults [s]."""
    top = next(pos[2] for _, mode, pos in log.track if mode is Mode.LAND)
    way = float(np.linalg.norm(scene.goal - scene.start))

    def first(wanted: Mode, reached: Callable[[np.ndarray], bool]) -> float:
        return next(t for t, mode, pos in log.track if mode is wanted and reached(pos))

    return {
        Phase.TAKEOFF: first(Mode.TAKEOFF, lambda pos: pos[2] > 0.5 * scene.start[2]),
        Phase.FLY: first(Mode.FLY, lambda pos: float(np.linalg.norm(scene.goal - pos)) < 0.5 * way),
        Phase.LAND: first(Mode.LAND, lambda pos: pos[2] < 0.5 * top),
    }


def judge(log: FlightLog, onset: Onset, good: Good) -> Cell:
    """The cell of a flight."""
    assert log.end is not None
    said = list(_said(log, onset.t))
    wanted = [word for word in said if any(reason in word.text for reason in good.reasons)]
    heard = wanted or [word for word in said if word.text != MOTORS_STOP]
    reaction = min(heard, key=lambda word: (not word.acts, word.t), default=None)
    outcome = _outcome(log)
    grounded = float(log.end.pos[2]) < _FLOOR
    inside = beyond_fence(log.end.pos, controller_config().safety) <= 0.0
    motors_off = log.landed_since is not None and log.end.t - log.landed_since >= REST - _FLOOR
    waited = inf if reaction is None else reaction.t - onset.t
    problems = (
        (log.died_at is not None, f"the controller died: {log.death}"),
        (not grounded, "not on the ground"),
        (not inside, "outside the fence"),
        (not motors_off, "the motors turn"),
        (outcome not in good.outcomes, f"{outcome.value}, not {' or '.join(sorted(o.value for o in good.outcomes))}"),
        (bool(good.reasons) and not wanted, f"nobody says {' or '.join(sorted(good.reasons))!r}"),
        (good.clear and log.clearance < 0.0, f"{-log.clearance:.2f} m inside an obstacle"),
        (good.clear and log.beyond > 0.0, f"{log.beyond:.2f} m outside the fence on the way"),
        (good.locked and log.locked_at is None, "the vehicle is not locked"),
        (bool(wanted) and waited > good.within, f"said after {waited:.2f} s, not {good.within:.2f} s"),
    )
    return Cell(
        fault=onset.name,
        phase=onset.phase.value,
        seed=onset.seed,
        onset=round(onset.t, 3),
        path=_path(log, onset.t),
        reason="" if reaction is None else reaction.text,
        time_to_reaction=None if reaction is None else round(waited, 3),
        failure=log.moments[-1].failure,
        outcome=outcome.value,
        impact=round(log.impact, 2),
        clearance=None if log.clearance == inf else round(log.clearance, 3),
        beyond=round(log.beyond, 3),
        grounded=grounded,
        inside=inside,
        motors_off=motors_off,
        bad="; ".join(text for wrong, text in problems if wrong),
        why=good.why,
    )


class _Word(NamedTuple):
    """What was said at a time [s]; ``acts``: something was done about it."""

    t: float
    text: str
    acts: bool


def _said(log: FlightLog, since: float) -> Iterator[_Word]:
    """What was said of a fault from ``since`` [s] on; what is said of every flight is left out."""
    usual = {"", Reason.NOMINAL.value}
    for moment in log.moments:
        if moment.t < since:
            continue
        if moment.text not in usual:
            yield _Word(moment.t, moment.text, moment.verdict.action >= Action.LAND)
        if moment.failure:
            yield _Word(moment.t, moment.failure, acts=True)
    for t, text in ((log.locked_at, SELF_LOCKED), (log.died_at, log.death), (log.stopped_at, MOTORS_STOP)):
        if t is not None and t >= since:
            yield _Word(t, text, acts=True)
    if log.answer is not None:
        yield _Word(*log.answer, acts=False)


def _outcome(log: FlightLog) -> Outcome:
    if log.impact > SOFT:
        return Outcome.FELL
    last = log.moments[-1]
    return Outcome.COMPLETED if last.mode in (Mode.IDLE, Mode.READY) and not last.failure else Outcome.LANDED


def _path(log: FlightLog, since: float) -> tuple[str, ...]:
    """The flight states from ``since`` [s] on, to the first on the ground."""
    before = [moment for moment in log.moments if moment.t < since]
    after = [moment for moment in log.moments if moment.t >= since]
    landed = next((k for k, moment in enumerate(after) if moment.mode not in IN_FLIGHT), len(after))
    states = [_state(moment) for moment in before[-1:] + after[: landed + 1]]
    return tuple(state for state, last in zip(states, [None, *states], strict=False) if state != last)


def _state(moment: Moment) -> str:
    return f"{moment.mode.value} blind" if moment.source is Source.DESCEND else moment.mode.value
