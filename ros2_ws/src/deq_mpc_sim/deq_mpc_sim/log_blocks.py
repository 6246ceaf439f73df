"""Log blocks of the virtual Crazyflie: groups of variables that it sends at a period of their own."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Generic, TypeVar

import numpy as np

from deq_mpc_sim.crtp import LOG_FORMATS, LOG_TYPES, Status
from deq_mpc_sim.toc import Toc

MAX_BLOCKS, MAX_VARIABLES, MAX_BLOCK_BYTES = 16, 128, 26

_DELETE, _START, _STOP, _RESET, _CREATE, _APPEND, _START_MS = 2, 3, 4, 5, 6, 7, 8
_PERIOD_UNIT, _MILLISECOND = 0.01, 0.001  # s
_ROUNDING = 1e-9  # s

Source = TypeVar("Source")


@dataclass(frozen=True)
class LogVariable(Generic[Source]):
    """A variable: its type as a ``struct`` character, and how to read it."""

    kind: str
    read: Callable[[Source], float]


@dataclass
class _Block:
    variables: list[tuple[str, int]] = field(default_factory=list)  # struct character to send it as, index
    period: float = 0.0  # s; 0: sent once
    due: float = inf  # s; infinite: stopped

    @property
    def size(self) -> int:
        return sum(struct.calcsize("<" + kind) for kind, _ in self.variables)


class LogBlocks(Generic[Source]):
    """The log service: table, block commands and the stream."""

    def __init__(self, variables: Mapping[str, LogVariable[Source]]) -> None:
        """A service for variables by ``group.name``."""
        self._variables = list(variables.values())
        entries = [(name, LOG_TYPES[variable.kind]) for name, variable in variables.items()]
        self.toc = Toc(entries, bytes([MAX_BLOCKS, MAX_VARIABLES]))
        self._blocks: dict[int, _Block] = {}

    def command(self, request: bytes, t: float) -> bytes | None:
        """Reply to a block command at time ``t`` [s]: command, block, status."""
        if not request:
            return None
        if request[0] == _RESET:
            self._blocks.clear()
            return request[:2].ljust(2, b"\0") + bytes([Status.OK])
        if len(request) < 2:
            return None
        return request[:2] + bytes([self._execute(request[0], request[1], request[2:], t)])

    def _execute(self, command: int, number: int, arguments: bytes, t: float) -> Status:
        if not _DELETE <= command <= _START_MS:
            return Status.NOT_A_COMMAND
        if command == _CREATE:
            return self._create(number, arguments)
        block = self._blocks.get(number)
        if block is None:
            return Status.NO_SUCH_ENTRY
        if command == _APPEND:
            return self._append(block, arguments)
        if command == _DELETE:
            del self._blocks[number]
        elif command == _STOP:
            block.due = inf
        else:
            count = int.from_bytes(arguments[: 1 if command == _START else 2], "little")
            block.period = count * (_PERIOD_UNIT if command == _START else _MILLISECOND)
            block.due = t + block.period
        return Status.OK

    def _create(self, number: int, arguments: bytes) -> Status:
        """A new block; as in the firmware it exists from here on, whether or not it takes all variables."""
        if number in self._blocks:
            return Status.EXISTS
        if len(self._blocks) >= MAX_BLOCKS:
            return Status.NO_MEMORY
        self._blocks[number] = _Block()
        return self._append(self._blocks[number], arguments)

    def _append(self, block: _Block, arguments: bytes) -> Status:
        """Add variables, (type, index) each, up to the first that is refused. Raw memory cannot be logged."""
        for code, index in struct.iter_unpack("<BH", arguments[: len(arguments) // 3 * 3]):
            kind = LOG_FORMATS.get(code & 0x0F)
            if kind is None or index >= len(self._variables):
                return Status.NO_SUCH_ENTRY
            if block.size + struct.calcsize("<" + kind) > MAX_BLOCK_BYTES:
                return Status.TOO_BIG
            if sum(len(other.variables) for other in self._blocks.values()) >= MAX_VARIABLES:
                return Status.NO_MEMORY
            block.variables.append((kind, index))
        return Status.OK

    def stream(self, t: float, source: Callable[[], Source]) -> list[bytes]:
        """Data of the blocks that are due at ``t`` [s]: block, 24-bit milliseconds, values.

        A block that fell behind is sent once, not once a missed period.
        """
        packets, snapshot = [], None
        for number, block in self._blocks.items():
            if t < block.due - _ROUNDING:
                continue
            if block.period > 0.0:
                missed = int((t - block.due) / block.period + _ROUNDING)
                block.due += (1 + missed) * block.period
            else:
                block.due = inf
            snapshot = snapshot if snapshot is not None else source()
            stamp = struct.pack("<I", round(1000.0 * t) & 0xFFFFFF)[:3]
            packets.append(bytes([number]) + stamp + self._pack(block, snapshot))
        return packets

    def _pack(self, block: _Block, snapshot: Source) -> bytes:
        variables = [(kind, self._variables[index]) for kind, index in block.variables]
        return b"".join(_convert(variable.kind, kind, variable.read(snapshot)) for kind, variable in variables)


def _convert(stored: str, sent: str, value: float) -> bytes:
    """A value that the firmware stores as one type, sent as another (``struct`` characters), as C converts it.

    Floats become integers by truncation, and integers keep their lowest bytes.
    """
    if stored != "f":
        value = int.from_bytes(_integer(stored, value), "little", signed=stored.islower())
    if sent not in "ef":
        return _integer(sent, value)
    with np.errstate(over="ignore"):
        return (np.float32(value) if sent == "f" else np.float16(value)).tobytes()


def _integer(kind: str, value: float) -> bytes:
    """The lowest bytes of a number, truncated; 0 of one that is not finite."""
    size = struct.calcsize("<" + kind)
    whole = int(value) if np.isfinite(value) else 0
    return (whole & ((1 << 8 * size) - 1)).to_bytes(size, "little")
