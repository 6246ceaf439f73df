"""A virtual Crazyflie on which faults come down: the same interface, with a bad link and a vehicle that breaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deq_mpc_sim.crtp import Packet, Port
from deq_mpc_sim.faults import Direction, Fault, FaultKind, worst
from deq_mpc_sim.link_faults import LinkFaults
from deq_mpc_sim.plant import PlantParameters
from deq_mpc_sim.telemetry import Telemetry
from deq_mpc_sim.vehicle import STEP, Truth, Vehicle
from deq_mpc_sim.virtual_crazyflie import VirtualCrazyflie

_TICK = 0.005  # s: how often faults begin and end
_IN_THE_AIR = 0.02  # m: above the floor it has taken off
_ROUNDING = 1e-9  # s


class FaultyCrazyflie:
    """Wraps a ``VirtualCrazyflie``; deterministic for a seed."""

    def __init__(self, crazyflie: VirtualCrazyflie, faults: Sequence[Fault], seed: int = 0) -> None:
        """``crazyflie`` with ``faults``, whose clock starts now."""
        up, down, gust = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
        self._crazyflie = crazyflie
        self._faults = tuple(faults)
        self._up, self._down = LinkFaults(Direction.UP, up), LinkFaults(Direction.DOWN, down)
        bearing = gust.uniform(-np.pi, np.pi)
        self._wind = np.array([np.cos(bearing), np.sin(bearing), 0.0])
        self._boot = crazyflie.t
        self._takeoff: float | None = None
        self._happened: set[Fault] = set()
        self._sound = crazyflie.vehicle.parameters

    @property
    def t(self) -> float:
        """Time of the vehicle [s]."""
        return self._crazyflie.t

    @property
    def truth(self) -> Truth:
        """What the vehicle really does."""
        return self._crazyflie.truth

    @property
    def vehicle(self) -> Vehicle:
        """Its body."""
        return self._crazyflie.vehicle

    def telemetry(self) -> Telemetry:
        """A snapshot of what can be logged, whether or not it arrives."""
        return self._crazyflie.telemetry()

    @property
    def bits(self) -> int:
        """The supervisor's state, see ``supervisor.Bit``."""
        return self._crazyflie.bits

    def handle(self, packet: Packet) -> list[Packet]:
        """Send a packet to the vehicle; returns the replies that have come back by now."""
        active = self._active()
        if not (_greets(packet) and any(fault.kind is FaultKind.REFUSE for fault in active)):
            self._up.send(packet, self.t, active)
        self._deliver(active)
        return self._down.receive(self.t + _ROUNDING)

    def advance(self, dt: float) -> list[Packet]:
        """Let ``dt`` [s] pass; returns what arrived from the vehicle meanwhile."""
        arrived: list[Packet] = []
        end = self.t + dt
        while self.t < end - _ROUNDING:
            active = self._active()
            self._break(active)
            self._deliver(active)
            before = self.t
            until = min(end, before + _TICK, self._up.next_due, self._down.next_due)
            for packet in self._crazyflie.advance(max(until - before, min(STEP, end - before))):
                self._down.send(packet, self.t, active)
            arrived += self._down.receive(self.t + _ROUNDING)
            if self.t == before:
                break  # less than a physics step: the vehicle keeps it for the next call
        return arrived

    def _active(self) -> list[Fault]:
        if self._takeoff is None and self.truth.pos[2] > _IN_THE_AIR:
            self._takeoff = self.t - self._boot
        return [fault for fault in self._faults if fault.active(self.t - self._boot, self._takeoff)]

    def _deliver(self, active: Sequence[Fault]) -> None:
        """Let the vehicle have what has arrived, and send its replies back."""
        for packet in self._up.receive(self.t + _ROUNDING):
            for reply in self._crazyflie.handle(packet):
                self._down.send(reply, self.t, active)

    def _break(self, active: Sequence[Fault]) -> None:
        """Do to the vehicle what the active faults do."""
        for fault in active:
            if fault not in self._happened and fault.kind is FaultKind.REBOOT:
                self._crazyflie.reboot()
            elif fault not in self._happened and fault.kind is FaultKind.LOCKED:
                self._crazyflie.lock()
            elif fault not in self._happened and fault.kind is FaultKind.KNOCK:
                self.vehicle.knock(fault.value * self._wind)
        self._happened.update(active)
        self.vehicle.parameters = _broken(self._sound, active)
        self._crazyflie.push = worst(active, FaultKind.GUST) * self._wind


def _broken(sound: PlantParameters, active: Sequence[Fault]) -> PlantParameters:
    """A vehicle with dead motors, bad propellers and an empty battery, as the active faults say."""
    thrust_max = sound.thrust_max.copy()
    voltage = sound.full_voltage
    for fault in active:
        if fault.kind is FaultKind.DEAD_MOTOR:
            thrust_max[int(fault.value) - 1] = 0.0
        elif fault.kind is FaultKind.WEAK:
            thrust_max *= 1.0 - fault.value
        elif fault.kind is FaultKind.WORN:
            thrust_max[0] *= 1.0 - fault.value
        elif fault.kind is FaultKind.LOW_BATTERY:
            voltage = min(voltage, fault.value)
    return sound._replace(thrust_max=thrust_max, full_voltage=voltage)


def _greets(packet: Packet) -> bool:
    """Whether it is a scan or the first packet of a connection."""
    return packet.port == Port.LINK and packet.channel in (1, 3)
