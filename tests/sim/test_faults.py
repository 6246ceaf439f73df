"""Faults on demand: how they are written, what they do to packets and vehicle, and that a seed repeats them."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_core.errors import UserError
from deq_mpc_sim.crtp import Packet, Port
from deq_mpc_sim.faults import Direction, Fault, FaultKind, parse_fault, parse_faults
from deq_mpc_sim.faulty_crazyflie import FaultyCrazyflie
from deq_mpc_sim.link_faults import HOLD_BACK, LinkFaults
from deq_mpc_sim.supervisor import Bit
from deq_mpc_sim.vehicle import Vehicle
from deq_mpc_sim.virtual_crazyflie import BOOT_TIME, VirtualCrazyflie

ECHO = Packet(Port.LINK, 0, b"hello")
HOVER = Packet(Port.GENERIC_COMMANDER, 0, struct.pack("<B4f", 10, 0.0, 0.0, 0.0, 0.5))


def faulty(*faults, seed=0):
    vehicle = Vehicle()
    vehicle.reset(np.zeros(3))
    return FaultyCrazyflie(VirtualCrazyflie(vehicle), parse_faults(faults), seed)


def flying(*faults, seconds=2.0):
    crazyflie = faulty(*faults)
    hover(crazyflie, seconds)
    return crazyflie


def hover(crazyflie, seconds):
    for _ in range(round(50 * seconds)):
        crazyflie.handle(HOVER)
        crazyflie.advance(0.02)


def echoes(crazyflie, count, period=0.01):
    """Numbers of the echoes that came back, in their order."""
    back = []
    for number in range(count):
        back += crazyflie.handle(Packet(Port.LINK, 0, struct.pack("<H", number)))
        back += crazyflie.advance(period)
    back += crazyflie.advance(1.0)
    return [struct.unpack("<H", packet.data)[0] for packet in back]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("mute@5", Fault(FaultKind.MUTE, 5.0)),
        ("mute.down@5.0/0.25", Fault(FaultKind.MUTE, 5.0, 0.25, direction=Direction.DOWN)),
        ("loss.up:0.3@takeoff+2/1.5", Fault(FaultKind.LOSS, 2.0, 1.5, 0.3, Direction.UP, True)),
        ("delay:2e-2@0", Fault(FaultKind.DELAY, value=0.02)),
        ("dead-motor:3@1", Fault(FaultKind.DEAD_MOTOR, 1.0, value=3.0)),
        ("low-battery@0", Fault(FaultKind.LOW_BATTERY, value=3.3)),
    ],
)
def test_faults_are_written_in_one_line(text, fault):
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rain@5", "is no fault; write KIND"),
        ("mute", "is no fault; write KIND"),
        ("mute@-1", "is no fault; write KIND"),
        ("loss@0", "loss needs a value"),
        ("loss:1.5@0", "lies between 0 and 1"),
        ("loss:-@0", "lies between 0 and 1"),
        ("dead-motor:2.5@0", "motors are numbered 1, 2, 3 and 4"),
        ("dead-motor:-@0", "lies between 1 and 4"),
        ("reboot@1/5", "reboot happens at its onset alone; leave /5 out"),
        ("mute@1/0", "never happens; give a longer duration"),
        ("mute:3@0", "mute has no value"),
        ("reboot.up@0", "a reboot has no direction"),
        ("mute@1.2.3", "is no time"),
    ],
)
def test_what_is_no_fault_is_refused_with_a_reason(text, reason):
    with pytest.raises(UserError, match=reason):
        parse_fault(text)


def test_faults_come_and_go():
    fault = parse_fault("mute@1/0.5")
    assert [fault.active(t, None) for t in (0.99, 1.0, 1.49, 1.5)] == [False, True, True, False]
    later = parse_fault("mute@takeoff+1")
    assert not later.active(100.0, None)
    assert [later.active(t, 2.0) for t in (2.9, 3.0, 99.0)] == [False, True, True]


def test_without_faults_nothing_changes():
    plain = VirtualCrazyflie(Vehicle())
    wrapped = FaultyCrazyflie(VirtualCrazyflie(Vehicle()), ())
    for crazyflie in (plain, wrapped):
        assert crazyflie.handle(ECHO) == [ECHO]
        hover(crazyflie, 1.0)
    np.testing.assert_allclose(wrapped.truth.x, plain.truth.x, atol=2e-3)
    assert wrapped.bits == plain.bits


def test_packets_are_lost_at_the_given_rate_and_a_seed_repeats_it():
    kept = echoes(faulty("loss.up:0.2@0", seed=1), 1000)
    assert len(kept) == pytest.approx(800, abs=50)
    assert kept == sorted(kept)
    assert kept == echoes(faulty("loss.up:0.2@0", seed=1), 1000)
    assert kept != echoes(faulty("loss.up:0.2@0", seed=2), 1000)
    assert len(echoes(faulty("loss:0.2@0", seed=1), 1000)) == pytest.approx(640, abs=60)


def test_packets_are_delayed_in_simulated_time():
    crazyflie = faulty("delay:0.03@0")
    assert crazyflie.handle(ECHO) == []
    assert crazyflie.advance(0.055) == []
    assert crazyflie.advance(0.01) == [ECHO]


def test_packets_overtake_each_other():
    numbers = echoes(faulty("reorder.down:0.3@0"), 300, period=0.005)
    assert sorted(numbers) == list(range(300))
    late = np.array(numbers) != np.arange(300)
    assert np.mean(late) > 0.2
    assert max(abs(number - index) for index, number in enumerate(numbers)) <= HOLD_BACK / 0.005 + 1


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    loss=st.floats(0.0, 0.5),
    delay=st.floats(0.0, 0.05),
    reorder=st.floats(0.0, 0.5),
    gaps=st.lists(st.floats(0.0, 0.05), min_size=1, max_size=40),
)
def test_the_link_makes_nothing_up(seed, loss, delay, reorder, gaps):
    """Whatever comes out went in, once, and not before its time; without loss everything comes out."""
    faults = [
        Fault(FaultKind.LOSS, value=loss),
        Fault(FaultKind.DELAY, value=delay),
        Fault(FaultKind.REORDER, value=reorder),
    ]
    link, t, out, sent_at = LinkFaults(Direction.UP, np.random.default_rng(seed)), 0.0, [], {}
    for number, gap in enumerate(gaps):
        t += gap
        sent_at[number] = t
        link.send(Packet(15, 0, bytes([number])), t, faults)
        out += [(packet.data[0], t) for packet in link.receive(t)]
    while not math.isinf(link.next_due):
        t = max(t, link.next_due)
        out += [(packet.data[0], t) for packet in link.receive(t)]
    numbers = [number for number, _ in out]
    assert len(set(numbers)) == len(numbers)
    assert all(arrived - sent_at[number] >= delay - 1e-12 for number, arrived in out)
    if loss == 0.0:
        assert sorted(numbers) == sorted(sent_at)


@pytest.mark.parametrize(("direction", "moves"), [("", False), (".up", False), (".down", True)])
def test_a_mute_link_leads_to_the_firmwares_time_outs(direction, moves):
    crazyflie = flying(f"mute{direction}@takeoff+1")
    hover(crazyflie, 3.0)
    assert crazyflie.handle(ECHO) == []
    assert bool(crazyflie.bits & Bit.LOCKED) is not moves
    assert bool(crazyflie.truth.pos[2] > 0.3) is moves


def test_who_is_connected_stays_so_when_others_are_refused():
    crazyflie = faulty("refuse@0")
    assert crazyflie.handle(Packet(Port.LINK, 1, b"\0")) == []
    assert crazyflie.handle(Packet(Port.LINK, 3, b"")) == []
    assert crazyflie.handle(ECHO) == [ECHO]
    assert faulty().handle(Packet(Port.LINK, 3, b"")) == [Packet(Port.LINK, 3, b"")]


def test_a_reboot_in_flight_drops_it_and_is_deaf_for_a_while():
    crazyflie = flying("reboot@2.0")
    crazyflie.advance(0.2)
    assert crazyflie.truth.thrust < 1e-3
    assert crazyflie.handle(ECHO) == []
    crazyflie.advance(BOOT_TIME)
    assert crazyflie.handle(ECHO) == [ECHO]
    assert crazyflie.truth.pos[2] == 0.0
    assert not crazyflie.bits & Bit.LOCKED


def test_a_locked_supervisor_stops_the_motors():
    crazyflie = flying("locked@takeoff+1")
    assert crazyflie.truth.thrust < 1e-3
    assert crazyflie.bits & Bit.LOCKED


def test_an_empty_battery_sags_and_is_reported():
    crazyflie = flying("low-battery:3.4@2", seconds=2.5)
    assert crazyflie.truth.voltage < 3.2
    hover(crazyflie, 5.5)
    assert crazyflie.telemetry().battery == 3
    assert crazyflie.truth.pos[2] > 0.3


def test_a_dead_motor_brings_it_down_and_mends_after_its_time():
    crazyflie = flying("dead-motor:2@2/3")
    assert crazyflie.truth.pos[2] > 0.4
    hover(crazyflie, 2.5)
    assert crazyflie.truth.pos[2] == 0.0
    assert crazyflie.vehicle.parameters.thrust_max[1] == 0.0
    hover(crazyflie, 1.0)
    assert crazyflie.vehicle.parameters.thrust_max[1] > 0.0


def test_weak_motors_take_more_of_a_setpoint_for_the_same_hover():
    sound, weak = flying(seconds=4.0), flying("weak:0.2@takeoff+0", seconds=4.0)
    assert weak.vehicle.parameters.thrust_max == pytest.approx(0.8 * sound.vehicle.parameters.thrust_max)
    assert weak.truth.thrust == pytest.approx(sound.truth.thrust, rel=0.02)
    assert weak.vehicle.motor_counts.mean() == pytest.approx(sound.vehicle.motor_counts.mean() / 0.8, rel=0.02)


def test_a_worn_propeller_turns_faster_than_the_others():
    crazyflie = flying("worn@takeoff+0", seconds=4.0)
    first, *others = crazyflie.vehicle.motor_counts
    assert first > 1.2 * np.mean(others)
    assert crazyflie.vehicle.tilt < 0.05


@pytest.mark.parametrize(("rate", "over"), [(10.0, False), (80.0, True)])
def test_a_knock_turns_it_once(rate, over):
    crazyflie = flying(f"knock:{rate}@3", seconds=2.99)
    crazyflie.advance(0.015)
    assert np.linalg.norm(crazyflie.truth.ang_vel[:2]) > 0.5 * rate
    tilts = []
    for _ in range(100):
        hover(crazyflie, 0.02)
        tilts.append(crazyflie.vehicle.tilt)
    assert (max(tilts) > 1.5) == over


def test_a_gust_pushes_sideways_for_its_time():
    calm, windy = flying(), flying("gust:0.03@takeoff+1/0.6")
    assert np.linalg.norm(calm.truth.pos[:2]) < 0.01
    assert np.linalg.norm(windy.truth.pos[:2]) > 0.05
    assert windy.truth.pos[2] == pytest.approx(calm.truth.pos[2], abs=0.1)
