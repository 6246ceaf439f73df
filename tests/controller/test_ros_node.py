"""How a node's process ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import time
from rclpy.node import Node
from deq_mpc_controller.ros_node import run_node
from deq_mpc_core.errors import UserError

class Slow:
    def __del__(self):
        time.sleep(600)

class Trial(Node):
    def __init__(self):
        super().__init__("trial")

    def destroy_node(self):
        super().destroy_node()
        print("destroyed")

def run(node, interrupts):
    BODY

slow = Slow()
run_node(Trial, run)
"""


@pytest.mark.parametrize(
    ("body", "status", "errors"),
    [("return 3", 3, ""), ("raise UserError('no wind; wait for it')", 2, "error: no wind; wait for it\n")],
)
def test_a_process_ends_when_its_node_has_left(body: str, status: int, errors: str) -> None:
    command = [sys.executable, "-c", SCRIPT.replace("BODY", body)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, "destroyed\n", errors)
