"""A virtual Crazyflie behind UDP that remembers what it received, and the real link to it."""

import time
from collections.abc import Callable

import numpy as np

from deq_mpc_controller.conversions import load_thrust_map, rpyt_from_packet
from deq_mpc_controller.link import CrazyflieLink
from deq_mpc_controller.settings import controller_config
from deq_mpc_controller.vehicle_io import LinkConfig, Setpoint, SetpointKind
from deq_mpc_core.policy.interface import Command
from deq_mpc_sim.crtp import Packet, Port
from deq_mpc_sim.udp_server import UdpServer
from deq_mpc_sim.vehicle import Vehicle
from deq_mpc_sim.virtual_crazyflie import VirtualCrazyflie

CONFIG = controller_config().link
THRUST_MAP = load_thrust_map("cf21_legacy_props", "2026.04")
CLIMB = Setpoint(SetpointKind.FLY, Command(0.0, 0.0, 0.0, 0.36), arm=True)


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.005)


class Witness(VirtualCrazyflie):
    """A virtual Crazyflie that remembers what it received, and falls silent, or old, on demand."""

    def __init__(self, vehicle: Vehicle, auto_arm: bool, protocol: int) -> None:
        super().__init__(vehicle, auto_arm=auto_arm)
        self.received: list[Packet] = []
        self.protocol = protocol
        self.mute = False

    def handle(self, packet: Packet) -> list[Packet]:
        self.received.append(packet)
        if self.mute or (packet.port == Port.SUPERVISOR and self.protocol < 12):
            return []
        replies = super().handle(packet)
        if (packet.port, packet.channel, packet.data) == (Port.PLATFORM, 1, b"\0"):
            return [Packet(Port.PLATFORM, 1, bytes([0, self.protocol]))]
        return replies

    def advance(self, dt: float) -> list[Packet]:
        stream = super().advance(dt)
        return [] if self.mute else stream

    def sent_to(self, port: int, channel: int = 0) -> list[bytes]:
        """Data of the packets that came to a port and channel."""
        return [packet.data for packet in list(self.received) if (packet.port, packet.channel) == (port, channel)]

    def thrusts(self) -> list[int]:
        """Of the RPYT packets."""
        return [rpyt_from_packet(data).thrust for data in self.sent_to(Port.COMMANDER)]


class WitnessServer(UdpServer):
    """Behind a UDP port."""

    def __init__(self, auto_arm: bool = True, protocol: int = 12, port: int = 0) -> None:
        vehicle = Vehicle()
        vehicle.reset(np.zeros(3))
        self.crazyflie = Witness(vehicle, auto_arm, protocol)
        super().__init__(self.crazyflie, port=port)


def connected(server: UdpServer, config: LinkConfig = CONFIG, **options: object) -> CrazyflieLink:
    link = CrazyflieLink(server.uri, THRUST_MAP, config, **options)
    link.connect()
    wait_for(lambda: link.status().age < 1.0)
    return link
