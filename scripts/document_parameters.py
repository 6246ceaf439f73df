"""Prints docs/parameters.md from the tables that the nodes and the launch file are made of.

.venv/bin/python scripts/document_parameters.py > docs/parameters.md
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deq_mpc_controller.launch_file import LaunchFile, read_launch_file
from deq_mpc_controller.node_parameters import markdown_table, node_tables

ROOT = Path(__file__).resolve().parents[1]
INTRODUCTION = """# Parameters

Made by `scripts/document_parameters.py` from the tables that the nodes declare their parameters with; a test compares
them.

## Launch arguments

`NAME:=VALUE` of `deq-mpc launch fly` and of `ros2 launch deq_mpc_controller fly.launch.py`. They reach the nodes under
their own names; what a node has beside them is set with `ros2 run PACKAGE NODE --ros-args -p NAME:=VALUE`, or in a
launch file of your own.

"""
NODES = """
## Nodes

All parameters are read once, when the node starts. `controller_node` is of the package `deq_mpc_controller`, the others
are of `deq_mpc_sim`.
"""


def launch_table(launch_file: LaunchFile) -> str:
    """The arguments of a launch file."""
    lines = ["| argument | default | choices | what it is |", "|---|---|---|---|"]
    for argument in launch_file.arguments:
        choices = ", ".join(argument.choices)
        default = f"`{argument.default}`" if argument.default else ""
        lines.append(f"| `{argument.name}` | {default} | {choices} | {argument.description} |")
    return "\n".join(lines) + "\n"


def document() -> Iterator[str]:
    """The document, part by part."""
    yield INTRODUCTION
    yield launch_table(read_launch_file(ROOT / "launch/fly.launch.yaml"))
    yield NODES
    for name, table in node_tables().items():
        yield f"\n### {name}\n\n"
        yield markdown_table(table)


if __name__ == "__main__":
    print("".join(document()), end="")
