"""What goes to the vehicle and what comes back, whatever link carries it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf

from deq_mpc_core.policy.interface import Command

NO_COMMAND = Command(0.0, 0.0, 0.0, 0.0)


class SetpointKind(Enum):
    """What a setpoint asks for."""

    OFF = "off"
    """Motors off; a later setpoint may start them again."""
    FLY = "fly"
    """Follow the command."""
    EMERGENCY = "emergency"
    """Motors off and locked until the vehicle reboots."""


@dataclass(frozen=True)
class Setpoint:
    """One setpoint. ``command`` counts for kind FLY alone; ``arm`` asks for armed motors."""

    kind: SetpointKind
    command: Command = NO_COMMAND
    arm: bool = False


@dataclass(frozen=True)
class VehicleStatus:
    """What the vehicle last reported.

    Attributes:
        armed: its motors may turn.
        voltage: of the battery, under the present load [V].
        age: time since the last report [s].
        fault: why it cannot fly (tumbled, locked, link lost), or "".
    """

    armed: bool = False
    voltage: float = 0.0
    age: float = inf
    fault: str = ""
