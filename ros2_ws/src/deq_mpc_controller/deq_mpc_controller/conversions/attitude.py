"""Attitude commands, attitudes and rates: what the stack flies with against what cflib, the wire and the log speak."""

from __future__ import annotations

from math import cos, degrees, radians, sin
from struct import Struct
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deq_mpc_controller.conversions.thrust import ThrustMap
from deq_mpc_core.policy.interface import Command

Array = NDArray[np.float64]

SETPOINT_PACKET = Struct("<fffH")
"""Payload of an RPYT packet (CRTP port 3): roll, -pitch, yaw rate, thrust."""


class Rpyt(NamedTuple):
    """Arguments of cflib's ``send_setpoint``: roll, pitch [deg], yaw_rate [deg/s, clockwise +], thrust [0..65535]."""

    roll: float
    pitch: float
    yaw_rate: float
    thrust: int


def rpyt_from_command(command: Command, thrust_map: ThrustMap) -> Rpyt:
    """What to hand to cflib's ``send_setpoint``. The thrust is rounded to an integer and saturates."""
    return Rpyt(
        roll=degrees(command.roll),
        pitch=degrees(command.pitch),
        yaw_rate=-degrees(command.yaw_rate),
        thrust=thrust_map.integer(command.thrust),
    )


def command_from_rpyt(rpyt: Rpyt, thrust_map: ThrustMap) -> Command:
    """The command that a call of ``send_setpoint`` means."""
    return Command(
        roll=radians(rpyt.roll),
        pitch=radians(rpyt.pitch),
        yaw_rate=-radians(rpyt.yaw_rate),
        thrust=thrust_map.force(rpyt.thrust),
    )


def rpyt_from_packet(payload: bytes) -> Rpyt:
    """The ``send_setpoint`` call that put these bytes on the wire: cflib negates the pitch there."""
    roll, minus_pitch, yaw_rate, thrust = SETPOINT_PACKET.unpack(payload)
    return Rpyt(roll, -minus_pitch, yaw_rate, thrust)


def packet_from_rpyt(rpyt: Rpyt) -> bytes:
    """The bytes that a call of ``send_setpoint`` puts on the wire; the inverse of ``rpyt_from_packet``."""
    return SETPOINT_PACKET.pack(rpyt.roll, -rpyt.pitch, rpyt.yaw_rate, rpyt.thrust)


def command_from_packet(payload: bytes, thrust_map: ThrustMap) -> Command:
    """The command in the payload of an RPYT packet; what a virtual Crazyflie receives."""
    return command_from_rpyt(rpyt_from_packet(payload), thrust_map)


def rpy_from_log(roll: float, pitch: float, yaw: float) -> Array:
    """Roll, pitch, yaw (3,) [rad] of the log variables ``stateEstimate.roll|pitch|yaw`` or ``stabilizer.*`` [deg]."""
    return np.radians([roll, -pitch, yaw])


def log_from_rpy(rpy: ArrayLike) -> tuple[float, float, float]:
    """Log variables roll, pitch, yaw [deg, pitch nose-up +] of (3,) [rad]; what a virtual Crazyflie logs."""
    roll, pitch, yaw = np.degrees(rpy)
    return float(roll), -float(pitch), float(yaw)


def body_rates_from_log(x: float, y: float, z: float) -> Array:
    """Body rates (3,) [rad/s] of ``gyro.x|y|z`` [deg/s]: the gyro's frame is x forward, y left, z up, right-handed."""
    return np.radians([x, y, z])


def log_from_body_rates(rates: ArrayLike) -> tuple[float, float, float]:
    """``gyro.x|y|z`` [deg/s] of body rates (3,) [rad/s]."""
    x, y, z = np.degrees(rates)
    return float(x), float(y), float(z)


def rpy_rate_from_body_rates(rpy: ArrayLike, body_rates: ArrayLike) -> Array:
    """Euler-angle rates (3,) [rad/s] of body rates (p, q, r) [rad/s]. Singular at pitch = +-pi/2.

    roll_d = p + (q sin roll + r cos roll) tan pitch;  pitch_d = q cos roll - r sin roll;
    yaw_d = (q sin roll + r cos roll) / cos pitch
    """
    (roll, pitch, _), (p, q, r) = np.asarray(rpy, float), np.asarray(body_rates, float)
    turn = (q * sin(roll) + r * cos(roll)) / cos(pitch)
    return np.array([p + turn * sin(pitch), q * cos(roll) - r * sin(roll), turn])


def body_rates_from_rpy_rate(rpy: ArrayLike, rpy_rate: ArrayLike) -> Array:
    """Body rates (p, q, r) [rad/s] of Euler-angle rates (3,) [rad/s].

    p = roll_d - yaw_d sin pitch;  q = pitch_d cos roll + yaw_d sin roll cos pitch;
    r = -pitch_d sin roll + yaw_d cos roll cos pitch
    """
    (roll, pitch, _), (roll_d, pitch_d, yaw_d) = np.asarray(rpy, float), np.asarray(rpy_rate, float)
    return np.array(
        [
            roll_d - yaw_d * sin(pitch),
            pitch_d * cos(roll) + yaw_d * sin(roll) * cos(pitch),
            -pitch_d * sin(roll) + yaw_d * cos(roll) * cos(pitch),
        ]
    )
