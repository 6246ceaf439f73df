"""A Crazyflie that exists in software: packets and time go in, packets and motion come out. No sockets, no clock.

    crazyflie = VirtualCrazyflie(vehicle)
    replies = crazyflie.handle(packet)
    stream = crazyflie.advance(0.01)

``udp_server`` puts it behind a UDP port in real time, for the real cflib.
"""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.rotations import rpy_from_quat
from deq_mpc_sim.crtp import MAX_DATA, Packet, Port, Status
from deq_mpc_sim.log_blocks import LogBlocks
from deq_mpc_sim.supervisor import Supervisor
from deq_mpc_sim.telemetry import VARIABLES, Telemetry
from deq_mpc_sim.toc import ParameterStore
from deq_mpc_sim.vehicle import STOP, Truth, Vehicle

Array = NDArray[np.float64]

_log = logging.getLogger(__name__)

PROTOCOL_VERSION = 12
FIRMWARE_VERSION = b"2026.04 virtual\0"

_TICK = 0.005  # s: how often the supervisor decides
_EMERGENCY_STOP, _EMERGENCY_WATCHDOG, _EXTPOSE = 3, 4, 8  # types on the localization port
_STOP_SETPOINT, _MANUAL_SETPOINT = 0, 11  # types on the generic commander's port
_OTHER_SETPOINTS = {1: "velocity", 2: "z-distance", 5: "hover", 6: "full-state", 7: "position"}
_OTHER_SETPOINTS |= {8: "velocity", 9: "z-distance", 10: "hover"}
_HIGH_LEVEL_PORT = 8
_GET_STATE = 0x0C
_ARM, _RECOVER, _STOP_NOW, _FEED_WATCHDOG = 1, 2, 3, 4  # commands on the supervisor's port


class VirtualCrazyflie:
    """Protocol, supervisor and vehicle of one Crazyflie; deterministic."""

    def __init__(self, vehicle: Vehicle, auto_arm: bool = True, force: Callable[[float], Array] | None = None) -> None:
        """A Crazyflie that has just booted where ``vehicle`` is.

        Args:
            vehicle: stepped from here on by this object alone.
            auto_arm: whether it arms itself.
            force: external force (3,) [N] as a function of time [s], e.g. gusts; default: none.
        """
        self._vehicle = vehicle
        self._force = force
        self._supervisor = Supervisor(auto_arm)
        self._parameters = ParameterStore()
        self._log = LogBlocks(VARIABLES)
        self._setpoint = STOP
        self._ignored: set[str] = set()
        # The estimator knows its position and heading only relative to where it booted, until external poses arrive.
        self._offset = -vehicle.truth.pos
        self._yaw_offset = -float(vehicle.truth.rpy[2])
        self._boot_offsets = (self._offset, self._yaw_offset)

    @property
    def t(self) -> float:
        """Time since boot [s]."""
        return self._vehicle.t

    @property
    def truth(self) -> Truth:
        """What the vehicle really does."""
        return self._vehicle.truth

    @property
    def bits(self) -> int:
        """The supervisor's state, see ``supervisor.Bit``."""
        return self._supervisor.bits(self.t)

    def advance(self, dt: float) -> list[Packet]:
        """Let ``dt`` [s] pass; returns the log data that became due."""
        packets: list[Packet] = []
        end = self.t + dt
        while self.t < end - 1e-9:
            self._setpoint = self._supervisor.decide(self.t, self._vehicle.tilt)
            force = np.zeros(3) if self._force is None else self._force(self.t)
            before = self.t
            self._vehicle.step_setpoint(min(_TICK, end - self.t), self._setpoint, force)
            if self.t == before:
                break  # less than a physics step: the vehicle keeps it for the next call
            packets += [Packet(Port.LOG, 2, data) for data in self._log.stream(self.t, self.telemetry)]
        return packets

    def telemetry(self) -> Telemetry:
        """A snapshot of what can be logged."""
        truth = self._vehicle.truth
        trim = np.append(self._vehicle.parameters.trim, self._yaw_offset)
        return Telemetry(
            truth=truth,
            pos=truth.pos + self._offset,
            rpy=(truth.rpy + trim + np.pi) % (2.0 * np.pi) - np.pi,
            setpoint=self._setpoint,
            motors=self._vehicle.motor_counts,
            bits=self.bits,
            low_voltage=self._parameters.value("pm.lowVoltage"),
        )

    def handle(self, packet: Packet) -> list[Packet]:
        """Obey a packet; returns the replies. What is not simulated is ignored, and said so once."""
        handlers: dict[int, Callable[[int, bytes], bytes | None]] = {
            Port.PARAM: self._on_param,
            Port.COMMANDER: self._on_commander,
            Port.MEMORY: self._on_memory,
            Port.LOG: self._on_log,
            Port.LOCALIZATION: self._on_localization,
            Port.GENERIC_COMMANDER: self._on_generic_commander,
            Port.SUPERVISOR: self._on_supervisor,
            Port.PLATFORM: self._on_platform,
            Port.LINK: self._on_link,
        }
        handler = handlers.get(packet.port)
        if handler is None:
            self._ignore("high-level commands" if packet.port == _HIGH_LEVEL_PORT else f"port {packet.port}")
            return []
        reply = handler(packet.channel, packet.data)
        return [] if reply is None else [Packet(packet.port, packet.channel, reply)]

    def _ignore(self, what: str) -> None:
        """Say, once for each kind, that packets have no effect."""
        if what not in self._ignored:
            self._ignored.add(what)
            _log.warning("the virtual Crazyflie ignores %s; see deq-mpc virtual-crazyflie --help", what)

    def _on_link(self, channel: int, data: bytes) -> bytes | None:
        if channel == 0:
            return data
        return b"Bitcraze Crazyflie".ljust(MAX_DATA, b"\0") if channel == 1 else None

    def _on_platform(self, channel: int, data: bytes) -> bytes | None:
        if channel == 1 and data[:1] == b"\x00":
            return bytes([0, PROTOCOL_VERSION])
        return b"\x01" + FIRMWARE_VERSION if channel == 1 and data[:1] == b"\x01" else None

    def _on_memory(self, channel: int, data: bytes) -> bytes | None:
        return b"\x01\x00" if channel == 0 and data[:1] == b"\x01" else None

    def _on_log(self, channel: int, data: bytes) -> bytes | None:
        if channel == 0:
            return self._log.toc.answer(data)
        return self._log.command(data, self.t) if channel == 1 else None

    def _on_param(self, channel: int, data: bytes) -> bytes | None:
        if channel == 0:
            return self._parameters.toc.answer(data)
        if channel == 1:
            return self._parameters.read(data)
        if channel == 2:
            reply = self._parameters.write(data)
            self._apply_parameters()
            return reply
        return data[:3] + bytes([Status.NO_SUCH_ENTRY]) if len(data) >= 3 else None

    def _apply_parameters(self) -> None:
        """What a written parameter sets off."""
        if self._parameters.value("kalman.resetEstimation"):
            self._offset, self._yaw_offset = self._boot_offsets
            self._parameters.reset("kalman.resetEstimation")
        if self._parameters.value("stabilizer.stop"):
            self._supervisor.emergency_stop()

    def _on_commander(self, channel: int, data: bytes) -> None:
        if channel == 0:
            self._supervisor.receive_rpyt(data, self.t)

    def _on_generic_commander(self, channel: int, data: bytes) -> None:
        if channel == 0 and data[:1] == bytes([_STOP_SETPOINT]):
            self._supervisor.receive_stop(self.t)
        elif channel == 0 and data[:1] == bytes([_MANUAL_SETPOINT]):
            self._supervisor.receive_manual(data[1:], self.t)
        elif channel == 0 and data:
            self._ignore(f"{_OTHER_SETPOINTS.get(data[0], f'type-{data[0]}')} setpoints")

    def _on_localization(self, channel: int, data: bytes) -> None:
        if channel == 0 and len(data) >= 12:
            self._locate(struct.unpack_from("<3f", data))
        elif channel == 1 and data[:1] == bytes([_EMERGENCY_STOP]):
            self._supervisor.emergency_stop()
        elif channel == 1 and data[:1] == bytes([_EMERGENCY_WATCHDOG]):
            self._supervisor.feed_watchdog(self.t)
        elif channel == 1 and data[:1] == bytes([_EXTPOSE]) and len(data) >= 29:
            pose = struct.unpack_from("<7f", data, 1)
            self._locate(pose[:3])
            self._orient(pose[3:])

    def _locate(self, pos: tuple[float, ...]) -> None:
        """Take an external position; the estimate follows the true motion until the next one."""
        if all(math.isfinite(value) for value in pos):
            self._offset = np.array(pos) - self._vehicle.truth.pos

    def _orient(self, quat: tuple[float, ...]) -> None:
        """Take the heading of an external quaternion, xyzw; one that is not finite means position only."""
        norm = math.hypot(*quat)
        if math.isfinite(norm) and norm > 0.5:
            self._yaw_offset = float(rpy_from_quat(quat)[2] - self._vehicle.truth.rpy[2])

    def _on_supervisor(self, channel: int, data: bytes) -> bytes | None:
        if channel == 0 and data[:1] == bytes([_GET_STATE]):
            return struct.pack("<BH", 0x80 | _GET_STATE, self.bits)
        if channel != 1 or not data:
            return None
        if data[0] == _ARM and len(data) >= 2:
            done = self._supervisor.arm(bool(data[1]), self.t)
            return bytes([0x80 | _ARM, done, self._supervisor.armed])
        if data[0] == _RECOVER:
            recovered = self._supervisor.recover()
            return bytes([0x80 | _RECOVER, recovered, recovered])
        if data[0] == _STOP_NOW:
            self._supervisor.emergency_stop()
        elif data[0] == _FEED_WATCHDOG:
            self._supervisor.feed_watchdog(self.t)
        return None
