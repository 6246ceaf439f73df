"""Commands to the high-level commander (port 8) and its trajectory memory.

A command is its number, the groups it is for (0: everybody), and arguments in m, s and rad. The reply repeats the
command's first three bytes and adds the status. Arguments that are not finite are refused; the firmware takes them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from deq_mpc_sim.crtp import Status
from deq_mpc_sim.parameter_store import ParameterStore
from deq_mpc_sim.planner import Planner
from deq_mpc_sim.polynomial import LONGEST, SHORTEST, Trajectory, read_compressed, read_pieces

MEMORY_SIZE = 4096
TRAJECTORIES = 31  # that can be defined at a time
_REFUSED = 1  # the planner's answer to a take-off in flight or a second landing
_IN_MEMORY, _PLAIN, _COMPRESSED = 1, 0, 1  # location and types of a trajectory
_ARGUMENT_LIMIT = 1e6  # m, s, rad: far beyond what fits a room, and no power of it overflows
_SCALES = (1e-3, 1e3)  # smallest and largest stretching of a trajectory


class _Description(NamedTuple):
    """Where in the memory a trajectory is."""

    kind: int
    offset: int
    pieces: int


class HighLevelCommander:
    """Decodes commands for the planner."""

    def __init__(self, parameters: ParameterStore) -> None:
        """A commander that obeys and sets the parameters of ``hlCommander``."""
        self.planner = Planner()
        self.memory = bytearray(MEMORY_SIZE)
        self._parameters = parameters
        self._described: dict[int, _Description] = {}

    def receive(self, packet: bytes, t: float, blocked: bool) -> bytes:
        """Obey a command at ``t`` [s], unless ``blocked`` by the supervisor; the reply."""
        return packet[:3].ljust(3, b"\0") + bytes([self._execute(packet, t, blocked)])

    def _execute(self, packet: bytes, t: float, blocked: bool) -> Status | int:
        command = _COMMANDS.get(packet[0]) if packet else None
        if command is None or len(packet) < 1 + command.shape.size:
            return Status.NOT_A_COMMAND
        first, *arguments = command.shape.unpack_from(packet, 1)
        if not command.moves:
            return command.run(self, first, *arguments)
        if blocked:
            return Status.BUSY
        if not self._is_for_us(first):
            return Status.OK
        if not all(math.isfinite(value) and abs(value) < _ARGUMENT_LIMIT for value in arguments):
            return Status.INVALID
        return command.run(self, t, *arguments)

    def _is_for_us(self, groups: int) -> bool:
        return not groups or bool(groups & int(self._parameters.value("hlCommander.groupmask")))

    def _set_groups(self, groups: int) -> Status:
        self._parameters.set("hlCommander.groupmask", groups)
        return Status.OK

    def _stop(self, groups: int) -> Status:
        if self._is_for_us(groups):
            self.planner.stop()
        return Status.OK

    def _take_off(self, t: float, height: float, yaw: float, keep: bool, duration: float) -> int:
        return _verdict(self.planner.take_off(height, None if keep else yaw, duration, t))

    def _land(self, t: float, height: float, yaw: float, keep: bool, duration: float) -> int:
        return _verdict(self.planner.land(height, None if keep else yaw, duration, t))

    def _take_off_simply(self, t: float, height: float, duration: float) -> int:
        return self._take_off(t, height, 0.0, False, duration)

    def _land_simply(self, t: float, height: float, duration: float) -> int:
        return self._land(t, height, 0.0, False, duration)

    def _take_off_fast(self, t: float, height: float, relative: bool, yaw: float, keep: bool, speed: float) -> int:
        now = float(self.planner.knot.value[2])
        height = now + height if relative else height
        return self._take_off(t, height, yaw, keep, abs(height - now) / self._speed(speed, "hlCommander.vtoff"))

    def _land_fast(self, t: float, height: float, relative: bool, yaw: float, keep: bool, speed: float) -> int:
        now = float(self.planner.knot.value[2])
        height = now - height if relative else height
        return self._land(t, height, yaw, keep, abs(height - now) / self._speed(speed, "hlCommander.vland"))

    def _speed(self, asked: float, default: str) -> float:
        speed = asked if asked > 0.0 else self._parameters.value(default)
        return speed if math.isfinite(speed) and speed > 0.0 else math.inf

    def _go_to(self, t: float, relative: int, linear: int, *aim_and_duration: float) -> Status:
        *aim, duration = aim_and_duration
        self.planner.go_to(np.array(aim), bool(relative), bool(linear), duration, t)
        return Status.OK

    def _go_to_simply(self, t: float, relative: int, *aim_and_duration: float) -> Status:
        return self._go_to(t, relative, 0, *aim_and_duration)

    def _spiral(self, t: float, sideways: int, clockwise: int, angle: float, *others: float) -> Status:
        first, last, ascent, duration = others
        if not SHORTEST <= duration <= LONGEST:
            return Status.INVALID
        radii = (max(first, 0.0), max(last, 0.0))
        self.planner.spiral(angle, radii, ascent, duration, bool(sideways), bool(clockwise), t)
        return Status.OK

    def _start(self, t: float, relative: int, turned: int, backwards: int, number: int, scale: float) -> Status:
        described = self._described.get(number)
        if described is None:
            return Status.OK  # as the firmware answers
        compressed = described.kind == _COMPRESSED
        if compressed and (scale != 1.0 or backwards):
            return Status.NOT_A_COMMAND
        if not _SCALES[0] <= scale <= _SCALES[1]:
            return Status.INVALID
        memory = bytes(self.memory)
        if compressed:
            pieces = read_compressed(memory, described.offset)
        else:
            pieces = read_pieces(memory, described.offset, described.pieces)
        if not pieces:
            return Status.INVALID
        self.planner.follow(Trajectory(tuple(pieces), t, scale, bool(backwards)), bool(relative), bool(turned))
        return Status.OK

    def _start_simply(self, t: float, relative: int, backwards: int, number: int, scale: float) -> Status:
        return self._start(t, relative, 0, backwards, number, scale)

    def _define(self, number: int, location: int, kind: int, offset: int, pieces: int) -> Status:
        if number >= TRAJECTORIES:
            return Status.NOT_A_COMMAND
        self._described.pop(number, None)
        if location == _IN_MEMORY and kind in (_PLAIN, _COMPRESSED):
            self._described[number] = _Description(kind, offset, pieces)
        return Status.OK


def _verdict(accepted: bool) -> int:
    return Status.OK if accepted else _REFUSED


class _Command(NamedTuple):
    """Arguments on the wire; the method; whether it moves the vehicle: then the groups are first among them."""

    shape: struct.Struct
    run: Callable[..., int]
    moves: bool = True


_COMMANDS = {
    0: _Command(struct.Struct("<B"), HighLevelCommander._set_groups, moves=False),
    1: _Command(struct.Struct("<Bff"), HighLevelCommander._take_off_simply),
    2: _Command(struct.Struct("<Bff"), HighLevelCommander._land_simply),
    3: _Command(struct.Struct("<B"), HighLevelCommander._stop, moves=False),
    4: _Command(struct.Struct("<BB5f"), HighLevelCommander._go_to_simply),
    5: _Command(struct.Struct("<BBBBf"), HighLevelCommander._start_simply),
    6: _Command(struct.Struct("<BBBIB"), HighLevelCommander._define, moves=False),
    7: _Command(struct.Struct("<Bff?f"), HighLevelCommander._take_off),
    8: _Command(struct.Struct("<Bff?f"), HighLevelCommander._land),
    9: _Command(struct.Struct("<Bf?f?f"), HighLevelCommander._take_off_fast),
    10: _Command(struct.Struct("<Bf?f?f"), HighLevelCommander._land_fast),
    11: _Command(struct.Struct("<BBB5f"), HighLevelCommander._spiral),
    12: _Command(struct.Struct("<BBB5f"), HighLevelCommander._go_to),
    13: _Command(struct.Struct("<BBBBBf"), HighLevelCommander._start),
}
