"""ROS parameters as a table: declared once with type, bounds and description; nodes and documentation read it.

A parameter's type is its default's. No ROS in here; ``ros_node.declare_parameters`` hands a table to a node. Each
package names its nodes' tables in the entry-point group ``deq_mpc.node_parameters``, so that values can be checked
before a node starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from deq_mpc_controller.conversions import CRAZYSWARM2_SERVERS, load_thrust_map
from deq_mpc_controller.crazyflies_yaml import SIMULATED_FIRMWARE, SIMULATED_PLATFORM, choose_vehicle
from deq_mpc_controller.launch_file import Node
from deq_mpc_controller.robot_name import check_robot_name
from deq_mpc_controller.settings import controller_config
from deq_mpc_core.errors import UserError

GROUP = "deq_mpc.node_parameters"
CRAZYSWARM2 = "crazyswarm2"
BACKENDS = ("cflib", CRAZYSWARM2)

Value = bool | int | float | str


@dataclass(frozen=True)
class Parameter:
    """One parameter; read once, when the node starts.

    Attributes:
        name, default: its type is the default's.
        description: one line, with the unit.
        low, high: bounds of a number, inclusive.
        choices: of a text; empty: any.
        read: of a text that has a form of its own; raises a UserError for one that has not.
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    read: Callable[[str], object] | None = None

    @property
    def type_name(self) -> str:
        """``bool``, ``int``, ``float`` or ``str``."""
        return type(self.default).__name__

    @property
    def range_text(self) -> str:
        """Bounds or choices in words; "" for none."""
        if self.choices:
            return ", ".join(self.choices)
        if self.low is None and self.high is None:
            return ""
        low, high = ("" if bound is None else f"{bound:g}" for bound in (self.low, self.high))
        return f"{low}..{high}"

    def check(self, value: Value) -> None:
        """Refuse a value, of the parameter's type, that is out of bounds, not finite, no choice, or not of its form.

        Raises:
            UserError: naming value and what would do.
        """
        low = float("-inf") if self.low is None else self.low
        high = float("inf") if self.high is None else self.high
        if self.choices and value not in self.choices:
            raise UserError(f"parameter {self.name!r} is {value!r}; choose one of {self.range_text}")
        if isinstance(value, (int, float)) and not (low <= value <= high and math.isfinite(value)):
            wanted = f"{self.type_name} {self.range_text}".strip()
            raise UserError(f"parameter {self.name!r} is {value}; choose {wanted}")
        if self.read is not None and isinstance(value, str):
            self.read(value)


def node_tables() -> dict[str, tuple[Parameter, ...]]:
    """The tables of all nodes, by executable."""
    return {point.name: point.load() for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def check_nodes(nodes: Sequence[Node]) -> None:
    """Check what a launch file passes to the nodes, before one of them starts.

    Raises:
        UserError: for the first value that its node would refuse, and for what the controller could not load.
    """
    tables = node_tables()
    for node in nodes:
        for parameter in tables.get(node.executable, ()):
            if parameter.name in node.parameters:
                parameter.check(node.parameters[parameter.name])
        if node.executable == "controller_node":
            _check_controller(
                {parameter.name: parameter.default for parameter in CONTROLLER_NODE} | dict(node.parameters)
            )


def check_backend(values: Mapping[str, Any]) -> None:
    """Refuse a simulated vehicle behind a Crazyswarm2 server: both would publish its pose.

    Raises:
        UserError: saying what to leave out.
    """
    if values["backend"] == CRAZYSWARM2 and values["sim"]:
        raise UserError(
            "backend crazyswarm2 flies the vehicles of its server, none that is simulated here; add sim:=false"
        )


def _check_controller(values: Mapping[str, Any]) -> None:
    """Refuse a policy that cannot be flown, and a vehicle that cannot be found or whose thrust is not known."""
    from deq_mpc_core.policy import check_policy

    check_backend(values)
    vehicle = choose_vehicle(values)
    load_thrust_map(vehicle.platform, vehicle.firmware, values["mass"])
    check_policy(values["policy"])


def markdown_table(parameters: Sequence[Parameter]) -> str:
    """The table for the documentation."""
    lines = ["| parameter | type | default | range | what it is |", "|---|---|---|---|---|"]
    for p in parameters:
        lines.append(f"| `{p.name}` | {p.type_name} | `{p.default}` | {p.range_text} | {p.description} |")
    return "\n".join(lines) + "\n"


_LINK = controller_config().link

ROBOT = Parameter("robot", "cf", "name of the robot: prefix of its topics and services", read=check_robot_name)

VEHICLE = (
    Parameter("platform", "", f"platform in config/thrust_maps.yaml; empty: {SIMULATED_PLATFORM} if it is simulated"),
    Parameter("firmware", "", f"its release, of a generation in that file; empty: {SIMULATED_FIRMWARE} if simulated"),
    Parameter("mass", 0.0, "of the vehicle ready to fly [kg]; 0: the platform's", low=0.0, high=0.1),
)
"""What is flown, real or simulated."""

CONTROLLER_NODE = (
    ROBOT,
    Parameter(
        "backend", "cflib", "who carries the setpoints: cflib, or a running Crazyswarm2 server", choices=BACKENDS
    ),
    Parameter(
        "crazyswarm2_server",
        "cpp",
        "backend of that Crazyswarm2 server: the sign of its pitch differs",
        choices=CRAZYSWARM2_SERVERS,
    ),
    Parameter("uri", "udp://127.0.0.1:19850", "Crazyflie to connect to; radio://0/80/2M/E7E7E7E7E7 in the lab"),
    Parameter("crazyflies_yaml_file", "", "Crazyswarm2's list of robots: uri and platform of `robot`; empty: none"),
    Parameter("sim", False, "the vehicle is simulated: uri and platform are those of the parameters"),
    Parameter("policy", "default", "checkpoint's path, or default, expert, straight-line"),
    *VEHICLE,
    Parameter("connect_time", _LINK.connect_time, "give up connecting after so long [s]", low=0.1, high=600.0),
    Parameter("rate", 100.0, "control rate [Hz]", low=20.0, high=200.0),
    Parameter("auto", False, "arm, take off, fly to the goal and land once, as soon as everything is ready"),
    Parameter("world_frame", "world", "frame that poses, goals and obstacles must be in"),
)
"""Parameters of the controller node."""
