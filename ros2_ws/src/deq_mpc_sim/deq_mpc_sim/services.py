"""The small ports of the virtual Crazyflie: link (15), platform (13) and supervisor (9)."""

from __future__ import annotations

import struct

from deq_mpc_sim.crtp import MAX_DATA
from deq_mpc_sim.supervisor import Bit, Supervisor

PROTOCOL_VERSION = 12
FIRMWARE_VERSION = b"2026.04 virtual\0"
DEVICE = b"Crazyflie 2.1 virtual\0"

_ECHO, _SOURCE, _NOTHING = 0, 1, 3  # channels of the link; the last carries empty packets
_COMMANDS, _VERSIONS = 0, 1  # channels of the platform
_ARM, _RECOVER, _STOP, _FEED_WATCHDOG = 1, 2, 3, 4  # commands of the supervisor; the platform has the first two, too
_LAST_BIT, _ALL_BITS = 0x0B, 0x0C  # questions to the supervisor: one a bit of its state, then all of them
_REPLY = 0x80


def link_reply(channel: int, data: bytes) -> bytes | None:
    """Echo, and the greeting that cflib waits for; an empty packet is a scan, and is given back."""
    if channel == _ECHO or (channel == _NOTHING and not data):
        return data
    return b"Bitcraze Crazyflie".ljust(MAX_DATA, b"\0") if channel == _SOURCE else None


def platform_reply(channel: int, data: bytes, supervisor: Supervisor, t: float) -> bytes | None:
    """Versions, and the old way of arming."""
    if channel == _VERSIONS:
        versions = (bytes([PROTOCOL_VERSION]), FIRMWARE_VERSION, DEVICE)
        return data[:1] + versions[data[0]] if data and data[0] < len(versions) else None
    if channel == _COMMANDS and data[:1] in (bytes([_ARM]), bytes([_RECOVER])):
        return data[:1] + _command(data, supervisor, t)
    return None


def supervisor_reply(channel: int, data: bytes, supervisor: Supervisor, bits: Bit, t: float) -> bytes | None:
    """The supervisor's state (``bits``, all of them), arming, recovery, emergency stop and its watchdog."""
    if not data:
        return None
    if channel == 0 and data[0] == _ALL_BITS:
        return struct.pack("<BH", _REPLY | _ALL_BITS, bits)
    if channel == 0 and 1 <= data[0] <= _LAST_BIT:
        return bytes([_REPLY | data[0], bits >> (data[0] - 1) & 1])
    if channel == 1 and data[0] in (_ARM, _RECOVER):
        return bytes([_REPLY | data[0]]) + _command(data, supervisor, t)
    if channel == 1 and data[0] == _STOP:
        supervisor.emergency_stop()
    elif channel == 1 and data[0] == _FEED_WATCHDOG:
        supervisor.feed_watchdog(t)
    return None


def _command(data: bytes, supervisor: Supervisor, t: float) -> bytes:
    """Arm or recover: whether it was done, and whether it is armed, or has no crash behind it, now."""
    if data[0] == _RECOVER:
        recovered = supervisor.recover()
        return bytes([recovered, recovered])
    done = len(data) >= 2 and supervisor.arm(bool(data[1]), t)
    return bytes([done, supervisor.armed])
