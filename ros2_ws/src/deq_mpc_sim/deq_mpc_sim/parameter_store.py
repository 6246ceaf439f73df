"""Parameters of the virtual Crazyflie (port 2). All can be written and read back; these are obeyed:

| parameter | effect |
|---|---|
| hlCommander.groupmask, .vtoff, .vland | groups and default speeds of the high-level commander |
| kalman.resetEstimation | the estimate begins again, at kalman.initialX, Y, Z and Yaw; the parameter goes back to 0 |
| pm.lowVoltage | below it for 5 s, pm.state says low |
| posCtlPid.*, velCtlPid.* | gains and limits of the position controller, but for derivatives and feed-forwards |
| stabilizer.stop | emergency stop |
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from deq_mpc_sim.crtp import MAX_DATA, PARAM_TYPES, Status
from deq_mpc_sim.toc import CHARACTERS, Toc, TocSize, toc_config

_EXTENDED, _READ_ONLY = 0x10, 0x40  # bits of the type byte
_PERSISTENT = 1  # extended type
_SET_BY_NAME, _EXTENDED_TYPE_OLD, _STORE, _STORED, _FORGET, _DEFAULT_OLD, _EXTENDED_TYPE, _DEFAULT = (
    0,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
)


class Parameter(NamedTuple):
    """A parameter: ``group.name``, type as a ``struct`` character, default and attributes."""

    name: str
    kind: str
    default: float
    persistent: bool = False
    read_only: bool = False

    @property
    def code(self) -> int:
        """Type byte in the table."""
        return PARAM_TYPES[self.kind] | (_READ_ONLY if self.read_only else 0) | (_EXTENDED if self.persistent else 0)

    def pack(self, value: float) -> bytes:
        """A value on the wire."""
        return struct.pack("<" + self.kind, float(value) if self.kind == "f" else int(value))


@cache
def firmware_parameters(size: TocSize) -> tuple[Parameter, ...]:
    """The parameters of ``config/toc.yaml``; those that the small table leaves out are still obeyed."""
    found = []
    for group, members in toc_config().parameters.items():
        for member, (kind, default, *attributes) in members.items():
            character = CHARACTERS[kind]  # type: ignore[index]
            found.append(
                Parameter(
                    f"{group}.{member}", character, float(default), "persistent" in attributes, "fixed" in attributes
                )
            )
    return tuple(parameter for parameter in found if size == "full" or parameter.name in toc_config().small.parameters)


class ParameterStore:
    """The parameters' values, and what of them is stored beyond a reboot."""

    def __init__(self, size: TocSize = "small", stored: dict[str, bytes] | None = None) -> None:
        """Parameters as after a boot.

        Args:
            size: of the table.
            stored: the memory that outlives a reboot; written to.
        """
        self._parameters: Sequence[Parameter] = firmware_parameters(size)
        self._by_name = {parameter.name: parameter for parameter in firmware_parameters("full")}
        self._stored = {} if stored is None else stored
        self._values = {p.name: p.pack(p.default) for p in self._by_name.values()} | self._stored
        self.toc = Toc([(parameter.name, parameter.code) for parameter in self._parameters])

    def value(self, name: str) -> float:
        """Present value of ``group.name``."""
        return float(struct.unpack("<" + self._by_name[name].kind, self._values[name])[0])

    def set(self, name: str, value: float) -> None:
        """Change ``group.name``."""
        self._values[name] = self._by_name[name].pack(value)

    def read(self, request: bytes) -> bytes | None:
        """Reply to a read: index, status, value."""
        parameter = self._find(request)
        if parameter is None:
            return request[:2] + bytes([Status.NO_SUCH_ENTRY])
        return request[:2] + bytes([Status.OK]) + self._values[parameter.name]

    def write(self, request: bytes) -> bytes | None:
        """Reply to a write: the request, with the value that now holds; none if the parameter is fixed."""
        parameter = self._find(request)
        if parameter is None:
            return request[:2] + bytes([Status.NO_SUCH_ENTRY])
        if parameter.read_only:
            return None
        value = request[2:]
        if len(value) == struct.calcsize("<" + parameter.kind):
            self._values[parameter.name] = value
        return request[:2] + self._values[parameter.name]

    def manage(self, request: bytes) -> bytes | None:
        """Reply to a command about parameters: by name, types, defaults, storage."""
        if len(request) < 3:
            return None
        command = request[0]
        if command == _SET_BY_NAME:
            return self._write_by_name(request)
        parameter = self._find(request[1:])
        if command in (_EXTENDED_TYPE_OLD, _EXTENDED_TYPE):
            answer = None if parameter is None or not parameter.persistent else bytes([_PERSISTENT])
        elif command in (_DEFAULT_OLD, _DEFAULT):
            answer = None if parameter is None or parameter.read_only else parameter.pack(parameter.default)
        elif command in (_STORE, _STORED, _FORGET):
            answer = None if parameter is None or not parameter.persistent else self._persist(command, parameter)
        else:
            return None
        if answer is None:
            return request[:3] + bytes([Status.NO_SUCH_ENTRY])
        return request[:3] + (b"\0" if command in (_EXTENDED_TYPE, _DEFAULT) else b"") + answer

    def _persist(self, command: int, parameter: Parameter) -> bytes:
        """Store, forget or show what is stored; the answer's bytes."""
        if command == _STORE:
            self._stored[parameter.name] = self._values[parameter.name]
        elif command == _FORGET:
            self._stored.pop(parameter.name, None)
        else:
            kept = self._stored.get(parameter.name)
            default = parameter.pack(parameter.default)
            return b"\0" + default if kept is None else b"\1" + default + kept
        return bytes([Status.OK])

    def _write_by_name(self, request: bytes) -> bytes | None:
        """``group NUL name NUL type value``: the names and a status."""
        group, _, rest = request[1:].partition(b"\0")
        member, separator, typed = rest.partition(b"\0")
        if not separator or not typed:
            return None
        parameter = self._by_name.get(f"{group.decode('latin-1')}.{member.decode('latin-1')}")
        if parameter is None:
            status = Status.NO_SUCH_ENTRY
        elif typed[0] != PARAM_TYPES[parameter.kind] or len(typed) < 1 + struct.calcsize("<" + parameter.kind):
            status = Status.INVALID
        elif parameter.read_only:
            status = Status.READ_ONLY
        else:
            status = Status.OK
            self._values[parameter.name] = typed[1 : 1 + struct.calcsize("<" + parameter.kind)]
        return (request[:1] + group + b"\0" + member + b"\0" + bytes([status]))[:MAX_DATA]

    def _find(self, request: bytes) -> Parameter | None:
        if len(request) < 2:
            return None
        (index,) = struct.unpack_from("<H", request)
        return self._parameters[index] if index < len(self._parameters) else None
