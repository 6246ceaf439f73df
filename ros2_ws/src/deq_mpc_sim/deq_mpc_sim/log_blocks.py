"""Log blocks of the virtual Crazyflie: groups of variables that it sends at a period of their own."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from deq_mpc_sim.crtp import LOG_FORMATS, LOG_TYPES, Status
from deq_mpc_sim.toc import Toc

MAX_BLOCKS, MAX_VARIABLES, MAX_BLOCK_BYTES = 16, 128, 26

_DELETE, _START, _STOP, _RESET, _CREATE, _APPEND = 2, 3, 4, 5, 6, 7
_PERIOD_UNIT = 0.01  # s
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
    period: float | None = None  # s; None: stopped
    due: float = 0.0

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
            return bytes([_RESET, 0, Status.OK])
        if len(request) < 2:
            return None
        return request[:2] + bytes([self._execute(request[0], request[1], request[2:], t)])

    def _execute(self, command: int, number: int, arguments: bytes, t: float) -> Status:
        if command == _CREATE:
            return self._create(number, arguments)
        block = self._blocks.get(number)
        if block is None:
            return Status.NO_SUCH_ENTRY
        if command == _APPEND:
            return self._append(block, arguments)
        if command == _DELETE:
            del self._blocks[number]
        elif command == _START and arguments and arguments[0] > 0:
            block.period = arguments[0] * _PERIOD_UNIT
            block.due = t + block.period
        elif command == _STOP:
            block.period = None
        else:
            return Status.NOT_A_COMMAND
        return Status.OK

    def _create(self, number: int, arguments: bytes) -> Status:
        if number in self._blocks:
            return Status.EXISTS
        if len(self._blocks) >= MAX_BLOCKS:
            return Status.NO_MEMORY
        block = _Block()
        status = self._append(block, arguments)
        if status == Status.OK:
            self._blocks[number] = block
        return status

    def _append(self, block: _Block, arguments: bytes) -> Status:
        """Add variables, (type, index) each; all of them or none."""
        added = []
        for code, index in struct.iter_unpack("<BH", arguments[: len(arguments) // 3 * 3]):
            kind = LOG_FORMATS.get(code & 0x0F)
            if kind is None or index >= len(self._variables):
                return Status.NO_SUCH_ENTRY
            added.append((kind, index))
        if _Block(block.variables + added).size > MAX_BLOCK_BYTES:
            return Status.TOO_BIG
        if sum(len(other.variables) for other in self._blocks.values()) + len(added) > MAX_VARIABLES:
            return Status.NO_MEMORY
        block.variables += added
        return Status.OK

    def stream(self, t: float, source: Callable[[], Source]) -> list[bytes]:
        """Data of the blocks that are due at ``t`` [s]: block, 24-bit milliseconds, values.

        A block that fell behind is sent once, not once a missed period.
        """
        packets, snapshot = [], None
        for number, block in self._blocks.items():
            if block.period is None or t < block.due - _ROUNDING:
                continue
            missed = int((t - block.due) / block.period + _ROUNDING)
            block.due += (1 + missed) * block.period
            snapshot = snapshot if snapshot is not None else source()
            stamp = struct.pack("<I", round(1000.0 * t) & 0xFFFFFF)[:3]
            packets.append(bytes([number]) + stamp + self._pack(block, snapshot))
        return packets

    def _pack(self, block: _Block, snapshot: Source) -> bytes:
        values = []
        for kind, index in block.variables:
            value = self._variables[index].read(snapshot)
            values.append(struct.pack("<" + kind, float(value) if kind in "ef" else int(value)))
        return b"".join(values)
