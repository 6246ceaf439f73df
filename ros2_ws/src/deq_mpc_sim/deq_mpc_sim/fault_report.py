"""The fault table for people: as markdown, and its summary in a line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from deq_mpc_sim.fault_cases import FaultCase, Phase
from deq_mpc_sim.fault_table import FENCE, SOFT, Cell
from deq_mpc_sim.good_ends import Good
from deq_mpc_sim.whole_flight import REST

_SHORT = 5
"""Flight states of a path that are written out; a longer one goes to and fro."""


def summary(cells: Sequence[Cell]) -> str:
    """How many flights are good, and every one that is not."""
    bad = [f"{cell.fault}, {cell.phase}, seed {cell.seed}: {cell.bad}" for cell in cells if not cell.good]
    return "\n".join((f"{len(cells) - len(bad)} of {len(cells)} flights are good", *bad))


def markdown(cells: Sequence[Cell], cases: Sequence[FaultCase], command: str) -> str:
    """The whole document: how it was made, what came of every cell, and what was declared a good end.

    Args:
        cells: of the table.
        cases: their declarations.
        command: that made it.
    """
    low, high = (" ".join(f"{value:g}" for value in corner) for corner in FENCE)
    head = f"""# Faults in flight

Made by `{command}`: every fault in the middle of every phase of a flight, in simulation and in lockstep, with the
controller's own pilot, state machine, safety, command filter and shipped policy, its link's timing and bytes, against a
virtual Crazyflie on a floor. cflib, sockets and ROS are not in it. The same command gives the same table. No real
vehicle has flown any of this.

{_count(cells)}

- *time*: from the onset until the controller, or the vehicle's own supervisor, did something about it; where nothing
  had to be done, until it was said. Without a time there was nothing to say.
- *said*: what /diagnostics says; of a controller that cannot speak, what the vehicle shows.
- *end*: on the ground; inside the fence, {low} to {high} m; motors off, for {REST:g} s and more.
- *touch-down*: up to {SOFT:g} m/s it is a landing. One without a fault drops its last 4 cm.
- *LAND blind*: without a position, or without a policy that answers: level, sinking.
- Left out is what nobody can hold: a steady wind above 0.15 N, say, against which the largest tilt is too small,
  carries the vehicle out of any fence.

| fault | phase | flight states | said | time [s] | end | touch-down [m/s] | good |
|---|---|---|---|---|---|---|---|
"""
    tail = """
## What is a good end

Declared in `deq_mpc_sim/fault_cases.py`, with the limits of `config/controller.yaml` and of the firmware. *Completed*
is ready for the next flight, *landed* is down with turning motors, *fell* is not. A row without a phase holds for all
phases that have none of their own.

| fault | good end | said | within [s] | why |
|---|---|---|---|---|
"""
    rows = [_row(list(same)) for _, same in groupby(cells, key=lambda cell: (cell.fault, cell.phase))]
    return "".join((head, *rows, tail, *(row for case in cases for row in _case_rows(case))))


def _count(cells: Sequence[Cell]) -> str:
    """How many flights with which seeds, and what the table shows of several."""
    seeds = sorted({cell.seed for cell in cells})
    good = f"{sum(cell.good for cell in cells)} of {len(cells)} flights are good."
    if len(seeds) == 1:
        return good
    return f"""{good} Every cell was flown with the seeds {", ".join(map(str, seeds))}: other scenes, vehicles, gusts
and noise. States and words are those of the first, time and touch-down the worst; a cell is good if all of them are."""


def _row(same: Sequence[Cell]) -> str:
    """The row of one fault in one phase, flown with several seeds."""
    first = same[0]
    times = [cell.time_to_reaction for cell in same if cell.time_to_reaction is not None]
    facts = (
        (all(cell.grounded for cell in same), "ground"),
        (all(cell.inside for cell in same), "inside"),
        (all(cell.motors_off for cell in same), "off"),
    )
    bad = [f"{cell.bad} (seed {cell.seed})" for cell in same if not cell.good]
    entries = (
        first.fault,
        first.phase,
        _path(first.path),
        first.reason,
        f"{max(times):.2f}" if times else "",
        ", ".join(name if holds else f"**not {name}**" for holds, name in facts),
        f"{max(cell.impact for cell in same):.1f}",
        f"**no**: {'; '.join(bad)}" if bad else "yes",
    )
    return "| " + " | ".join(entries) + " |\n"


def _path(states: Sequence[str]) -> str:
    if len(states) <= _SHORT:
        return " → ".join(states)
    return " → ".join((*states[:3], "…", states[-1]))


def _case_rows(case: FaultCase) -> list[str]:
    goods: list[tuple[str, Good]] = [(case.name, case.good)]
    goods += [(f"{case.name} ({phase.value})", case.exceptions[phase]) for phase in Phase if phase in case.exceptions]
    return [_good_row(name, good) for name, good in goods]


def _good_row(name: str, good: Good) -> str:
    outcomes = " or ".join(sorted(outcome.value for outcome in good.outcomes))
    outcomes += ", clear of obstacles and inside the fence all the way" if good.clear else ""
    outcomes += ", locked" if good.locked else ""
    said, within = " or ".join(sorted(good.reasons)), f"{good.within:.2f}" if good.reasons else ""
    return f"| {name} | {outcomes} | {said} | {within} | {good.why} |\n"
