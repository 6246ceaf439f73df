"""The one place where signs and units change: between the stack (SI, ROS signs) and what a Crazyflie and cflib speak.

| quantity | here | `Commander.send_setpoint` | setpoint packet | log variables |
|---|---|---|---|---|
| roll | rad, + accelerates -y | deg, same sign | deg, same sign | deg, same sign |
| pitch | rad, + nose down, accelerates +x | deg, same sign | deg, **negated** by cflib | deg, **negated** (nose up +) |
| yaw rate | rad/s, + counter-clockwise | deg/s, **negated** | deg/s, as given to cflib | deg/s, same sign (gyro) |
| thrust | N, collective | integer of a `ThrustMap` | the same integer | |

Rotations themselves, R = Rz(yaw) Ry(pitch) Rx(roll), are in ``deq_mpc_core.rotations``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, degrees, radians, sin
from struct import Struct
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deq_mpc_controller.units import Newton
from deq_mpc_core.config import Config, load_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.policy.interface import Command

Array = NDArray[np.float64]

THRUST_FULL = 65535
"""Largest integer that the packet holds."""
THRUST_CLIP = 60000
"""Above it the firmware's RPYT decoder clips."""
THRUST_DEAD_ZONE = 1000
"""Below it the firmware's RPYT decoder takes the thrust as zero."""
SETPOINT_PACKET = Struct("<fffH")
"""Payload of an RPYT packet (CRTP port 3): roll, -pitch, yaw rate, thrust."""


class Rpyt(NamedTuple):
    """Arguments of cflib's ``send_setpoint``: roll, pitch [deg], yaw_rate [deg/s, clockwise +], thrust [0..65535]."""

    roll: float
    pitch: float
    yaw_rate: float
    thrust: int


@dataclass(frozen=True)
class ThrustMap:
    """Collective thrust over the setpoint's integer: F = force_at_full u / 65535."""

    force_at_full: float

    @property
    def force_max(self) -> float:
        """Largest thrust that the firmware applies [N]."""
        return self.force(THRUST_CLIP)

    def force(self, integer: int) -> float:
        """Collective thrust [N] that the firmware applies for a setpoint's integer."""
        effective = 0 if integer < THRUST_DEAD_ZONE else min(integer, THRUST_CLIP)
        return self.force_at_full * effective / THRUST_FULL

    def integer(self, force: float) -> int:
        """Setpoint's integer for a collective thrust [N]; saturates at 0 and at the firmware's clip."""
        return round(min(max(force / self.force_at_full * THRUST_FULL, 0.0), float(THRUST_CLIP)))


class _ThrustEntry(Config):
    force_at_full: Newton


class _ThrustMaps(Config):
    """``config/thrust_maps.yaml``: platform, then the first firmware release of the generation."""

    platforms: dict[str, dict[str, _ThrustEntry]]


def load_thrust_map(platform: str, firmware: str) -> ThrustMap:
    """Thrust map of a platform (``cf21_legacy_props``) and a firmware generation (``2025.09``).

    Raises:
        UserError: naming the known platforms or generations.
    """
    platforms = load_config("thrust_maps", _ThrustMaps).platforms
    if platform not in platforms:
        raise UserError(f"unknown platform {platform!r}; choose one of {', '.join(sorted(platforms))}")
    generations = platforms[platform]
    if firmware not in generations:
        known = ", ".join(sorted(generations))
        raise UserError(f"no thrust map of {platform} for firmware {firmware!r}; choose one of {known} or add it")
    return ThrustMap(generations[firmware].force_at_full)


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
