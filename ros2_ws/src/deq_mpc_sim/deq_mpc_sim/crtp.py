"""The Crazyflie's real-time protocol: packets, ports and value types.

A packet is a header byte, (port << 4) | (3 << 2) | channel, and 0 to 30 bytes of data. Over UDP, one datagram is one
packet.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

MAX_DATA = 30
SCAN = b"\xff"
"""A lone 0xFF asks who is there; any packet is an answer."""


class Port(IntEnum):
    """Services of the Crazyflie."""

    PARAM = 2
    COMMANDER = 3
    MEMORY = 4
    LOG = 5
    LOCALIZATION = 6
    GENERIC_COMMANDER = 7
    HIGH_LEVEL = 8
    SUPERVISOR = 9
    PLATFORM = 13
    LINK = 15


class Packet(NamedTuple):
    """One packet."""

    port: int
    channel: int
    data: bytes


class Status(IntEnum):
    """Results in replies: the firmware's errno values."""

    OK = 0
    NO_SUCH_ENTRY = 2
    INPUT_OUTPUT = 5
    TOO_BIG = 7
    NOT_A_COMMAND = 8
    NO_MEMORY = 12
    READ_ONLY = 13
    BUSY = 16
    EXISTS = 17
    INVALID = 22


LOG_TYPES = {"B": 1, "H": 2, "I": 3, "b": 4, "h": 5, "i": 6, "f": 7, "e": 8}
"""Type codes of log variables by their ``struct`` character."""
LOG_FORMATS = {code: character for character, code in LOG_TYPES.items()}
PARAM_TYPES = {"b": 0x00, "h": 0x01, "i": 0x02, "e": 0x05, "f": 0x06, "B": 0x08, "H": 0x09, "I": 0x0A}
"""Type codes of parameters by their ``struct`` character."""


def decode(datagram: bytes) -> Packet | None:
    """The packet in a datagram; None if it is not one."""
    if not 1 <= len(datagram) <= 1 + MAX_DATA:
        return None
    return Packet(datagram[0] >> 4, datagram[0] & 0x03, datagram[1:])


def encode(packet: Packet) -> bytes:
    """The datagram of a packet."""
    return bytes([(packet.port << 4) | 0x0C | packet.channel]) + packet.data
