"""The controller node with a log of the setpoints that it sends, see ``setpoint_age``; all else is the flight's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from deq_mpc_controller.controller_node import ControllerNode
from deq_mpc_controller.controller_node import main as run_controller
from deq_mpc_controller.conversions import ThrustMap, packet_from_rpyt, rpyt_from_command
from deq_mpc_controller.link import CrazyflieLink
from deq_mpc_controller.vehicle_io import LinkConfig, Setpoint, SetpointKind
from deq_mpc_sim.setpoint_age import FOLDER_VARIABLE, SENT, PacketLog


class ObservedControllerNode(ControllerNode):
    """Notes each packet of a setpoint that was computed from a pose, with that pose's stamp."""

    def _make_cflib_link(self, uri: str, thrust_map: ThrustMap, config: LinkConfig) -> CrazyflieLink:
        self._log = PacketLog()

        def note(_now: float, setpoint: Setpoint) -> None:
            if setpoint.kind is SetpointKind.FLY and setpoint.stamp is not None:
                stamp = self._flight_clock.to_system(setpoint.stamp)
                self._log.add(stamp, packet_from_rpyt(rpyt_from_command(setpoint.command, thrust_map)))

        return CrazyflieLink(uri, thrust_map, config, on_sent=note)

    def destroy_node(self) -> Any:
        """Leave the ROS graph and the log."""
        self._log.save(Path(os.environ[FOLDER_VARIABLE]) / SENT)
        return super().destroy_node()


def main() -> None:
    """Entry point of the node."""
    run_controller(ObservedControllerNode)
