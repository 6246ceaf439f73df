"""Faults on demand: what goes wrong with a virtual Crazyflie and its link, when, and for how long.

Written as ``KIND[.DIRECTION][:VALUE]@[takeoff+]ONSET[/DURATION]``, times in s:

    mute@5              deaf and mute from 5 s after boot on
    loss.up:0.3@takeoff+2/1.5    30 % of the packets to the vehicle are lost, for 1.5 s from 2 s after take-off on

| kind | value | what happens |
|---|---|---|
| loss | probability | packets are lost |
| delay | s | packets arrive later |
| reorder | probability | packets are held back for 20 ms, so that later ones overtake them |
| mute | | no packet arrives; the vehicle lives on |
| refuse | | who is not connected yet gets no answer |
| reboot | | it is switched off and on, at the onset |
| locked | | the supervisor locks, at the onset |
| low-battery | V, at rest (3.3) | the cell is as good as empty, from the onset on |
| dead-motor | 1 to 4 (1) | a motor gives no thrust |
| weak | share (0.2) | all motors give that much less thrust: worn propellers, a wrong thrust map |
| worn | share (0.2) | one propeller does |
| knock | rad/s (60) | something hits it at the onset: a turn about a random horizontal axis |
| gust | N (0.05) | a steady push in a random horizontal direction |

Directions: ``up`` to the vehicle, ``down`` from it, or both. This module has no clock and draws no random numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from deq_mpc_core.errors import UserError


class FaultKind(Enum):
    """What goes wrong."""

    LOSS = "loss"
    DELAY = "delay"
    REORDER = "reorder"
    MUTE = "mute"
    REFUSE = "refuse"
    REBOOT = "reboot"
    LOCKED = "locked"
    LOW_BATTERY = "low-battery"
    DEAD_MOTOR = "dead-motor"
    WEAK = "weak"
    WORN = "worn"
    KNOCK = "knock"
    GUST = "gust"


class Direction(Enum):
    """Of packets: to the vehicle, from it."""

    UP = "up"
    DOWN = "down"


_LINK = frozenset((FaultKind.LOSS, FaultKind.DELAY, FaultKind.REORDER, FaultKind.MUTE))
_MOMENTARY = frozenset((FaultKind.REBOOT, FaultKind.LOCKED, FaultKind.KNOCK))
_DEFAULTS = {
    FaultKind.LOW_BATTERY: 3.3,
    FaultKind.DEAD_MOTOR: 1.0,
    FaultKind.WEAK: 0.2,
    FaultKind.WORN: 0.2,
    FaultKind.KNOCK: 60.0,
    FaultKind.GUST: 0.05,
}
_RANGES = {
    FaultKind.LOSS: (0.0, 1.0),
    FaultKind.DELAY: (0.0, 10.0),
    FaultKind.REORDER: (0.0, 1.0),
    FaultKind.LOW_BATTERY: (2.5, 4.2),
    FaultKind.DEAD_MOTOR: (1.0, 4.0),
    FaultKind.WEAK: (0.0, 1.0),
    FaultKind.WORN: (0.0, 1.0),
    FaultKind.KNOCK: (0.0, 200.0),
    FaultKind.GUST: (0.0, 1.0),
}
"""Of the values; the other kinds have none."""
_FORM = re.compile(
    r"(?P<kind>[a-z-]+)(\.(?P<direction>up|down))?(:(?P<value>[0-9.e-]+))?"
    r"@(?P<takeoff>takeoff\+)?(?P<onset>[0-9.]+)(/(?P<duration>[0-9.]+))?"
)


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: what goes wrong.
        onset: when [s], since boot or, if ``from_takeoff``, since take-off.
        duration: for how long [s].
        value: see the module.
        direction: of the packets; None: both.
        from_takeoff: what ``onset`` counts from.
    """

    kind: FaultKind
    onset: float = 0.0
    duration: float = math.inf
    value: float = 0.0
    direction: Direction | None = None
    from_takeoff: bool = False

    def active(self, t: float, takeoff: float | None) -> bool:
        """Whether it is there, ``t`` [s] after boot, having taken off at ``takeoff`` [s] if at all."""
        if self.from_takeoff and takeoff is None:
            return False
        begin = self.onset + (takeoff or 0.0 if self.from_takeoff else 0.0)
        return begin <= t < begin + self.duration

    def concerns(self, direction: Direction) -> bool:
        """Whether it is one of the packets in this direction."""
        return self.kind in _LINK and self.direction in (None, direction)


def parse_fault(text: str) -> Fault:
    """The fault that ``text`` writes, see the module.

    Raises:
        UserError: saying what is wrong with it.
    """
    match = _FORM.fullmatch(text)
    kinds = {kind.value: kind for kind in FaultKind}
    if match is None or match["kind"] not in kinds:
        known = ", ".join(kinds)
        raise UserError(f"{text!r} is no fault; write KIND[:VALUE]@[takeoff+]ONSET[/DURATION], KIND one of {known}")
    kind = kinds[match["kind"]]
    value = _value(text, kind, match["value"])
    if match["duration"] and kind in _MOMENTARY:
        raise UserError(f"{text!r}: {kind.value} happens at its onset alone; leave /{match['duration']} out")
    duration = _seconds(text, match["duration"]) if match["duration"] else math.inf
    if duration == 0.0:
        raise UserError(f"{text!r} lasts 0 s and so never happens; give a longer duration, or none")
    if match["direction"] and kind not in _LINK:
        raise UserError(f"{text!r}: a {kind.value} has no direction; leave .{match['direction']} out")
    return Fault(
        kind,
        _seconds(text, match["onset"]),
        duration,
        value,
        Direction(match["direction"]) if match["direction"] else None,
        match["takeoff"] is not None,
    )


def parse_faults(texts: Iterable[str]) -> tuple[Fault, ...]:
    """The faults that ``texts`` write."""
    return tuple(parse_fault(text) for text in texts)


def read_faults(text: str) -> tuple[Fault, ...]:
    """The faults that one text writes, separated by blanks."""
    return parse_faults(text.split())


def worst(faults: Sequence[Fault], kind: FaultKind) -> float:
    """The largest value of the faults of one kind; 0 if there are none."""
    return max((fault.value for fault in faults if fault.kind is kind), default=0.0)


def _value(text: str, kind: FaultKind, written: str | None) -> float:
    if kind not in _RANGES:
        if written is not None:
            raise UserError(f"{text!r}: {kind.value} has no value; leave :{written} out")
        return 0.0
    if written is None:
        if kind not in _DEFAULTS:
            raise UserError(f"{text!r}: {kind.value} needs a value; write {kind.value}:VALUE@...")
        return _DEFAULTS[kind]
    low, high = _RANGES[kind]
    value = _number(written)
    if kind is FaultKind.DEAD_MOTOR and value is not None and value % 1.0:
        raise UserError(f"{text!r}: motors are numbered 1, 2, 3 and 4; give one of them")
    if value is None or not low <= value <= high:
        raise UserError(f"{text!r}: the value of {kind.value} lies between {low:g} and {high:g}; give such a one")
    return value


def _seconds(text: str, written: str) -> float:
    value = _number(written)
    if value is None:
        raise UserError(f"{text!r}: {written!r} is no time; give seconds")
    return value


def _number(written: str) -> float | None:
    try:
        return float(written)
    except ValueError:
        return None
