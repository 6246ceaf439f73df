"""What goes to the vehicle and what comes back, whatever link carries it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller.units import Hertz, Number, Second
from deq_mpc_core.config import Config
from deq_mpc_core.policy.interface import Command

NO_COMMAND = Command(0.0, 0.0, 0.0, 0.0)


class SetpointKind(Enum):
    """What a setpoint asks for."""

    OFF = "off"
    """Motors off; a later setpoint may start them again. The vehicle stands on the ground, or has to fall."""
    FLY = "fly"
    """Follow the command."""
    EMERGENCY = "emergency"
    """Motors off and locked until the vehicle reboots."""


@dataclass(frozen=True)
class Setpoint:
    """One setpoint; all but ``kind`` and ``arm`` counts for kind FLY alone.

    Attributes:
        kind: what it asks for.
        command: of now.
        arm: asks for armed motors.
        plan: the commands planned after it, the first ``spacing`` later; they are followed while no new setpoint comes.
        spacing: between two of them [s].
        hover: thrust that carries the weight [N]; None: the nominal one.
        stamp: of the pose that it was computed from [s]; None: of none.
    """

    kind: SetpointKind
    command: Command = NO_COMMAND
    arm: bool = False
    plan: tuple[Command, ...] = ()
    spacing: float = 0.0
    hover: float | None = None
    stamp: float | None = None

    def __post_init__(self) -> None:
        if self.plan and not self.spacing > 0.0:
            raise ValueError(f"the commands of a plan lie {self.spacing} s apart; give a positive spacing")


@dataclass(frozen=True)
class VehicleStatus:
    """What the vehicle last reported.

    Attributes:
        armed: its motors may turn.
        voltage: of the battery, under the present load [V].
        age: time since the last report [s].
        fault: why it cannot fly (tumbled, locked, link lost), or "".
        lost: the link has been given up: nothing that is sent arrives.
        stopped: the link has stopped the motors, because the controller was silent; until OFF is sent.
        arms_itself: whether it arms without being asked to; None: not reported.
        pos: (3,) where its own estimator believes it to be [m]; None if that is not reported.
    """

    armed: bool = False
    voltage: float = 0.0
    age: float = inf
    fault: str = ""
    pos: NDArray[np.float64] | None = None
    arms_itself: bool | None = None
    lost: bool = False
    stopped: bool = False


OFF = Setpoint(SetpointKind.OFF)


class LinkConfig(Config):
    """``link`` in ``config/controller.yaml``."""

    attempt_time: Second
    connect_time: Second
    retry_pause: Second
    mute_time: Second
    send_period: Second
    stall_time: Second
    hold_time: Second
    level_time: Second
    level_thrust: Number
    extpose_rate: Hertz
    log_period: Second
    arm_period: Second
    down_time: Second
    emergency_repeats: int
    status_period: Second
    handover_time: Second
