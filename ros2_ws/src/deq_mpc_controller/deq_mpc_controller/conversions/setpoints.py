"""Setpoints of the generic commander (CRTP port 7, channel 0): SI and ROS signs here, a type and a payload on the wire.

| kind | type | attitude | yaw rate, yaw |
|---|---|---|---|
| `Stop` | 0 | | |
| `FullState` | 6 | quaternion xyzw, 32 bits; body rates in **mrad/s** | |
| `Position` | 7 | | deg, counter-clockwise + |
| `VelocityWorld` | 8 | | deg/s, counter-clockwise + |
| `ZDistance` | 9 | deg, pitch **nose up +** | deg/s, counter-clockwise + |
| `Hover` | 10 | | deg/s, counter-clockwise + |
| `Manual` | 11 | deg or deg/s, pitch **nose up +** | deg/s, counter-clockwise + |

Types 1, 2 and 5 are 8, 9 and 10 with the yaw rate clockwise; cflib sends them to firmware of protocol version <= 8. It
negates the pitch of a manual setpoint, not that of `ZDistance`; its full-state rates are rad/s, though it says deg/s.
"""

from __future__ import annotations

from collections.abc import Callable
from math import degrees, radians
from struct import Struct
from typing import Any, NamedTuple

from deq_mpc_controller.conversions.quaternions import compress_quat, decompress_quat

Vector = tuple[float, float, float]

_FOUR, _MANUAL, _FULL_STATE = Struct("<4f"), Struct("<fffHB"), Struct("<9hI3h")
_MILLI = 1000.0
_INT16_MAX = 32767


class Stop(NamedTuple):
    """Motors off."""


class VelocityWorld(NamedTuple):
    """Velocity vx, vy, vz [m/s] in the world frame, yaw rate [rad/s]."""

    vx: float
    vy: float
    vz: float
    yaw_rate: float


class ZDistance(NamedTuple):
    """Roll, pitch [rad], yaw rate [rad/s], height [m]."""

    roll: float
    pitch: float
    yaw_rate: float
    height: float


class Hover(NamedTuple):
    """Velocity forward and to the left [m/s], turned with the heading, yaw rate [rad/s], height [m]."""

    forward: float
    left: float
    yaw_rate: float
    height: float


class Position(NamedTuple):
    """Position x, y, z [m] and yaw [rad]."""

    x: float
    y: float
    z: float
    yaw: float


class Manual(NamedTuple):
    """Roll, pitch [rad, or rad/s if ``rates``], yaw rate [rad/s], thrust 0..65535 as in an RPYT packet."""

    roll: float
    pitch: float
    yaw_rate: float
    thrust: int
    rates: bool


class FullState(NamedTuple):
    """Position [m], velocity [m/s], acceleration [m/s^2] in the world frame, quaternion xyzw, body rates [rad/s]."""

    pos: Vector
    vel: Vector
    acc: Vector
    quat: tuple[float, float, float, float]
    body_rates: Vector


GenericSetpoint = Stop | VelocityWorld | ZDistance | Hover | Position | Manual | FullState


def encode_setpoint(setpoint: GenericSetpoint) -> bytes:
    """Type and payload of a setpoint. Numbers of 16 bits are truncated, as cflib does, and saturate."""
    kind, encode = _ENCODERS[type(setpoint)]
    return bytes([kind]) + encode(setpoint)


def decode_setpoint(data: bytes) -> GenericSetpoint | None:
    """The setpoint in a packet's data; None if its type or its length is none of a setpoint. Values may be NaN."""
    if not data or data[0] not in _DECODERS:
        return None
    size, decode = _DECODERS[data[0]]
    return decode(data[1:]) if len(data) == 1 + size else None


def _encode_velocity(setpoint: VelocityWorld) -> bytes:
    return _FOUR.pack(*setpoint[:3], degrees(setpoint.yaw_rate))


def _encode_z_distance(setpoint: ZDistance) -> bytes:
    roll, pitch, yaw_rate = map(degrees, setpoint[:3])
    return _FOUR.pack(roll, -pitch, yaw_rate, setpoint.height)


def _encode_hover(setpoint: Hover) -> bytes:
    return _FOUR.pack(setpoint.forward, setpoint.left, degrees(setpoint.yaw_rate), setpoint.height)


def _encode_position(setpoint: Position) -> bytes:
    return _FOUR.pack(*setpoint[:3], degrees(setpoint.yaw))


def _encode_manual(setpoint: Manual) -> bytes:
    roll, pitch, yaw_rate = map(degrees, setpoint[:3])
    return _MANUAL.pack(roll, -pitch, yaw_rate, setpoint.thrust, setpoint.rates)


def _encode_full_state(setpoint: FullState) -> bytes:
    def milli(vector: Vector) -> list[int]:
        return [int(min(max(value * _MILLI, -_INT16_MAX), _INT16_MAX)) for value in vector]

    pos, vel, acc, quat, rates = setpoint
    return _FULL_STATE.pack(*milli(pos), *milli(vel), *milli(acc), compress_quat(quat), *milli(rates))


def _decode_velocity(payload: bytes, clockwise: float = 1.0) -> VelocityWorld:
    vx, vy, vz, yaw_rate = _FOUR.unpack(payload)
    return VelocityWorld(vx, vy, vz, clockwise * radians(yaw_rate))


def _decode_z_distance(payload: bytes, clockwise: float = 1.0) -> ZDistance:
    roll, nose_up, yaw_rate, height = _FOUR.unpack(payload)
    return ZDistance(radians(roll), -radians(nose_up), clockwise * radians(yaw_rate), height)


def _decode_hover(payload: bytes, clockwise: float = 1.0) -> Hover:
    forward, left, yaw_rate, height = _FOUR.unpack(payload)
    return Hover(forward, left, clockwise * radians(yaw_rate), height)


def _decode_position(payload: bytes) -> Position:
    x, y, z, yaw = _FOUR.unpack(payload)
    return Position(x, y, z, radians(yaw))


def _decode_manual(payload: bytes) -> Manual:
    roll, nose_up, yaw_rate, thrust, rates = _MANUAL.unpack(payload)
    return Manual(radians(roll), -radians(nose_up), radians(yaw_rate), thrust, bool(rates))


def _decode_full_state(payload: bytes) -> FullState:
    values = _FULL_STATE.unpack(payload)

    def vector(first: int) -> Vector:
        x, y, z = (value / _MILLI for value in values[first : first + 3])
        return x, y, z

    qx, qy, qz, qw = map(float, decompress_quat(values[9]))
    return FullState(vector(0), vector(3), vector(6), (qx, qy, qz, qw), vector(10))


_ENCODERS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    Stop: (0, lambda _setpoint: b""),
    FullState: (6, _encode_full_state),
    Position: (7, _encode_position),
    VelocityWorld: (8, _encode_velocity),
    ZDistance: (9, _encode_z_distance),
    Hover: (10, _encode_hover),
    Manual: (11, _encode_manual),
}
_DECODERS: dict[int, tuple[int, Callable[[bytes], GenericSetpoint]]] = {
    0: (0, lambda _payload: Stop()),
    1: (_FOUR.size, lambda payload: _decode_velocity(payload, -1.0)),
    2: (_FOUR.size, lambda payload: _decode_z_distance(payload, -1.0)),
    5: (_FOUR.size, lambda payload: _decode_hover(payload, -1.0)),
    6: (_FULL_STATE.size, _decode_full_state),
    7: (_FOUR.size, _decode_position),
    8: (_FOUR.size, _decode_velocity),
    9: (_FOUR.size, _decode_z_distance),
    10: (_FOUR.size, _decode_hover),
    11: (_MANUAL.size, _decode_manual),
}
