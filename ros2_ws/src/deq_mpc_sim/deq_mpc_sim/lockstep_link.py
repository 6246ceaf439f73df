"""The controller's link to a virtual Crazyflie in simulated time: the bytes that cflib would send, without cflib.

When something is sent is the real link's (``deq_mpc_controller.steady_link``), under the vehicle's clock; what is sent,
and what comes of the reports, is as in ``deq_mpc_controller.link``.
"""

from __future__ import annotations

import struct
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deq_mpc_controller.conversions import Rpyt, ThrustMap, encode_extpose, packet_from_rpyt, rpyt_from_command
from deq_mpc_controller.steady_link import Cancelled, SteadyLink, supervisor_fault
from deq_mpc_controller.vehicle_io import LinkConfig, Setpoint, SetpointKind, VehicleStatus
from deq_mpc_sim.crtp import LOG_TYPES, Packet, Port
from deq_mpc_sim.telemetry import log_variables
from deq_mpc_sim.udp_server import Crazyflie

LINK_LOST = "link lost: too many packets lost"
_OFF = Rpyt(0.0, 0.0, 0.0, 0)
_BLOCK = 1
_REPORT = {
    "pm.vbat": "f",
    "supervisor.info": "H",
    "stateEstimate.x": "f",
    "stateEstimate.y": "f",
    "stateEstimate.z": "f",
}
"""What is reported, and as what ``struct`` character."""
_DATA = struct.Struct("<4x" + "".join(_REPORT.values()))
_RESET, _CREATE, _START = 5, 6, 3
_PERIOD_UNIT = 0.01  # s
_ARM = 1
_EMERGENCY, _STOP = b"\x03", b"\x00"


class _Report(NamedTuple):
    """What the vehicle logged, and when that came."""

    time: float = -inf
    voltage: float = 0.0
    bits: int = 0
    pos: NDArray[np.float64] | None = None


class LockstepLink(SteadyLink):
    """One virtual Crazyflie. Call ``serve`` often, and ``receive`` with what the vehicle sends."""

    def __init__(self, crazyflie: Crazyflie, thrust_map: ThrustMap, config: LinkConfig) -> None:
        """A link that is not connected yet."""
        super().__init__(config, clock=lambda: crazyflie.t)
        self._crazyflie = crazyflie
        self._thrust_map = thrust_map
        self._report = _Report()
        self._opened = -inf
        self._lost = ""
        self._connecting = False
        self.fails = False
        """Whether sending ends in an error."""

    def connect(self, cancelled: Cancelled = lambda: False) -> bool:
        """Ask for the reports; the first that comes tells that somebody is there."""
        self._opened = self._clock()
        self._connecting = True
        names = list(log_variables("small"))
        variables = (struct.pack("<BH", LOG_TYPES[kind], names.index(name)) for name, kind in _REPORT.items())
        period = round(self._config.log_period / _PERIOD_UNIT)
        for request in (
            bytes([_RESET]),
            bytes([_CREATE, _BLOCK]) + b"".join(variables),
            bytes([_START, _BLOCK, period]),
        ):
            self._send_packet(Port.LOG, 1, request)
        return True

    def lose(self) -> None:
        """From now on nothing is sent: cflib has given the link up."""
        self._lost, self._connecting = LINK_LOST, False

    def receive(self, packets: list[Packet]) -> None:
        """What came from the vehicle."""
        for packet in packets:
            is_report = (packet.port, packet.channel) == (Port.LOG, 2) and len(packet.data) == _DATA.size
            if is_report and (self._connecting or not self._lost):
                self._lost, self._connecting = "", False
                voltage, bits, *pos = _DATA.unpack(packet.data)
                self._report = _Report(self._clock(), voltage, bits, np.array(pos))

    def _vehicle_status(self) -> VehicleStatus:
        """What the vehicle last reported."""
        report = self._report
        return VehicleStatus(
            armed=self._is_armed(),
            voltage=report.voltage,
            age=self._clock() - report.time,
            fault=self._lost or supervisor_fault(report.bits),
            lost=self._lost != "",
            pos=report.pos,
        )

    def serve(self) -> None:
        """Send what is due now; an error is the status's."""
        self._guard(super().serve)

    def _send_packet(self, port: Port, channel: int, data: bytes) -> None:
        if self.fails:
            raise OSError("no buffer space available")
        if self._connecting or not self._lost:
            self.receive(self._crazyflie.handle(Packet(port, channel, data)))

    def _reaches_vehicle(self) -> bool:
        return not self._lost

    def _disconnect(self) -> None:
        self._send_packet(Port.COMMANDER, 0, packet_from_rpyt(_OFF))

    def _bits(self) -> int:
        return self._report.bits

    def _request_arming(self, arm: bool) -> None:
        self._send_packet(Port.SUPERVISOR, 1, bytes([_ARM, arm]))

    def _request_emergency(self) -> None:
        self._send_packet(Port.SUPERVISOR, 1, _EMERGENCY)

    def _send_stop(self) -> None:
        self._send_packet(Port.GENERIC_COMMANDER, 0, _STOP)

    def _forward_pose(self, pos: ArrayLike, quat: ArrayLike) -> None:
        self._send_packet(Port.LOCALIZATION, 1, encode_extpose(pos, quat))

    def _send_setpoint(self, setpoint: Setpoint) -> None:
        if setpoint.kind is SetpointKind.OFF:
            self._send_packet(Port.COMMANDER, 0, packet_from_rpyt(_OFF))
        elif setpoint.kind is SetpointKind.FLY:
            rpyt = rpyt_from_command(setpoint.command, self._thrust_map)
            self._send_packet(Port.COMMANDER, 0, packet_from_rpyt(rpyt))

    def _tend(self) -> None:
        """With the motors off, make a link that is lost or mute anew, as often as it takes."""
        if self._lost and not self._is_down():
            return
        silence = self._clock() - max(self._report.time, self._opened)
        if (self._lost and not self._connecting) or silence > self._config.mute_time:
            self._disconnect()
            self.connect()
