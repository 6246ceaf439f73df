"""10,000 datagrams of nonsense at the link, as from the vehicle: it sends what it was given all the same, and no more.

A radio's packets have a checksum, so that noise does not get through; what gets through is what a vehicle says that
runs another firmware, or two vehicles on one address.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest
from witness import CONFIG, THRUST_MAP, WitnessServer, connected, wait_for

from deq_mpc_controller.conversions import Rpyt, packet_from_rpyt, rpyt_from_command, rpyt_from_packet
from deq_mpc_controller.vehicle_io import OFF, Setpoint, SetpointKind, VehicleStatus
from deq_mpc_core.policy.interface import Command
from deq_mpc_sim.crtp import Port

COUNT = 5_000
LISTENING = {Port.PARAM, Port.MEMORY, Port.LOG, Port.PLATFORM, Port.LINK}
"""Ports on which nothing moves or arms a vehicle."""
BURST = 50
"""Datagrams between two packets of the link's that are waited for."""
IDLING = Setpoint(SetpointKind.FLY, Command(0.05, -0.1, 0.2, 0.1), arm=True)
"""Motors that turn, too slowly to lift it off."""
VALID = (
    *((15, channel, b"\1\2\3") for channel in (0, 1, 3)),
    (13, 1, b"\0\x0c"),
    (5, 0, b"\x03" + struct.pack("<HIBB", 36, 1, 16, 128)),
    (5, 0, b"\x02\x05\x00\x07pm\0vbat\0"),
    *(
        (5, 1, bytes([command, block, error]))
        for command in (2, 3, 4, 5, 6, 7)
        for block in (0, 1)
        for error in (0, 17)
    ),
    *((5, 2, bytes([block, 1, 0, 0]) + struct.pack("<fHfff", 4.0, 30, 0.0, 0.0, 0.0)) for block in (0, 1, 2)),
    (2, 0, b"\x03" + struct.pack("<HI", 15, 1)),
    (2, 1, b"\x03\x00\x00\x02"),
    (2, 2, b"\x03\x00\x02"),
    (2, 3, b"\x01\x03\x00\x02"),
    (4, 0, b"\x01\x02"),
    (4, 1, b"\x00\0\0\0\0\0" + bytes(20)),
    (6, 1, b"\x02" + bytes(10)),
    (9, 0, b"\x8c" + struct.pack("<H", 64)),
    (9, 1, b"\x81\x01\x00"),
)


def nonsense(seed: int) -> Iterator[bytes]:
    """Datagrams: random bytes of any length, and answers with bytes changed, cut off or added."""
    rng = np.random.default_rng(seed)
    for _ in range(COUNT):
        if rng.random() < 0.4:
            yield rng.bytes(int(rng.integers(0, 64)))
            continue
        port, channel, data = VALID[rng.integers(len(VALID))]
        mutated = bytearray([port << 4 | 0x0C | channel, *data])
        for _ in range(int(rng.integers(0, 4))):
            mutated[rng.integers(len(mutated))] = rng.integers(256)
        cut = int(rng.integers(0, len(mutated) + 1)) if rng.random() < 0.2 else len(mutated)
        yield bytes(mutated[:cut]) + (rng.bytes(int(rng.integers(1, 8))) if rng.random() < 0.2 else b"")


def on_the_wire(setpoint: Setpoint) -> Rpyt:
    """What has to leave for it."""
    return rpyt_from_packet(packet_from_rpyt(rpyt_from_command(setpoint.command, THRUST_MAP)))


def is_well(status: VehicleStatus) -> bool:
    """Whether this is what the virtual Crazyflie reports, and not long ago."""
    return status.age < 0.3 and status.fault == "" and status.armed and abs(status.voltage - 4.1) < 0.2


@pytest.mark.parametrize(("seed", "setpoint"), [(1, OFF), (2, IDLING)], ids=["on the ground", "motors turning"])
def test_the_link_survives_and_sends_what_it_was_given(seed: int, setpoint: Setpoint) -> None:
    """A thread that raises fails the test, see pytest's threadexception.

    What can be lost for good in the air is the reports: cflib forgets its log blocks when it is told that they were
    reset. A flight lands then, and on the ground the link connects anew.
    """
    with WitnessServer() as server:
        link, vehicle = (
            connected(server, CONFIG.model_copy(update={"hold_time": 60.0, "down_time": 1.0})),
            server.crazyflie,
        )
        link.send(setpoint)
        wait_for(lambda: rpyt_from_packet(vehicle.sent_to(Port.COMMANDER)[-1]) == on_the_wire(setpoint))
        begun = len(vehicle.received)
        for number, datagram in enumerate(nonsense(seed)):
            assert server._peer is not None
            server._socket.sendto(datagram, server._peer)
            if number % BURST == 0:
                heard = len(vehicle.sent_to(Port.COMMANDER))
                wait_for(lambda heard=heard: len(vehicle.sent_to(Port.COMMANDER)) > heard)
        received = list(vehicle.received)[begun:]
        link.send(OFF)
        wait_for(lambda: is_well(link.status()), seconds=30.0)
        link.close()
        pos = server.truth().pos
    assert {rpyt_from_packet(sent.data) for sent in received if sent.port == Port.COMMANDER} == {on_the_wire(setpoint)}
    assert {sent.port for sent in received} <= LISTENING | {Port.COMMANDER}
    np.testing.assert_allclose(pos, np.zeros(3), atol=1e-3)
