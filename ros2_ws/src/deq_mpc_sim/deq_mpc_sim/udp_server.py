"""Puts a virtual Crazyflie behind a UDP port, in real time, where the real cflib connects to it.

with UdpServer(crazyflie, port=19850) as server:
    server.truth()
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from deq_mpc_core.errors import UserError
from deq_mpc_sim.crtp import SCAN, Packet, decode, encode
from deq_mpc_sim.vehicle import Truth

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 19850

_WAIT = 0.005  # s: longest wait for a datagram; the vehicle moves on at least so often
_MAX_LAG = 0.5  # s: after a longer pause of this process the world continues from where it was
_MAX_DATAGRAM = 64


class Crazyflie(Protocol):
    """What can stand behind a port: a ``VirtualCrazyflie``, or a ``FaultyCrazyflie``."""

    @property
    def t(self) -> float:
        """Its time [s]."""

    @property
    def truth(self) -> Truth:
        """What the vehicle really does."""

    @property
    def bits(self) -> int:
        """The supervisor's state."""

    def handle(self, packet: Packet) -> list[Packet]:
        """Obey a packet; the replies."""

    def advance(self, dt: float) -> list[Packet]:
        """Let ``dt`` [s] pass; what it sends meanwhile."""


class UdpServer:
    """A thread that owns the virtual Crazyflie and a socket."""

    def __init__(self, crazyflie: Crazyflie, port: int = DEFAULT_PORT, host: str = DEFAULT_HOST) -> None:
        """Bind the port; the clock starts with ``start``.

        Args:
            crazyflie: stepped from here on by this object alone.
            port: 0 chooses a free one.
            host: address to listen at.

        Raises:
            UserError: if the port is in use or the address is not this machine's.
        """
        self.on_packet: Callable[[Packet], None] = lambda _packet: None
        """For measurements: gets each packet as soon as it is taken from the socket; set it before ``start``."""
        self._crazyflie = crazyflie
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._peer: tuple[str, int] | None = None
        self._failure: BaseException | None = None
        self._epoch = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="virtual-crazyflie", daemon=True)
        self._socket = _bind(host, port)
        crazyflie.advance(_WAIT)  # compiles the physics before the first packet waits for it

    @property
    def uri(self) -> str:
        """What to hand to cflib."""
        host, port = self._socket.getsockname()
        return f"udp://{host}:{port}"

    def start(self) -> None:
        """Let time run."""
        self._epoch = time.monotonic() - self._crazyflie.t
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and free the port.

        Raises:
            RuntimeError: if the thread had died of an error before.
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
        if self._failure is not None:
            raise RuntimeError("the virtual Crazyflie stopped on an error") from self._failure

    def __enter__(self) -> UdpServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def truth(self) -> Truth:
        """What the vehicle really does, now: it is brought to the present for that, whatever its thread waits for."""
        if self._thread.is_alive():
            self._advance()
        with self._lock:
            return self._crazyflie.truth

    def bits(self) -> int:
        """The supervisor's state, see ``supervisor.Bit``."""
        with self._lock:
            return self._crazyflie.bits

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._receive()
                self._advance()
        except Exception as failure:  # noqa: BLE001 - kept for close(), which raises it
            self._failure = failure

    def _receive(self) -> None:
        """Wait a moment for a datagram and obey it."""
        try:
            datagram, peer = self._socket.recvfrom(_MAX_DATAGRAM)
        except TimeoutError:
            return
        packet = decode(datagram)
        if packet is None:
            return
        self.on_packet(packet)
        if datagram != SCAN or self._peer is None:  # who scans takes nobody's place
            self._peer = peer
        with self._lock:
            replies = self._crazyflie.handle(packet)
        self._send(replies, peer)

    def _advance(self) -> None:
        """Bring the vehicle to the present and send what it logged on the way."""
        with self._lock:
            lag = time.monotonic() - self._epoch - self._crazyflie.t
            if lag > _MAX_LAG:
                self._epoch += lag
                return
            stream = self._crazyflie.advance(lag) if lag > 0.0 else []
        if self._peer is not None:
            self._send(stream, self._peer)

    def _send(self, packets: list[Packet], peer: tuple[str, int]) -> None:
        for packet in packets:
            self._socket.sendto(encode(packet), peer)


def _bind(host: str, port: int) -> socket.socket:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.settimeout(_WAIT)
    try:
        server.bind((host, port))
    except (OSError, OverflowError) as error:
        server.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise UserError(f"UDP port {port} is in use; stop what uses it or choose another port") from error
        raise UserError(f"cannot listen at {host}:{port} ({error}); choose another address or port") from error
    return server
