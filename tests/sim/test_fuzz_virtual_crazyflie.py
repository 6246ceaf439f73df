"""10,000 packets of nonsense at the virtual Crazyflie: nothing breaks, and nothing moves that was not told to.

What may move a vehicle that stands on the ground is a setpoint (ports 3 and 7) or a high-level command (port 8), and
only an armed one. So an unarmed one gets everything but the two packets that arm it, an armed one everything but these
three ports, and neither may move at all. Others get everything in flight: they may go anywhere, but everything has to
stay finite, and a reboot leaves them as good as new.
"""

import socket
import struct

import numpy as np
import pytest

from deq_mpc_sim.crtp import MAX_DATA, Packet, Port, decode
from deq_mpc_sim.udp_server import UdpServer
from deq_mpc_sim.vehicle import Vehicle
from deq_mpc_sim.virtual_crazyflie import BOOT_TIME, VirtualCrazyflie

COUNT = 10_000
VALID = (
    (15, 0, b"echo"),
    (15, 1, b"\0"),
    (15, 3, b""),
    (13, 0, b"\x02"),
    (13, 1, b"\x02"),
    (5, 0, b"\x03"),
    (5, 0, b"\x02\x05\x00"),
    (5, 1, b"\x06\x01\x07\x05\x00\x08\x06\x00"),
    (5, 1, b"\x07\x01\x01\x07\x00"),
    (5, 1, b"\x03\x01\x01"),
    (5, 1, b"\x08\x01\x05\x00"),
    (2, 1, b"\x03\x00"),
    (2, 2, struct.pack("<Hf", 10, 3.3)),
    (2, 3, b"\0pm\0lowVoltage\0\x06" + struct.pack("<f", 3.3)),
    (2, 3, b"\x08\x0a\x00"),
    (3, 0, struct.pack("<fffH", 0.0, 0.0, 0.0, 0)),
    (3, 0, struct.pack("<fffH", 1.0, 2.0, 3.0, 45000)),
    (4, 0, b"\x02\x00"),
    (4, 1, struct.pack("<BIB", 0, 0, 24)),
    (4, 2, struct.pack("<BI6f", 0, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
    (4, 2, struct.pack("<BIf", 0, 128, 2.0)),
    (6, 0, struct.pack("<3f", 0.1, 0.2, 0.3)),
    (6, 1, struct.pack("<B7f", 8, 0.1, 0.2, 0.3, 0.0, 0.0, 0.0, 1.0)),
    *((7, 0, struct.pack("<B4f", kind, 0.1, 0.2, 0.3, 0.4)) for kind in (1, 2, 4, 5, 7, 8, 9, 10)),
    (7, 0, struct.pack("<B9hI3h", 6, *range(9), 0, 1, 2, 3)),
    (7, 0, struct.pack("<BfffHB", 11, 1.0, 2.0, 3.0, 45000, 0)),
    (7, 1, bytes(5)),
    (8, 0, b"\x00\x01"),
    (8, 0, b"\x03\x00"),
    (8, 0, struct.pack("<BBBBfffff", 12, 0, 1, 0, 0.1, 0.2, 0.3, 0.4, 1.0)),
    (8, 0, struct.pack("<BBBBfffff", 11, 0, 1, 0, 1.0, 0.2, 0.3, 0.4, 1.0)),
    (8, 0, struct.pack("<BBff?f", 7, 0, 0.5, 0.0, True, 1.0)),
    (8, 0, struct.pack("<BBff?f", 8, 0, 0.0, 0.0, True, 1.0)),
    (8, 0, struct.pack("<BBf?f?f", 9, 0, 0.5, True, 0.0, True, 0.5)),
    (8, 0, struct.pack("<BBBBIB", 6, 0, 1, 0, 0, 1)),
    (8, 0, struct.pack("<BBBBBBf", 13, 0, 1, 1, 0, 0, 1.0)),
    (9, 0, b"\x0c"),
    (9, 1, b"\x02"),
)


def nonsense(seed, count=COUNT):
    """Datagrams: half of random bytes of any length, half valid ones with bytes changed, cut off or added."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        if rng.random() < 0.5:
            yield rng.bytes(int(rng.integers(0, 40)))
            continue
        port, channel, data = VALID[rng.integers(len(VALID))]
        mutated = bytearray([(port << 4) | channel, *data])
        for _ in range(int(rng.integers(0, 4))):
            mutated[rng.integers(len(mutated))] = rng.integers(256)
        cut = int(rng.integers(0, len(mutated) + 1)) if rng.random() < 0.2 else len(mutated)
        yield bytes(mutated[:cut]) + (rng.bytes(int(rng.integers(1, 8))) if rng.random() < 0.2 else b"")


def boot(**options):
    vehicle = Vehicle()
    vehicle.reset(np.array([0.3, -0.2, 0.0]), 0.4)
    return VirtualCrazyflie(vehicle, **options)


def bombard(crazyflie, datagrams, spare):
    """Everything but the packets that ``spare`` names; how many replies came."""
    replies = 0
    for number, datagram in enumerate(datagrams):
        packet = decode(datagram)
        if packet is not None and not spare(packet):
            for reply in crazyflie.handle(packet):
                assert len(reply.data) <= MAX_DATA
                replies += 1
        if number % 10 == 0:
            for sent in crazyflie.advance(0.01):
                assert len(sent.data) <= MAX_DATA
    return replies


def assert_serves(crazyflie):
    """Tables, parameters and a log block, as after a boot."""
    for port in (Port.LOG, Port.PARAM):
        (reply,) = crazyflie.handle(Packet(port, 0, b"\x03"))
        assert struct.unpack_from("<H", reply.data, 1)[0] > 10
    (reply,) = crazyflie.handle(Packet(Port.PARAM, 1, b"\x00\x00"))
    assert reply.data[2] == 0
    (reply,) = crazyflie.handle(Packet(Port.LOG, 1, b"\x05"))
    (reply,) = crazyflie.handle(Packet(Port.LOG, 1, b"\x06\x09\x07\x00\x00"))
    assert reply.data == b"\x06\x09\x00"
    (reply,) = crazyflie.handle(Packet(Port.LOG, 1, b"\x03\x09\x01"))
    assert reply.data == b"\x03\x09\x00"
    assert len(crazyflie.advance(0.1001)) == 10


def arms(packet):
    """Whether it is one of the two ways to arm."""
    new = packet.port == Port.SUPERVISOR and packet.channel == 1 and packet.data[:1] == b"\x01"
    old = packet.port == Port.PLATFORM and packet.channel == 0 and packet.data[:1] == b"\x01"
    return new or old


def commands(packet):
    """Whether it is of a port that commands motion."""
    return packet.port in (Port.COMMANDER, Port.GENERIC_COMMANDER, Port.HIGH_LEVEL)


@pytest.mark.parametrize(
    ("auto_arm", "spare"), [(False, arms), (True, commands)], ids=["unarmed, everything", "armed, no commands"]
)
def test_it_stays_where_it_is(auto_arm, spare):
    crazyflie = boot(auto_arm=auto_arm, toc="full")
    before = crazyflie.truth
    assert bombard(crazyflie, nonsense(1), spare) > COUNT / 20
    after = crazyflie.truth
    np.testing.assert_array_equal(after.pos, before.pos)
    np.testing.assert_allclose(after.quat, before.quat, atol=1e-12)
    assert after.thrust == 0.0
    assert_serves(crazyflie)


def test_whatever_it_is_told_in_flight_it_survives():
    datagrams = list(nonsense(2))
    heights = []
    for begin in range(0, COUNT, 250):
        crazyflie = boot()
        crazyflie.handle(Packet(Port.HIGH_LEVEL, 0, struct.pack("<BBff?f", 7, 0, 0.5, 0.0, True, 0.5)))
        crazyflie.advance(1.0)
        heights.append(crazyflie.truth.pos[2])
        bombard(crazyflie, datagrams[begin : begin + 250], lambda _: False)
        assert np.all(np.isfinite(crazyflie.truth.x))
        crazyflie.reboot()
        crazyflie.advance(BOOT_TIME + 0.01)
        assert_serves(crazyflie)
    assert min(heights) > 0.2


def test_the_server_survives_datagrams_of_any_length_and_still_connects():
    cflib_crtp = pytest.importorskip("cflib.crtp")
    from cflib.crazyflie import Crazyflie
    from cflib.crazyflie.syncCrazyflie import SyncCrazyflie

    cflib_crtp.init_drivers()
    with UdpServer(boot(auto_arm=False), port=0) as server:
        host, port = server.uri.removeprefix("udp://").split(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            for datagram in nonsense(4, 3000):
                packet = decode(datagram)
                if packet is None or not arms(packet):
                    attacker.sendto(datagram, (host, int(port)))
            for length in (0, 31, 32, 64, 65, 1400):
                attacker.sendto(bytes([0xFF]) * length, (host, int(port)))
        assert server.truth().pos[2] == 0.0
        assert server.truth().thrust == 0.0
        with SyncCrazyflie(server.uri, cf=Crazyflie(rw_cache=None)) as link:
            assert link.cf.param.get_value("stabilizer.estimator") is not None
