"""A simulated flight's own network: a free UDP port for the Crazyflie, a ROS domain that nobody else is in."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping

LOOPBACK = "127.0.0.1"
DOMAINS = range(1, 102)
"""ROS domains whose ports lie below the ephemeral ones on every system."""


def free_udp_uri() -> str:
    """Address of a simulated Crazyflie at a port that is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((LOOPBACK, 0))
        return f"udp://{LOOPBACK}:{probe.getsockname()[1]}"


def private_network() -> Mapping[str, str]:
    """ROS settings under which the flight's nodes see each other and nothing else does."""
    return {"ROS_DOMAIN_ID": str(free_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def free_domain() -> int:
    """A ROS domain in which no participant holds the first unicast port (RTPS: 7410 + 250 domain)."""
    domains = random.sample(DOMAINS, len(DOMAINS))
    for domain in domains:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7410 + 250 * domain))
            except OSError:
                continue
        return domain
    return domains[0]
