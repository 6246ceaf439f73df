"""The age of setpoints at the vehicle: packets are matched by their bytes, in order, whatever is lost on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_controller.conversions import SETPOINT_PACKET, load_thrust_map, packet_from_rpyt, rpyt_from_command
from deq_mpc_controller.link import CrazyflieLink
from deq_mpc_controller.settings import controller_config
from deq_mpc_controller.vehicle_io import OFF, Setpoint, SetpointKind
from deq_mpc_core.errors import UserError
from deq_mpc_core.policy.interface import Command
from deq_mpc_sim import setpoint_age
from deq_mpc_sim.observed_controller_node import ObservedControllerNode
from deq_mpc_sim.observed_world_node import ObservedWorldNode
from deq_mpc_sim.parameters import plant_config
from deq_mpc_sim.setpoint_age import PacketLog, ages, summarise
from deq_mpc_sim.udp_server import UdpServer
from deq_mpc_sim.vehicle import Vehicle
from deq_mpc_sim.virtual_crazyflie import VirtualCrazyflie

THRUST_MAP = load_thrust_map("cf21_legacy_props", "2026.04")


def log_of(entries: list[tuple[float, bytes]]) -> PacketLog:
    """A log of packets that begin with the given bytes."""
    log = PacketLog()
    for t, packet in entries:
        log.add(t, packet.ljust(SETPOINT_PACKET.size, b"\0"))
    return log


@given(
    kept=st.lists(st.booleans(), min_size=1, max_size=60),
    kinds=st.integers(1, 4),
    delay=st.floats(0.001, 0.05),
)
@settings(max_examples=50, deadline=None)
def test_ages_are_those_of_the_packets_that_arrive(kept: list[bool], kinds: int, delay: float) -> None:
    """Equal packets may be taken for each other where some are lost, but for an earlier one: no age is too small."""
    sent = [(0.01 * i, bytes([i % kinds])) for i in range(len(kept))]
    arrived = [(t + delay, packet) for (t, packet), keep in zip(sent, kept, strict=True) if keep]
    found, unknown = ages(log_of(sent), log_of(arrived))
    assert unknown == 0
    assert len(found) == sum(kept)
    assert (found >= delay - 1e-9).all()
    until_the_first_loss = kept.index(False) if False in kept else len(kept)
    np.testing.assert_allclose(found[:until_the_first_loss], delay, atol=1e-9)


def test_unique_packets_are_matched_exactly_and_strangers_are_counted() -> None:
    sent = log_of([(float(i), bytes([i])) for i in range(6)])
    received = log_of([(1.5, b"\1"), (2.0, b"x"), (4.25, b"\4"), (5.5, b"\5")])
    found, unknown = ages(sent, received)
    np.testing.assert_allclose(found, [0.5, 0.25, 0.5])
    assert unknown == 1
    summary = summarise(sent, received)
    assert (summary.packets, summary.lost, summary.unknown) == (3, 3, 1)
    assert (summary.p50, summary.max) == (500.0, 500.0)


def test_no_packet_and_no_log_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no setpoint reached the vehicle"):
        summarise(log_of([(0.0, b"a")]), log_of([]))
    with pytest.raises(UserError, match=r"sent\.npz was not written"):
        PacketLog.load(tmp_path / "sent.npz")


@pytest.mark.parametrize("packets", [[], [b"\0\1\2", b"\0\0\0"]])
def test_a_log_comes_back_from_its_file(tmp_path: Path, packets: list[bytes]) -> None:
    log = log_of([(0.5 + i, packet) for i, packet in enumerate(packets)])
    log.save(tmp_path / "log.npz")
    again = PacketLog.load(tmp_path / "log.npz")
    assert (again.times, again.packets) == (log.times, log.packets)


def test_a_full_log_keeps_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setpoint_age, "CAPACITY", 2)
    assert log_of([(0.0, b"a"), (1.0, b"b"), (2.0, b"c")]).times == [0.0, 1.0]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.005)


def test_the_observers_note_what_goes_over_the_wire() -> None:
    """The nodes' observers, at a link over the real cflib: every setpoint of a pose arrives as it was sent."""
    received = SimpleNamespace(_log=PacketLog())
    clock = SimpleNamespace(to_system=lambda t: t)
    controller = SimpleNamespace(_flight_clock=clock)
    with UdpServer(VirtualCrazyflie(Vehicle(plant_config().parameters())), port=0) as server:
        server.on_packet = lambda packet: ObservedWorldNode._note(received, packet)  # type: ignore[arg-type]
        make: Callable[..., CrazyflieLink] = ObservedControllerNode._make_cflib_link
        link = make(controller, server.uri, THRUST_MAP, controller_config().link)
        assert link.connect()
        stamps = []
        for i in range(5):
            stamps.append(time.time())
            link.send(Setpoint(SetpointKind.FLY, Command(0.01 * i, 0.0, 0.0, 0.2), arm=True, stamp=stamps[-1]))
            wanted = packet_from_rpyt(rpyt_from_command(Command(0.01 * i, 0.0, 0.0, 0.2), THRUST_MAP))
            wait_for(lambda wanted=wanted: wanted in received._log.packets)
        link.send(Setpoint(SetpointKind.FLY, Command(0.3, 0.0, 0.0, 0.2), arm=True))  # of no pose
        link.send(OFF)
        link.close()
    summary = summarise(controller._log, received._log)
    assert summary.lost == 0
    assert set(controller._log.times) == set(stamps)
    assert summary.packets == len(controller._log.packets) >= 5
    assert 0.0 < summary.p50 <= summary.max
