"""Tables of contents and parameters of the virtual Crazyflie, as the protocol's version 2 serves them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from deq_mpc_sim.crtp import MAX_DATA, PARAM_TYPES, Status

_GET_ITEM, _GET_INFO = 2, 3
_READ_ONLY = 0x40
_ITEM_HEADER = 4  # command, index, type


class Toc:
    """Names and types of variables, numbered in order."""

    def __init__(self, entries: Sequence[tuple[str, int]], limits: bytes = b"") -> None:
        """A table.

        Args:
            entries: (``group.name``, type byte).
            limits: appended to the information reply.
        """
        self._items = [bytes([code]) + name.replace(".", "\0").encode() + b"\0" for name, code in entries]
        if any(len(item) > MAX_DATA - _ITEM_HEADER + 1 for item in self._items):
            raise ValueError("a name is too long for its packet")
        self._information = struct.pack("<HI", len(entries), crc32(b"".join(self._items))) + limits

    def answer(self, request: bytes) -> bytes | None:
        """Reply to a request on the table's channel; None if there is none."""
        if request[:1] == bytes([_GET_INFO]):
            return request[:1] + self._information
        if request[:1] == bytes([_GET_ITEM]) and len(request) >= 3:
            (index,) = struct.unpack_from("<H", request, 1)
            if index < len(self._items):
                return request[:3] + self._items[index]
        return None


class Parameter(NamedTuple):
    """A parameter: ``group.name``, type as a ``struct`` character, default, and whether it is fixed."""

    name: str
    kind: str
    default: float
    read_only: bool = False


PARAMETERS = (
    Parameter("commander.enHighLevel", "B", 1),
    Parameter("firmware.modified", "B", 0, read_only=True),
    Parameter("firmware.revision0", "I", 0, read_only=True),
    Parameter("firmware.revision1", "H", 0, read_only=True),
    Parameter("kalman.resetEstimation", "B", 0),
    Parameter("locSrv.extPosStdDev", "f", 0.01),
    Parameter("locSrv.extQuatStdDev", "f", 0.0045),
    Parameter("pm.criticalLowVoltage", "f", 3.0),
    Parameter("pm.lowVoltage", "f", 3.2),
    Parameter("stabilizer.controller", "B", 1),
    Parameter("stabilizer.estimator", "B", 2),
    Parameter("stabilizer.stop", "B", 0),
)


class ParameterStore:
    """The parameters' values."""

    def __init__(self, parameters: Sequence[Parameter] = PARAMETERS) -> None:
        self._parameters = tuple(parameters)
        self._values = {p.name: struct.pack("<" + p.kind, _cast(p.kind, p.default)) for p in parameters}
        self.toc = Toc([(p.name, PARAM_TYPES[p.kind] | (_READ_ONLY if p.read_only else 0)) for p in parameters])

    def value(self, name: str) -> float:
        """Present value of ``group.name``."""
        kind = next(p.kind for p in self._parameters if p.name == name)
        return float(struct.unpack("<" + kind, self._values[name])[0])

    def reset(self, name: str) -> None:
        """Set ``group.name`` back to its default."""
        parameter = next(p for p in self._parameters if p.name == name)
        self._values[name] = struct.pack("<" + parameter.kind, _cast(parameter.kind, parameter.default))

    def read(self, request: bytes) -> bytes | None:
        """Reply to a read: index, status, value."""
        parameter = self._find(request)
        if parameter is None:
            return request[:2] + bytes([Status.NO_SUCH_ENTRY])
        return request[:2] + bytes([Status.OK]) + self._values[parameter.name]

    def write(self, request: bytes) -> bytes:
        """Reply to a write: the request, with the value that now holds."""
        parameter = self._find(request)
        if parameter is None:
            return request[:2] + bytes([Status.NO_SUCH_ENTRY])
        value = request[2:]
        if not parameter.read_only and len(value) == struct.calcsize("<" + parameter.kind):
            self._values[parameter.name] = value
        return request[:2] + self._values[parameter.name]

    def _find(self, request: bytes) -> Parameter | None:
        if len(request) < 2:
            return None
        (index,) = struct.unpack_from("<H", request)
        return self._parameters[index] if index < len(self._parameters) else None


def _cast(kind: str, value: float) -> float | int:
    return float(value) if kind in "ef" else int(value)
