"""What goes to the vehicle and what comes back, whatever link carries it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from math import inf

from deq_mpc_controller.units import Number, Second
from deq_mpc_core.config import Config
from deq_mpc_core.models.crazyflie import hover_thrust
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


OFF = Setpoint(SetpointKind.OFF)


class LinkConfig(Config):
    """``link`` in ``config/controller.yaml``."""

    attempt_time: Second
    connect_time: Second
    retry_pause: Second
    send_period: Second
    hold_time: Second
    level_time: Second
    level_thrust: Number
    log_period: Second
    arm_period: Second
    emergency_repeats: int


def due_setpoint(last: Setpoint, age: float, config: LinkConfig) -> Setpoint:
    """What to send when the controller's last setpoint is ``age`` old [s]: it, or level and sinking, or motors off."""
    if last.kind is not SetpointKind.FLY or age <= config.hold_time:
        return last
    if age <= config.hold_time + config.level_time:
        return replace(last, command=NO_COMMAND._replace(thrust=config.level_thrust * hover_thrust()))
    return OFF
