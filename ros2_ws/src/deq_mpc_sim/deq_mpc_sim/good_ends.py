"""What a good end of a flight with a fault is: how it comes down, what is said of it, and how soon."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf

from deq_mpc_controller.safety import Reason

ALLOWANCE = 0.05
"""What a reaction may take beyond its limit [s]: a report, a pose and two control steps."""


class Outcome(Enum):
    """How a flight ends."""

    COMPLETED = "completed"
    """Landed, and ready for the next flight."""
    LANDED = "landed"
    """Down with turning motors; there is no next flight."""
    FELL = "fell"
    """Touched down too fast for a landing."""


@dataclass(frozen=True)
class Good:
    """A good end.

    Attributes:
        outcomes: any of these.
        reasons: what has to be said, any of these; none: nothing needs to be.
        within: how long it may take until something is done about it, or said, where nothing needs to be done [s].
        why: that is the best that can be done.
        clear: whether it must not have been in an obstacle while it flew to the goal, nor outside the fence ever.
        locked: whether the vehicle has to be locked in the end.
    """

    outcomes: frozenset[Outcome]
    reasons: frozenset[str]
    within: float
    why: str
    clear: bool = False
    locked: bool = False


def completes(why: str, *reasons: str, within: float = inf) -> Good:
    """Nothing comes of it but, perhaps, words."""
    return _good((Outcome.COMPLETED,), reasons, within, why)


def warns(reason: Reason, within: float, why: str) -> Good:
    """A warning, and the flight goes on."""
    return completes(why, reason.value, within=within)


def lands(within: float, why: str, *reasons: str) -> Good:
    """It lands under control."""
    return _good((Outcome.LANDED,), reasons, within, why)


def comes_down(within: float, why: str, *reasons: str) -> Good:
    """It comes down somehow: no better end is to be had."""
    return _good((Outcome.LANDED, Outcome.FELL), reasons, within, why)


def _good(outcomes: tuple[Outcome, ...], reasons: tuple[str, ...], within: float, why: str) -> Good:
    return Good(frozenset(outcomes), frozenset(reasons), within + ALLOWANCE, why)
