"""A Crazyflie that exists in software: packets and time go in, packets and motion come out. No sockets, no clock.

    crazyflie = VirtualCrazyflie(vehicle)
    replies = crazyflie.handle(packet)
    stream = crazyflie.advance(0.01)

This module only distributes: each port's work is in a module of its own. ``udp_server`` puts it behind a UDP port in
real time, for the real cflib; ``faulty_crazyflie`` makes it fail on demand.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deq_mpc_sim.autopilot import Autopilot
from deq_mpc_sim.crtp import Packet, Port
from deq_mpc_sim.log_blocks import LogBlocks
from deq_mpc_sim.memory import MemoryPort
from deq_mpc_sim.parameter_store import ParameterStore
from deq_mpc_sim.services import link_reply, platform_reply, supervisor_reply
from deq_mpc_sim.telemetry import Telemetry, log_variables
from deq_mpc_sim.toc import TocSize
from deq_mpc_sim.vehicle import Truth, Vehicle

Array = NDArray[np.float64]

_log = logging.getLogger(__name__)

BOOT_TIME = 1.5  # s: from a reboot to the first answer; estimated
_TICK = 0.005  # s: how often the supervisor decides
_EMERGENCY_STOP, _EMERGENCY_WATCHDOG, _EXTPOSE = 3, 4, 8  # types on the localization port
_NOTIFY_SETPOINTS_STOP = struct.pack("<B", 0)  # on the generic commander's second channel


class VirtualCrazyflie:
    """Protocol, autopilot and vehicle of one Crazyflie; deterministic."""

    def __init__(
        self,
        vehicle: Vehicle,
        auto_arm: bool = True,
        force: Callable[[float], Array] | None = None,
        toc: TocSize = "small",
    ) -> None:
        """A Crazyflie that has just booted where ``vehicle`` is.

        Args:
            vehicle: stepped from here on by this object alone.
            auto_arm: whether it arms itself.
            force: external force (3,) [N] as a function of time [s], e.g. gusts; default: none.
            toc: how many log variables and parameters it has.
        """
        self._vehicle = vehicle
        self._auto_arm = auto_arm
        self._force = force
        self.push = np.zeros(3)
        """(3,) a steady external force beside ``force`` [N]."""
        self._toc = toc
        self._stored_parameters: dict[str, bytes] = {}
        self._ignored: set[str] = set()
        self._handlers: dict[int, Callable[[int, bytes], bytes | None]] = {
            Port.PARAM: self._on_param,
            Port.COMMANDER: self._on_commander,
            Port.MEMORY: lambda channel, data: self._memory.answer(channel, data),
            Port.LOG: self._on_log,
            Port.LOCALIZATION: self._on_localization,
            Port.GENERIC_COMMANDER: self._on_generic_commander,
            Port.HIGH_LEVEL: lambda _, data: self._autopilot.receive_high_level(data, self.t),
            Port.SUPERVISOR: self._on_supervisor,
            Port.PLATFORM: lambda channel, data: platform_reply(channel, data, self._autopilot.supervisor, self.t),
            Port.LINK: link_reply,
        }
        self._boot()
        self._ready_at = self.t

    @property
    def t(self) -> float:
        """Time of the vehicle [s]; it goes on through a reboot."""
        return self._vehicle.t

    @property
    def truth(self) -> Truth:
        """What the vehicle really does."""
        return self._vehicle.truth

    @property
    def vehicle(self) -> Vehicle:
        """Its body, for whoever breaks it."""
        return self._vehicle

    @property
    def bits(self) -> int:
        """The supervisor's state, see ``supervisor.Bit``."""
        return int(self._autopilot.bits(self.t))

    def reboot(self) -> None:
        """Switch it off and on: motors off, and deaf and mute for ``BOOT_TIME``."""
        self._boot()
        self._ready_at = self.t + BOOT_TIME

    def lock(self) -> None:
        """Stop the motors until a reboot, as after an emergency stop."""
        self._autopilot.supervisor.emergency_stop()

    def advance(self, dt: float) -> list[Packet]:
        """Let ``dt`` [s] pass; returns the log data that became due."""
        packets: list[Packet] = []
        end = self.t + dt
        while self.t < end - 1e-9:
            setpoint = self._autopilot.decide(self.t)
            force = self.push if self._force is None else self.push + self._force(self.t)
            before = self.t
            self._vehicle.step_setpoint(min(_TICK, end - self.t), setpoint, force)
            if self.t == before:
                break  # less than a physics step: the vehicle keeps it for the next call
            stream = self._log.stream(self.t - self._booted_at, self.telemetry)
            packets += [Packet(Port.LOG, 2, data) for data in stream]
        return packets

    def handle(self, packet: Packet) -> list[Packet]:
        """Obey a packet; returns the replies. What is not simulated is ignored, and said so once."""
        if self.t < self._ready_at:
            return []
        handler = self._handlers.get(packet.port)
        if handler is None:
            self._ignore(f"port {packet.port}")
            return []
        reply = handler(packet.channel, packet.data)
        return [] if reply is None else [Packet(packet.port, packet.channel, reply)]

    def telemetry(self) -> Telemetry:
        """A snapshot of what can be logged."""
        truth, pilot, p = self._vehicle.truth, self._autopilot, self._vehicle.parameters
        trim = np.append(p.trim, pilot.estimate.turn)
        return Telemetry(
            truth=truth,
            motion=pilot.motion,
            rpy=(truth.rpy + trim + np.pi) % (2.0 * np.pi) - np.pi,
            lift=truth.thrust / (p.mass * p.gravity) if truth.pos[2] > 0.0 else 1.0,
            target=pilot.target,
            setpoint=pilot.setpoint,
            wanted_velocity=pilot.controller.wanted_velocity,
            external=pilot.estimate.external,
            motors=self._vehicle.motor_counts,
            bits=pilot.bits(self.t),
            battery=pilot.gauge.state(self.t),
        )

    def _boot(self) -> None:
        self._booted_at = self.t
        self._parameters = ParameterStore(self._toc, self._stored_parameters)
        self._log = LogBlocks(log_variables(self._toc))
        self._autopilot = Autopilot(self._vehicle, self._parameters, self._auto_arm)
        self._memory = MemoryPort(self._autopilot.high_level.memory)

    def _ignore(self, what: str) -> None:
        """Say, once for each kind, that packets have no effect."""
        if what not in self._ignored:
            self._ignored.add(what)
            _log.warning("the virtual Crazyflie ignores %s; see deq-mpc virtual-crazyflie --help", what)

    def _on_log(self, channel: int, data: bytes) -> bytes | None:
        if channel == 0:
            return self._log.toc.answer(data)
        return self._log.command(data, self.t - self._booted_at) if channel == 1 else None

    def _on_param(self, channel: int, data: bytes) -> bytes | None:
        if channel == 0:
            return self._parameters.toc.answer(data)
        if channel == 1:
            return self._parameters.read(data)
        reply = self._parameters.write(data) if channel == 2 else self._parameters.manage(data)
        self._autopilot.apply_parameters()
        return reply

    def _on_commander(self, channel: int, data: bytes) -> None:
        if channel == 0:
            self._autopilot.receive_rpyt(data, self.t)

    def _on_generic_commander(self, channel: int, data: bytes) -> None:
        if channel == 0:
            self._autopilot.receive_generic(data, self.t)
        elif channel == 1 and data[:1] == _NOTIFY_SETPOINTS_STOP:
            self._autopilot.relax()

    def _on_localization(self, channel: int, data: bytes) -> None:
        estimate, truth = self._autopilot.estimate, self._vehicle.truth
        if channel == 0 and len(data) >= 12:
            estimate.locate(struct.unpack_from("<3f", data), truth)
        elif channel == 1 and data[:1] == bytes([_EMERGENCY_STOP]):
            self._autopilot.supervisor.emergency_stop()
        elif channel == 1 and data[:1] == bytes([_EMERGENCY_WATCHDOG]):
            self._autopilot.supervisor.feed_watchdog(self.t)
        elif channel == 1 and data[:1] == bytes([_EXTPOSE]) and len(data) >= 29:
            pose = struct.unpack_from("<7f", data, 1)
            estimate.locate(pose[:3], truth)
            estimate.orient(pose[3:], truth)

    def _on_supervisor(self, channel: int, data: bytes) -> bytes | None:
        supervisor = self._autopilot.supervisor
        return supervisor_reply(channel, data, supervisor, self._autopilot.bits(self.t), self.t)
