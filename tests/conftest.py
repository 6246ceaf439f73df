"""Environment of all tests: ROS of the workspace, reaching no other machine, on a domain of each test process's own."""

from __future__ import annotations

import os

from deq_mpc_controller.ros_launch import use_workspace

DOMAINS = 101
"""ROS domain ids that are safe on every system are 0 to 101."""


def pytest_configure() -> None:
    use_workspace()
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % DOMAINS)
