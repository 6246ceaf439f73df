"""The fault table for people: as markdown, and its summary in a line."""

from __future__ import annotations

from collections.abc import Sequence

from deq_mpc_sim.fault_cases import FaultCase, Phase
from deq_mpc_sim.fault_table import FENCE, SOFT, Cell
from deq_mpc_sim.good_ends import Good
from deq_mpc_sim.whole_flight import REST

_SHORT = 5
"""Flight states of a path that are written out; a longer one goes to and fro."""


def summary(cells: Sequence[Cell]) -> str:
    """How many are good, and every one that is not."""
    bad = [f"{cell.fault}, {cell.phase}: {cell.bad}" for cell in cells if not cell.good]
    return "\n".join((f"{len(cells) - len(bad)} of {len(cells)} cells are good", *bad))


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
controller's own pilot, state machine, safety, command filter, link and shipped policy, against a virtual Crazyflie on
a floor. The same command gives the same table. No real vehicle has flown any of this.

{summary(cells)}.

- *time*: from the onset until the controller, or the vehicle's own supervisor, did something about it; where nothing
  had to be done, until it was said. Without a time there was nothing to say.
- *said*: what /diagnostics says; of a controller that cannot speak, what the vehicle shows.
- *end*: on the ground; inside the fence, {low} to {high} m; motors off, for {REST:g} s and more.
- *touch-down*: the fastest; up to {SOFT:g} m/s it is a landing. One without a fault drops its last 4 cm.
- *LAND blind*: without a position, or without a controller that answers: level, sinking.

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
    return "".join((head, *map(_cell_row, cells), tail, *(row for case in cases for row in _case_rows(case))))


def _cell_row(cell: Cell) -> str:
    time = "" if cell.time_to_reaction is None else f"{cell.time_to_reaction:.2f}"
    facts = (cell.grounded, "ground"), (cell.inside, "inside"), (cell.motors_off, "off")
    end = ", ".join(name if holds else f"**not {name}**" for holds, name in facts)
    good = "yes" if cell.good else f"**no**: {cell.bad}"
    entries = (cell.fault, cell.phase, _path(cell.path), cell.reason, time, end, f"{cell.impact:.1f}", good)
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
    said, within = " or ".join(sorted(good.reasons)), f"{good.within:.2f}" if good.reasons else ""
    return f"| {name} | {outcomes} | {said} | {within} | {good.why} |\n"
