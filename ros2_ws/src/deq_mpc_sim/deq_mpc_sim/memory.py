"""The memory port (4): one memory, that of the high-level commander's trajectories."""

from __future__ import annotations

import struct

from deq_mpc_sim.crtp import MAX_DATA, Status

_COUNT, _DETAILS = 1, 2  # commands on the channel of information
_TRAJECTORIES = 0x12  # type of the memory
_SERIAL = bytes(8)  # of a memory that is no 1-wire chip
_ACCESS = struct.Struct("<BI")  # memory, address


class MemoryPort:
    """Answers reads and writes; every access is whole or refused."""

    def __init__(self, memory: bytearray) -> None:
        """A port with ``memory`` as its number 0."""
        self._memory = memory

    def answer(self, channel: int, request: bytes) -> bytes | None:
        """Reply to a request; None if there is none."""
        if channel == 0:
            return self._inform(request)
        if len(request) < _ACCESS.size:
            return None
        if channel == 1 and len(request) > _ACCESS.size:
            return self._read(request[: _ACCESS.size], request[_ACCESS.size])
        return self._write(request[: _ACCESS.size], request[_ACCESS.size :]) if channel == 2 else None

    def _inform(self, request: bytes) -> bytes | None:
        if request[:1] == bytes([_COUNT]):
            return bytes([_COUNT, 1])
        if request[:1] == bytes([_DETAILS]) and len(request) >= 2:
            size = len(self._memory) if request[1] == 0 else 0
            return request[:2] + struct.pack("<BI", _TRAJECTORIES, size) + _SERIAL
        return None

    def _read(self, access: bytes, length: int) -> bytes:
        span = self._span(access, length)
        if span is None or len(access) + 1 + length > MAX_DATA:
            return access + bytes([Status.INPUT_OUTPUT])
        return access + bytes([Status.OK]) + bytes(self._memory[span])

    def _write(self, access: bytes, data: bytes) -> bytes:
        span = self._span(access, len(data))
        if span is None:
            return access + bytes([Status.INPUT_OUTPUT])
        self._memory[span] = data
        return access + bytes([Status.OK])

    def _span(self, access: bytes, length: int) -> slice | None:
        number, address = _ACCESS.unpack(access)
        inside = number == 0 and address + length <= len(self._memory)
        return slice(address, address + length) if inside else None
