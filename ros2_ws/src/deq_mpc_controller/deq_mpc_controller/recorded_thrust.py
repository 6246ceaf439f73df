"""What the thrust integers in a bag of a Crazyswarm2 system mean; see ``deq_mpc_core.learning.recorded_vehicle``."""

from __future__ import annotations

from collections.abc import Callable

from deq_mpc_controller.conversions import THRUST_CLIP, ThrustMap, load_thrust_map
from deq_mpc_controller.crazyflies_yaml import read_robot
from deq_mpc_core.errors import UserError
from deq_mpc_core.learning.recorded_vehicle import RecordedVehicle


def thrust_map(vehicle: RecordedVehicle) -> Callable[[float], float]:
    """Collective thrust [N] of ``linear.z`` on ``cmd_vel_legacy``, which the servers cut to an integer.

    Raises:
        UserError: if platform or firmware are not said, or not known.
    """
    thrust = _find(vehicle)
    return lambda integer: thrust.force(int(min(integer, THRUST_CLIP)))


def _find(vehicle: RecordedVehicle) -> ThrustMap:
    platform, firmware = vehicle.platform, vehicle.firmware
    if vehicle.crazyflies_yaml_file is not None:
        entry = read_robot(vehicle.crazyflies_yaml_file, vehicle.robot)
        platform, firmware = platform or entry.platform, firmware or entry.firmware
    if platform is None or firmware is None:
        missing = "--platform" if platform is None else "--firmware"
        raise UserError(f"the thrust of {vehicle.robot} is known by platform and firmware; add {missing}")
    return load_thrust_map(platform, firmware)
