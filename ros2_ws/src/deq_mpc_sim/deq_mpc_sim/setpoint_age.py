"""How old the measurement behind a setpoint is when the setpoint's packet reaches the vehicle.

Two processes keep a log: the controller's of each packet that it sends, with the stamp of the pose that it was computed
from; the vehicle's of each packet that it receives, with the time at which it takes it from its socket. The age is
the difference, on the one system clock of both, of packets that are equal byte for byte and in the same order: the
packets themselves carry nothing for the measurement. It contains what the motion capture itself takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller.conversions import SETPOINT_PACKET
from deq_mpc_core.errors import UserError

Array = NDArray[np.float64]

FOLDER_VARIABLE = "DEQ_MPC_SETPOINT_LOGS"
"""Environment variable that names the folder for the logs."""
SENT, RECEIVED = "sent.npz", "received.npz"
CAPACITY = 200_000
"""Packets that a log has room for: half an hour. Of a longer flight it has the beginning."""
_LOOK_AHEAD = 50  # packets: so many lost in a row end a flight long before


class PacketLog:
    """Packets, each with a time [s] of the system's clock: its pose's stamp if it was sent, its arrival if received."""

    def __init__(self) -> None:
        # written to at once: a log that grows would show as memory of the process that is measured
        self._times = np.full(CAPACITY, np.nan)
        self._packets = np.full((CAPACITY, SETPOINT_PACKET.size), 0xFF, np.uint8)
        self._count = 0

    @property
    def times(self) -> list[float]:
        """When each was stamped, or came [s]."""
        times: list[float] = self._times[: self._count].tolist()
        return times

    @property
    def packets(self) -> list[bytes]:
        """The bytes of each."""
        return [row.tobytes() for row in self._packets[: self._count]]

    def add(self, time: float, packet: bytes) -> None:
        """Note a setpoint's packet, while there is room."""
        if self._count < CAPACITY:
            self._times[self._count] = time
            self._packets[self._count] = np.frombuffer(packet, np.uint8)
            self._count += 1

    def save(self, path: Path) -> None:
        """Write the log."""
        np.savez(path, times=self._times[: self._count], packets=self._packets[: self._count])

    @classmethod
    def load(cls, path: Path) -> PacketLog:
        """Read what ``save`` wrote.

        Raises:
            UserError: if there is no log.
        """
        log = cls()
        try:
            with np.load(path) as file:
                for time, packet in zip(file["times"].tolist(), file["packets"], strict=True):
                    log.add(time, packet.tobytes())
        except OSError as error:
            raise UserError(f"{path.name} was not written; see above what the nodes say") from error
        return log


@dataclass(frozen=True)
class SetpointAge:
    """Ages of the setpoints of one flight [ms].

    Attributes:
        packets: how many arrived; lost: how many did not; unknown: how many arrived that nobody sent.
    """

    packets: int
    lost: int
    unknown: int
    p50: float
    p99: float
    max: float


def ages(sent: PacketLog, received: PacketLog) -> tuple[Array, int]:
    """Ages (n,) [s] of the received packets that were sent, and how many of the received were not."""
    found: list[float] = []
    stamps, packets = sent.times, sent.packets
    unknown = place = 0
    for arrival, packet in zip(received.times, received.packets, strict=True):
        try:
            place = packets.index(packet, place, place + _LOOK_AHEAD)
        except ValueError:
            unknown += 1
            continue
        found.append(arrival - stamps[place])
        place += 1
    return np.array(found), unknown


def summarise(sent: PacketLog, received: PacketLog) -> SetpointAge:
    """The figures of a flight.

    Raises:
        UserError: if no packet arrived.
    """
    found, unknown = ages(sent, received)
    if not found.size:
        raise UserError("no setpoint reached the vehicle; see above what the nodes say")
    p50, p99 = np.percentile(1e3 * found, (50, 99))
    lost = len(sent.packets) - len(found)
    return SetpointAge(len(found), lost, unknown, float(p50), float(p99), float(1e3 * found.max()))
