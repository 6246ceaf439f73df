"""What a commander asks of the on-board controller, and how setpoint packets say it (ports 3 and 7).

This is behind the radio: the firmware's own units and signs, as on the wire. Degrees, motor counts, pitch positive nose
up, yaw counter-clockwise; the packets that turn the other way say so. A packet that is too short or too long for its
type is ignored here; the real firmware halts on it.

| type | setpoint | payload |
|---|---|---|
| 0 | stop | |
| 1, 8 | velocity in the world | vx vy vz [m/s], yaw rate [deg/s] (1: clockwise) |
| 2, 9 | height | roll, pitch [deg], yaw rate [deg/s] (2: clockwise), z [m] |
| 4 | climb | roll, pitch [deg], yaw rate [deg/s], vz [m/s] |
| 5, 10 | hover | vx vy in the heading's frame [m/s], yaw rate [deg/s] (5: clockwise), z [m] |
| 6 | full state | int16: x y z [mm], v [mm/s], a [mm/s^2]; compressed quaternion; int16: body rates [mrad/s] |
| 7 | position | x y z [m], yaw [deg] |
| 11 | manual | roll, pitch [deg, or deg/s in rate mode], yaw rate [deg/s], motor count, rate mode |
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from deq_mpc_controller.conversions import SETPOINT_PACKET, THRUST_CLIP, THRUST_DEAD_ZONE, decompress_quat
from deq_mpc_core.rotations import rpy_from_quat

Vector = tuple[float, float, float]

_FOUR = struct.Struct("<4f")
_MANUAL = struct.Struct("<fffHB")
_FULL_STATE = struct.Struct("<9hI3h")


class Mode(IntEnum):
    """How a quantity is controlled."""

    OFF = 0
    ABSOLUTE = 1
    RATE = 2


class Target(NamedTuple):
    """A setpoint; with everything off it stops the motors.

    Attributes:
        xy, z: control of the horizontal and vertical motion: position or velocity.
        tilt: control of roll and pitch, where ``xy`` is off: angles or rates.
        heading: control of the yaw: angle or rate.
        position: world frame [m].
        velocity: world frame, or the heading's frame if ``in_heading`` [m/s].
        roll, pitch: [deg] or [deg/s].
        yaw: [deg] or [deg/s].
        thrust: motor count, where ``z`` is off.
    """

    xy: Mode = Mode.OFF
    z: Mode = Mode.OFF
    tilt: Mode = Mode.OFF
    heading: Mode = Mode.OFF
    position: Vector = (0.0, 0.0, 0.0)
    velocity: Vector = (0.0, 0.0, 0.0)
    in_heading: bool = False
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    thrust: float = 0.0

    @property
    def finite(self) -> bool:
        """Whether all numbers are."""
        values = (*self.position, *self.velocity, self.roll, self.pitch, self.yaw, self.thrust)
        return all(math.isfinite(value) for value in values)

    @property
    def levelled(self) -> Target:
        """The same height or thrust, but level and turning no more."""
        level = self._replace(xy=Mode.OFF, tilt=Mode.ABSOLUTE, heading=Mode.RATE)
        return level._replace(roll=0.0, pitch=0.0, yaw=0.0)

    @property
    def modes(self) -> tuple[Mode, Mode, Mode, Mode]:
        """What is controlled, and how."""
        return self.xy, self.z, self.tilt, self.heading


STOP = Target()


def rpyt_target(payload: bytes, unlocked: bool) -> Target | None:
    """Roll, pitch [deg], yaw rate [deg/s, clockwise] and motor count of port 3; no thrust unless ``unlocked``."""
    if len(payload) < SETPOINT_PACKET.size:
        return None
    roll, pitch, clockwise, count = SETPOINT_PACKET.unpack_from(payload)
    thrust = float(min(count, THRUST_CLIP)) if unlocked and count >= THRUST_DEAD_ZONE else 0.0
    return Target(tilt=Mode.ABSOLUTE, heading=Mode.RATE, roll=roll, pitch=pitch, yaw=-clockwise, thrust=thrust)


def generic_target(packet: bytes) -> Target | None:
    """The setpoint of port 7, type byte first; an unknown type stops the motors. None if the length is not its own."""
    if not packet:
        return None
    decoder = _DECODERS.get(packet[0])
    if decoder is None:
        return STOP
    shape, decode = decoder
    return decode(*shape.unpack(packet[1:])) if len(packet) == 1 + shape.size else None


def _velocity(vx: float, vy: float, vz: float, yaw_rate: float) -> Target:
    return Target(xy=Mode.RATE, z=Mode.RATE, heading=Mode.RATE, velocity=(vx, vy, vz), yaw=yaw_rate)


def _height(roll: float, pitch: float, yaw_rate: float, z: float) -> Target:
    tilted = Target(z=Mode.ABSOLUTE, tilt=Mode.ABSOLUTE, heading=Mode.RATE, roll=roll, pitch=pitch, yaw=yaw_rate)
    return tilted._replace(position=(0.0, 0.0, z))


def _climb(roll: float, pitch: float, yaw_rate: float, vz: float) -> Target:
    tilted = Target(z=Mode.RATE, tilt=Mode.ABSOLUTE, heading=Mode.RATE, roll=roll, pitch=pitch, yaw=yaw_rate)
    return tilted._replace(velocity=(0.0, 0.0, vz))


def _hover(vx: float, vy: float, yaw_rate: float, z: float) -> Target:
    height = Target(z=Mode.ABSOLUTE, heading=Mode.RATE, position=(0.0, 0.0, z), yaw=yaw_rate)
    return height._replace(xy=Mode.RATE, velocity=(vx, vy, 0.0), in_heading=True)


def _position(x: float, y: float, z: float, yaw: float) -> Target:
    return Target(xy=Mode.ABSOLUTE, z=Mode.ABSOLUTE, heading=Mode.ABSOLUTE, position=(x, y, z), yaw=yaw)


def _full_state(*values: int) -> Target:
    """Position and heading; the default controller of the firmware ignores the rest, and so does this one."""
    x, y, z, vx, vy, vz = (1e-3 * value for value in values[:6])
    yaw = rpy_from_quat(decompress_quat(values[9]))[2]
    followed = _position(x, y, z, math.degrees(yaw))
    return followed._replace(velocity=(vx, vy, vz))


def _manual(roll: float, pitch: float, yaw_rate: float, count: int, rate_mode: int) -> Target:
    tilt = Mode.RATE if rate_mode else Mode.ABSOLUTE
    return Target(tilt=tilt, heading=Mode.RATE, roll=roll, pitch=pitch, yaw=yaw_rate, thrust=float(count))


def _clockwise(decode: Callable[..., Target]) -> Callable[..., Target]:
    """The old form of a decoder: its yaw rate turns the other way."""

    def turned(*values: float) -> Target:
        target = decode(*values)
        return target._replace(yaw=-target.yaw)

    return turned


_DECODERS: dict[int, tuple[struct.Struct, Callable[..., Target]]] = {
    0: (struct.Struct(""), Target),
    1: (_FOUR, _clockwise(_velocity)),
    2: (_FOUR, _clockwise(_height)),
    4: (_FOUR, _climb),
    5: (_FOUR, _clockwise(_hover)),
    6: (_FULL_STATE, _full_state),
    7: (_FOUR, _position),
    8: (_FOUR, _velocity),
    9: (_FOUR, _height),
    10: (_FOUR, _hover),
    11: (_MANUAL, _manual),
}
