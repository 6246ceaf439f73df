"""Which vehicle flew in bags of another system, and what the integers of its setpoints mean in newtons.

A package that knows vehicles offers that by the entry-point group ``deq_mpc.thrust_maps``: the object is a function
``thrust_map(vehicle: RecordedVehicle) -> Callable[[float], float]``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

from deq_mpc_core.config import Config
from deq_mpc_core.errors import UserError

GROUP = "deq_mpc.thrust_maps"


class RecordedVehicle(Config):
    """What a bag does not say of its vehicle.

    Attributes:
        robot: its name in topics and in arrays of named poses.
        platform, firmware: see ``config/thrust_maps.yaml``; None: not known.
        crazyflies_yaml_file: Crazyswarm2's list of robots, which may say both.
    """

    robot: str
    platform: str | None = None
    firmware: str | None = None
    crazyflies_yaml_file: str | None = None


def integer_thrust(vehicle: RecordedVehicle) -> Callable[[float], float] | None:
    """Collective thrust [N] of a setpoint's integer; None if the vehicle is not known.

    Raises:
        UserError: if it is described wrongly or half, or no installed package knows vehicles.
    """
    if vehicle.platform is None and vehicle.firmware is None and vehicle.crazyflies_yaml_file is None:
        return None
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    if not points:
        raise UserError("no installed package knows thrust maps; install deq_mpc_controller or leave out --platform")
    thrust_of: Callable[[float], float] = points[0].load()(vehicle)
    return thrust_of
