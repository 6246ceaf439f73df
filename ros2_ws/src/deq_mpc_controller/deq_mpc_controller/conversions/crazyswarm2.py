"""Commands as Crazyswarm2's topic ``cmd_vel_legacy`` means them: a Twist that holds no twist.

| field | what it holds | sign |
|---|---|---|
| linear.y | roll, deg | as here |
| linear.x | pitch, deg | server `cpp`: as here, nose down +; server `cflib`: **negated**, nose up + |
| linear.z | thrust, integer of a `ThrustMap` | |
| angular.z | yaw rate, deg/s | **negated**, clockwise + |

Both servers negate linear.x and hand the rest on as it is: ``crazyflie_server.cpp`` puts the four numbers on the wire,
where the pitch is nose up +; ``crazyflie_server.py`` calls cflib's ``send_setpoint``, which negates it once more.
"""

from __future__ import annotations

from typing import NamedTuple

from deq_mpc_controller.conversions.attitude import Rpyt, command_from_rpyt, rpyt_from_command
from deq_mpc_controller.conversions.thrust import ThrustMap
from deq_mpc_core.policy.interface import Command

_PITCH_SIGN = {"cpp": 1.0, "cflib": -1.0}
CRAZYSWARM2_SERVERS = tuple(_PITCH_SIGN)
"""The servers that differ in the sign of the pitch."""


class LegacyTwist(NamedTuple):
    """The fields of the Twist that count: linear x, y [deg] and z [0..65535], angular z [deg/s]."""

    x: float
    y: float
    z: float
    yaw_rate: float


def twist_from_command(command: Command, thrust_map: ThrustMap, server: str) -> LegacyTwist:
    """What to publish for a command; ``server`` is one of `CRAZYSWARM2_SERVERS`."""
    rpyt = rpyt_from_command(command, thrust_map)
    return LegacyTwist(_PITCH_SIGN[server] * rpyt.pitch, rpyt.roll, float(rpyt.thrust), rpyt.yaw_rate)


def command_from_twist(twist: LegacyTwist, thrust_map: ThrustMap, server: str) -> Command:
    """The command that a Twist means to ``server``."""
    rpyt = Rpyt(twist.y, _PITCH_SIGN[server] * twist.x, twist.yaw_rate, round(twist.z))
    return command_from_rpyt(rpyt, thrust_map)
