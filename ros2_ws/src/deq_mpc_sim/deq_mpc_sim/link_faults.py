"""One direction of a bad radio link in simulated time: packets go in, and come out late, in another order, or never."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from deq_mpc_sim.crtp import Packet
from deq_mpc_sim.faults import Direction, Fault, FaultKind, worst

HOLD_BACK = 0.02  # s: how long a reordered packet waits


class LinkFaults:
    """A queue of packets that are under way."""

    def __init__(self, direction: Direction, rng: np.random.Generator) -> None:
        """An empty queue for packets in ``direction``; ``rng`` decides which are lost or held back."""
        self._direction = direction
        self._rng = rng
        self._waiting: list[tuple[float, int, Packet]] = []  # a heap: due [s], running number, packet
        self._sent = 0

    @property
    def next_due(self) -> float:
        """When the next packet arrives [s]; infinite if none is under way."""
        return self._waiting[0][0] if self._waiting else float("inf")

    def send(self, packet: Packet, t: float, faults: Sequence[Fault]) -> None:
        """A packet sets out at ``t`` [s] while ``faults`` are active."""
        mine = [fault for fault in faults if fault.concerns(self._direction)]
        lost, held = self._rng.random(2)
        if any(fault.kind is FaultKind.MUTE for fault in mine) or lost < worst(mine, FaultKind.LOSS):
            return
        due = t + worst(mine, FaultKind.DELAY)
        due += HOLD_BACK if held < worst(mine, FaultKind.REORDER) else 0.0
        heapq.heappush(self._waiting, (due, self._sent, packet))
        self._sent += 1

    def receive(self, t: float) -> list[Packet]:
        """The packets that have arrived by ``t`` [s]."""
        arrived = []
        while self._waiting and self._waiting[0][0] <= t:
            arrived.append(heapq.heappop(self._waiting)[2])
        return arrived
