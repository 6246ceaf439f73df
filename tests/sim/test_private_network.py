"""Ports and domains that are said to be free are."""

from __future__ import annotations

import socket

import pytest

from deq_mpc_sim import private_network
from deq_mpc_sim.private_network import free_domain, free_udp_uri


def test_free_ports_and_domains_are_free() -> None:
    port = int(free_udp_uri().rsplit(":", 1)[1])
    for number in (port, 7410 + 250 * free_domain()):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", number))


def test_a_domain_in_use_is_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, other = free_domain(), free_domain()
    while other == taken:
        other = free_domain()
    monkeypatch.setattr(private_network, "DOMAINS", (taken, other))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("", 7410 + 250 * taken))
        assert {free_domain() for _ in range(10)} == {other}


def test_the_nodes_stay_on_this_machine() -> None:
    assert private_network.private_network()["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
