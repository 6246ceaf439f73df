"""ROS parameters as a table: declared once with type, bounds and description; nodes and documentation read it.

A parameter's type is its default's. No ROS in here; ``ros_node.declare_parameters`` hands a table to a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deq_mpc_controller.settings import controller_config

Value = bool | int | float | str


@dataclass(frozen=True)
class Parameter:
    """One parameter; read once, when the node starts.

    Attributes:
        name, default: its type is the default's.
        description: one line, with the unit.
        low, high: bounds of a number, inclusive.
        choices: of a text; empty: any.
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

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


def markdown_table(parameters: Sequence[Parameter]) -> str:
    """The table for the documentation."""
    lines = ["| parameter | type | default | range | what it is |", "|---|---|---|---|---|"]
    for p in parameters:
        lines.append(f"| `{p.name}` | {p.type_name} | `{p.default}` | {p.range_text} | {p.description} |")
    return "\n".join(lines) + "\n"


_LINK = controller_config().link

CONTROLLER_NODE = (
    Parameter("robot", "cf", "name of the robot: prefix of its topics and services"),
    Parameter("uri", "udp://127.0.0.1:19850", "Crazyflie to connect to; radio://0/80/2M/E7E7E7E7E7 in the lab"),
    Parameter("policy", "default", "checkpoint's path, or default, expert, straight-line"),
    Parameter("platform", "cf21_legacy_props", "platform in config/thrust_maps.yaml"),
    Parameter("firmware", "2025.09", "firmware generation in config/thrust_maps.yaml"),
    Parameter("connect_time", _LINK.connect_time, "give up connecting after so long [s]", low=0.1, high=600.0),
    Parameter("rate", 100.0, "control rate [Hz]", low=20.0, high=200.0),
    Parameter("auto", False, "arm, take off, fly to the goal and land once, as soon as everything is ready"),
    Parameter("world_frame", "world", "frame that poses, goals and obstacles must be in"),
)
"""Parameters of the controller node."""
