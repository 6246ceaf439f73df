"""The world node with a log of the setpoints that its vehicle gets, see ``setpoint_age``; all else is the flight's."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from deq_mpc_controller.conversions import SETPOINT_PACKET, rpyt_from_packet
from deq_mpc_sim.crtp import Packet, Port
from deq_mpc_sim.setpoint_age import FOLDER_VARIABLE, RECEIVED, PacketLog
from deq_mpc_sim.world_node import WorldNode
from deq_mpc_sim.world_node import main as run_world


class ObservedWorldNode(WorldNode):
    """Notes each packet with a thrust when the vehicle takes it from its socket."""

    def __init__(self) -> None:
        super().__init__()
        self._log = PacketLog()
        self.server.on_packet = self._note

    def _note(self, packet: Packet) -> None:
        if (packet.port, len(packet.data)) == (Port.COMMANDER, SETPOINT_PACKET.size):
            now = time.time()
            if rpyt_from_packet(packet.data).thrust:
                self._log.add(now, packet.data)

    def destroy_node(self) -> Any:
        """Leave the ROS graph and the log."""
        self._log.save(Path(os.environ[FOLDER_VARIABLE]) / RECEIVED)
        return super().destroy_node()


def main() -> None:
    """Entry point of the node."""
    run_world(ObservedWorldNode)
