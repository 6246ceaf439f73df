"""On-board position control and the high-level commander, in simulated time, from packets to motion."""

import math
import struct

import numpy as np
import pytest

from deq_mpc_controller.conversions import (
    FullState,
    Hover,
    Manual,
    Position,
    Stop,
    VelocityWorld,
    ZDistance,
    encode_setpoint,
)
from deq_mpc_sim.crtp import Packet, Port, Status
from deq_mpc_sim.parameter_store import firmware_parameters
from deq_mpc_sim.supervisor import Bit
from deq_mpc_sim.targets import STOP, Mode, generic_target
from deq_mpc_sim.vehicle import Vehicle
from deq_mpc_sim.virtual_crazyflie import VirtualCrazyflie

RELAX = Packet(Port.GENERIC_COMMANDER, 1, bytes(5))


def boot(pos=(0.0, 0.0, 0.0), yaw=0.0, **options):
    vehicle = Vehicle()
    vehicle.reset(np.array(pos), yaw)
    crazyflie = VirtualCrazyflie(vehicle, **options)
    crazyflie.advance(0.02)
    return crazyflie


def send(crazyflie, packet, seconds, rate=50):
    """A generic setpoint, again and again."""
    for _ in range(round(seconds * rate)):
        crazyflie.handle(Packet(Port.GENERIC_COMMANDER, 0, packet))
        crazyflie.advance(1.0 / rate)


def command(crazyflie, shape, *arguments):
    """A high-level command's status."""
    (reply,) = crazyflie.handle(Packet(Port.HIGH_LEVEL, 0, struct.pack("<" + shape, *arguments)))
    assert len(reply.data) == 4
    return reply.data[3]


def take_off(crazyflie, height=0.5, duration=1.5, settle=1.0):
    assert command(crazyflie, "BBff?f", 7, 0, height, 0.0, True, duration) == Status.OK
    crazyflie.advance(duration + settle)


def set_parameter(crazyflie, name, kind, value):
    index = [p.name for p in firmware_parameters("full")].index(name)
    assert crazyflie.handle(Packet(Port.PARAM, 2, struct.pack("<H" + kind, index, value)))


def assert_at(crazyflie, *pos):
    """There, as well as the firmware's gains hold it: a height overshoots by centimetres and creeps back."""
    np.testing.assert_allclose(crazyflie.truth.pos, pos, atol=0.075)
    np.testing.assert_allclose(crazyflie.truth.pos[:2], pos[:2], atol=0.03)


def heading(crazyflie):
    return math.degrees(crazyflie.truth.rpy[2])


def test_positions_are_flown_to_and_held():
    crazyflie = boot()
    send(crazyflie, struct.pack("<B4f", 7, 0.4, -0.3, 0.6, 30.0), 5.0)
    assert_at(crazyflie, 0.4, -0.3, 0.6)
    assert heading(crazyflie) == pytest.approx(30.0, abs=2.0)
    assert np.linalg.norm(crazyflie.truth.vel) < 0.05


def test_full_states_are_positions_to_the_default_controller():
    crazyflie = boot()
    take_off(crazyflie)
    still = (0.0, 0.0, 0.0)
    state = FullState((0.3, 0.2, 0.5), still, still, (0.0, 0.0, math.sin(-0.3), math.cos(-0.3)), still)
    send(crazyflie, encode_setpoint(state), 5.0)
    assert_at(crazyflie, 0.3, 0.2, 0.5)
    assert heading(crazyflie) == pytest.approx(math.degrees(-0.6), abs=2.0)


@pytest.mark.parametrize("kind", [1, 8])
def test_velocities_are_those_of_the_world(kind):
    crazyflie = boot(yaw=0.0)
    take_off(crazyflie)
    send(crazyflie, struct.pack("<B4f", 7, 0.0, 0.0, 0.8, 90.0), 2.0)
    send(crazyflie, struct.pack("<B4f", kind, 0.3, -0.2, 0.1, 40.0), 5.0)
    np.testing.assert_allclose(crazyflie.truth.vel, [0.3, -0.2, 0.1], atol=0.06)
    assert math.degrees(crazyflie.truth.ang_vel[2]) == pytest.approx(40.0 if kind == 8 else -40.0, abs=4.0)


@pytest.mark.parametrize("kind", [5, 10])
def test_hovering_moves_in_the_frame_of_the_heading(kind):
    crazyflie = boot()
    take_off(crazyflie)
    send(crazyflie, struct.pack("<B4f", 7, 0.0, 0.0, 0.6, 90.0), 2.0)
    send(crazyflie, struct.pack("<B4f", kind, 0.3, 0.0, 0.0, 0.6), 2.0)
    truth = crazyflie.truth
    np.testing.assert_allclose(truth.vel, [0.0, 0.3, 0.0], atol=0.05)
    assert truth.pos[2] == pytest.approx(0.6, abs=0.04)
    send(crazyflie, struct.pack("<B4f", kind, 0.0, 0.0, 50.0, 0.6), 1.0)
    assert math.degrees(crazyflie.truth.ang_vel[2]) == pytest.approx(50.0 if kind == 10 else -50.0, abs=5.0)


@pytest.mark.parametrize(("roll", "pitch", "axis"), [(8.0, 0.0, 1), (0.0, 8.0, 0)])
@pytest.mark.parametrize("kind", [2, 9])
def test_heights_come_with_the_pitch_as_the_firmware_has_it(kind, roll, pitch, axis):
    """Not negated by cflib: nose up, so that a positive pitch flies backwards; a positive roll to the right."""
    crazyflie = boot()
    send(crazyflie, struct.pack("<B4f", kind, 0.0, 0.0, 0.0, 0.5), 3.0)
    send(crazyflie, struct.pack("<B4f", kind, roll, pitch, 0.0, 0.5), 0.7)
    assert crazyflie.truth.vel[axis] < -0.3
    assert abs(crazyflie.truth.vel[1 - axis]) < 0.02
    assert crazyflie.truth.pos[2] == pytest.approx(0.5, abs=0.075)


def test_climbing_at_a_rate():
    crazyflie = boot()
    send(crazyflie, struct.pack("<B4f", 4, 0.0, 0.0, 0.0, 0.4), 6.0)
    assert crazyflie.truth.vel[2] == pytest.approx(0.4, abs=0.03)


def test_rates_of_roll_and_pitch():
    crazyflie = boot()
    send(crazyflie, struct.pack("<BfffHB", 11, 0.0, 0.0, 0.0, 50000, 0), 0.6)
    send(crazyflie, struct.pack("<BfffHB", 11, 40.0, 0.0, 0.0, 45000, 1), 0.4, rate=100)
    assert math.degrees(crazyflie.truth.ang_vel[0]) == pytest.approx(40.0, abs=6.0)


def test_what_is_sent_is_what_is_understood():
    """Every kind, encoded by the one module that changes signs, as the firmware sees it."""
    velocity = generic_target(encode_setpoint(VelocityWorld(0.1, 0.2, 0.3, math.radians(10.0))))
    np.testing.assert_allclose([*velocity.velocity, velocity.yaw], [0.1, 0.2, 0.3, 10.0], rtol=1e-6)
    height = generic_target(encode_setpoint(ZDistance(math.radians(1.0), math.radians(2.0), math.radians(3.0), 0.4)))
    np.testing.assert_allclose([height.roll, height.pitch, height.yaw, height.position[2]], [1, -2, 3, 0.4], rtol=1e-6)
    hover = generic_target(encode_setpoint(Hover(0.1, 0.2, math.radians(3.0), 0.4)))
    assert hover.in_heading
    np.testing.assert_allclose([*hover.velocity, hover.yaw, hover.position[2]], [0.1, 0.2, 0.0, 3, 0.4], rtol=1e-6)
    position = generic_target(encode_setpoint(Position(0.1, 0.2, 0.3, math.radians(-20.0))))
    np.testing.assert_allclose([*position.position, position.yaw], [0.1, 0.2, 0.3, -20.0], rtol=1e-6)
    manual = generic_target(
        encode_setpoint(Manual(math.radians(1.0), math.radians(2.0), math.radians(3.0), 40000, False))
    )
    np.testing.assert_allclose([manual.roll, manual.pitch, manual.yaw, manual.thrust], [1, -2, 3, 40000], rtol=1e-6)
    assert generic_target(encode_setpoint(Stop())) == STOP


def test_a_packet_of_another_length_is_ignored_and_one_of_an_unknown_type_stops():
    assert generic_target(b"") is None
    assert generic_target(struct.pack("<B3f", 7, 0.0, 0.0, 1.0)) is None
    assert generic_target(b"\x63\x01") == STOP
    crazyflie = boot()
    take_off(crazyflie)
    crazyflie.handle(Packet(Port.GENERIC_COMMANDER, 0, struct.pack("<B4f", 7, math.nan, 0.0, 1.0, 0.0)))
    crazyflie.advance(0.3)
    assert crazyflie.truth.thrust < 1e-3


def test_an_old_hover_setpoint_levels_out_at_its_height_and_then_stops():
    crazyflie = boot()
    send(crazyflie, struct.pack("<B4f", 10, 0.3, 0.0, 0.0, 0.5), 3.0)
    crazyflie.advance(0.4)
    assert crazyflie.truth.vel[0] > 0.2
    crazyflie.advance(0.7)
    assert np.abs(crazyflie.truth.rpy[:2]).max() < math.radians(2.0)
    assert crazyflie.truth.pos[2] == pytest.approx(0.5, abs=0.075)
    crazyflie.advance(1.1)
    assert crazyflie.truth.thrust < 1e-3
    assert crazyflie.bits & Bit.LOCKED


def test_the_world_of_the_estimate_begins_where_it_booted_until_a_pose_arrives():
    crazyflie = boot(pos=(1.0, 2.0, 0.0), yaw=0.5)
    send(crazyflie, struct.pack("<B4f", 7, 0.5, 0.0, 0.5, 0.0), 4.0)
    ahead = [1.0 + 0.5 * math.cos(0.5), 2.0 + 0.5 * math.sin(0.5), 0.5]
    assert_at(crazyflie, *ahead)
    assert crazyflie.truth.rpy[2] == pytest.approx(0.5, abs=0.03)
    for _ in range(250):
        pos, quat = crazyflie.truth.pos, crazyflie.truth.quat
        crazyflie.handle(Packet(Port.LOCALIZATION, 1, struct.pack("<B7f", 8, *pos, *quat)))
        send(crazyflie, struct.pack("<B4f", 7, 1.0, 2.0, 0.6, 0.0), 0.02)
    assert_at(crazyflie, 1.0, 2.0, 0.6)
    assert heading(crazyflie) == pytest.approx(0.0, abs=2.0)


def test_take_off_go_to_and_land():
    crazyflie = boot()
    assert crazyflie.bits & Bit.HIGH_LEVEL_DONE
    assert not crazyflie.bits & Bit.HIGH_LEVEL_ACTIVE
    take_off(crazyflie, 0.6, 1.5, settle=-0.5)
    assert crazyflie.bits & Bit.HIGH_LEVEL_ACTIVE
    assert not crazyflie.bits & Bit.HIGH_LEVEL_DONE
    crazyflie.advance(2.0)
    assert crazyflie.truth.pos[2] == pytest.approx(0.6, abs=0.075)
    assert crazyflie.bits & Bit.HIGH_LEVEL_DONE
    assert command(crazyflie, "BBff?f", 7, 0, 0.6, 0.0, True, 1.0) == 1  # flies already
    assert command(crazyflie, "BBBB5f", 12, 0, 0, 0, 0.5, 0.2, 0.8, 0.5, 2.0) == Status.OK
    crazyflie.advance(3.0)
    assert_at(crazyflie, 0.5, 0.2, 0.8)
    assert crazyflie.truth.rpy[2] == pytest.approx(0.5, abs=0.03)
    assert command(crazyflie, "BBB5f", 4, 0, 1, 0.0, -0.2, -0.2, -0.5, 1.5) == Status.OK  # relative, the old way
    crazyflie.advance(2.5)
    assert_at(crazyflie, 0.5, 0.0, 0.6)
    assert heading(crazyflie) == pytest.approx(0.0, abs=2.0)
    assert command(crazyflie, "BBff?f", 8, 0, 0.0, 0.0, True, 1.5) == Status.OK
    assert command(crazyflie, "BBff?f", 8, 0, 0.0, 0.0, True, 1.5) == 1  # lands already
    crazyflie.advance(2.0)
    assert crazyflie.truth.pos[2] < 0.02
    assert crazyflie.truth.thrust < 1e-3
    assert not crazyflie.bits & Bit.HIGH_LEVEL_ACTIVE


def test_a_plan_is_smooth():
    crazyflie = boot()
    take_off(crazyflie)
    assert command(crazyflie, "BBBB5f", 12, 0, 0, 0, 0.8, 0.0, 0.5, 0.0, 2.0) == Status.OK
    speeds = []
    for _ in range(250):
        crazyflie.advance(0.01)
        speeds.append(crazyflie.truth.vel[0])
    assert max(speeds) == pytest.approx(0.8 / 2.0 * 35.0 / 16.0, rel=0.1)  # peak of the polynomial at half the time
    assert np.abs(np.diff(speeds)).max() < 0.02


def test_take_off_and_landing_with_a_velocity():
    crazyflie = boot()
    assert command(crazyflie, "BBf?f?f", 9, 0, 0.5, True, 0.0, True, 0.5) == Status.OK
    crazyflie.advance(0.9)
    assert not crazyflie.bits & Bit.HIGH_LEVEL_DONE
    crazyflie.advance(0.2)
    assert crazyflie.bits & Bit.HIGH_LEVEL_DONE
    crazyflie.advance(1.0)
    assert crazyflie.truth.pos[2] == pytest.approx(0.5, abs=0.075)
    assert command(crazyflie, "BBf?f?f", 10, 0, 0.3, True, 0.0, True, 0.0) == Status.OK  # 0.5 m/s unless told
    crazyflie.advance(0.5)
    assert crazyflie.bits & Bit.HIGH_LEVEL_ACTIVE
    crazyflie.advance(0.15)
    assert not crazyflie.bits & Bit.HIGH_LEVEL_ACTIVE
    crazyflie.advance(1.0)
    assert crazyflie.truth.pos[2] == 0.0


def test_stop_and_groups():
    crazyflie = boot()
    take_off(crazyflie)
    assert command(crazyflie, "BB", 0, 0b10) == Status.OK
    assert command(crazyflie, "BB", 3, 0b01) == Status.OK  # for others
    crazyflie.advance(0.2)
    assert crazyflie.truth.thrust > 0.2
    assert command(crazyflie, "BB", 3, 0b10) == Status.OK
    crazyflie.advance(0.2)
    assert crazyflie.truth.thrust < 1e-3


def test_who_must_not_fly_does_not_take_off():
    crazyflie = boot(auto_arm=False)
    assert command(crazyflie, "BBff?f", 7, 0, 0.5, 0.0, True, 1.0) == Status.BUSY
    crazyflie.advance(1.0)
    assert crazyflie.truth.pos[2] == 0.0
    assert command(crazyflie, "BB", 99, 0) == Status.NOT_A_COMMAND
    assert command(crazyflie, "BBf", 7, 0, 0.5) == Status.NOT_A_COMMAND
    crazyflie.handle(Packet(Port.SUPERVISOR, 1, b"\x01\x01"))
    assert command(crazyflie, "BBff?f", 7, 0, math.nan, 0.0, True, 1.0) == Status.INVALID
    take_off(crazyflie)
    assert crazyflie.truth.pos[2] == pytest.approx(0.5, abs=0.075)


def test_packets_take_over_and_give_back_only_when_they_say_so():
    crazyflie = boot()
    take_off(crazyflie)
    send(crazyflie, struct.pack("<B4f", 10, 0.0, 0.0, 0.0, 0.5), 0.5)
    assert not crazyflie.bits & Bit.HIGH_LEVEL_ACTIVE
    assert command(crazyflie, "BBBB5f", 12, 0, 1, 0, 0.5, 0.0, 0.0, 0.0, 1.0) == Status.OK
    send(crazyflie, struct.pack("<B4f", 10, 0.0, 0.0, 0.0, 0.5), 1.5)
    assert abs(crazyflie.truth.pos[0]) < 0.05  # the packets won
    crazyflie.handle(RELAX)
    assert command(crazyflie, "BBBB5f", 12, 0, 1, 0, 0.4, 0.0, 0.0, 0.0, 1.5) == Status.OK
    crazyflie.advance(2.5)
    assert crazyflie.truth.pos[0] == pytest.approx(0.4, abs=0.06)
    assert not crazyflie.bits & Bit.LOCKED  # no time-out: the high-level commander's setpoints are fresh


def test_a_spiral_is_an_arc():
    crazyflie = boot()
    take_off(crazyflie)
    half_turn = (0, 0, math.pi, 0.4, 0.4, 0.2, 4.0)  # counter-clockwise: the centre is 0.4 m to the left
    assert command(crazyflie, "BBBB5f", 11, 0, *half_turn) == Status.OK
    crazyflie.advance(2.0)
    assert crazyflie.truth.pos[0] > 0.3
    crazyflie.advance(4.0)
    assert_at(crazyflie, 0.0, 0.8, 0.7)
    assert abs(heading(crazyflie)) == pytest.approx(180.0, abs=5.0)


def write_memory(crazyflie, data, address=0):
    for offset in range(0, len(data), 24):
        request = struct.pack("<BI", 0, address + offset) + data[offset : offset + 24]
        (reply,) = crazyflie.handle(Packet(Port.MEMORY, 2, request))
        assert reply.data == request[:5] + b"\0"


def test_an_uploaded_trajectory_is_flown():
    crazyflie = boot()
    take_off(crazyflie)
    forth = struct.pack("<33f", 0.0, 0.3, *[0.0] * 6, *[0.0] * 8, 0.5, *[0.0] * 7, *[0.0] * 8, 2.0)
    up = struct.pack("<33f", 0.6, *[0.0] * 7, *[0.0] * 8, 0.5, 0.2, *[0.0] * 6, *[0.0] * 8, 1.0)
    write_memory(crazyflie, forth + up, 264)
    (reply,) = crazyflie.handle(Packet(Port.MEMORY, 1, struct.pack("<BIB", 0, 264, 8)))
    assert reply.data == struct.pack("<BIB", 0, 264, 0) + struct.pack("<ff", 0.0, 0.3)
    assert command(crazyflie, "BBBBIB", 6, 3, 1, 0, 264, 2) == Status.OK
    assert command(crazyflie, "BBBBBBf", 13, 0, 1, 0, 0, 3, 1.0) == Status.OK
    crazyflie.advance(5.0)
    assert_at(crazyflie, 0.6, 0.0, 0.7)
    assert command(crazyflie, "BBBBBf", 5, 0, 0, 1, 3, 1.5) == Status.OK  # backwards, slower
    crazyflie.advance(6.5)
    assert_at(crazyflie, 0.0, 0.0, 0.5)


def test_a_compressed_trajectory_is_flown():
    crazyflie = boot()
    take_off(crazyflie)
    start = struct.pack("<4h", 0, 0, 500, 0)
    line = struct.pack("<BHh", 0b01, 2000, 400)
    curve = struct.pack("<BH4h", 0b01 << 6 | 0b10 << 2, 2000, 0, 300, 300, 450)
    write_memory(crazyflie, start + line + curve + bytes(3))
    assert command(crazyflie, "BBBBIB", 6, 0, 1, 1, 0, 2) == Status.OK
    assert command(crazyflie, "BBBBBBf", 13, 0, 0, 0, 0, 0, 1.0) == Status.OK
    crazyflie.advance(6.0)
    assert_at(crazyflie, 0.4, 0.3, 0.5)
    assert heading(crazyflie) == pytest.approx(45.0, abs=3.0)
    assert command(crazyflie, "BBBBBBf", 13, 0, 0, 0, 0, 0, 2.0) == Status.NOT_A_COMMAND


def test_trajectories_that_are_not_there_are_refused():
    crazyflie = boot()
    take_off(crazyflie)
    assert command(crazyflie, "BBBBIB", 6, 200, 1, 0, 0, 1) == Status.NOT_A_COMMAND
    assert command(crazyflie, "BBBBIB", 6, 1, 1, 0, 4090, 1) == Status.OK
    assert command(crazyflie, "BBBBBBf", 13, 0, 0, 0, 0, 1, 1.0) == Status.INVALID
    assert command(crazyflie, "BBBBIB", 6, 1, 1, 1, 4090, 1) == Status.OK
    assert command(crazyflie, "BBBBBBf", 13, 0, 0, 0, 0, 1, 1.0) == Status.INVALID
    for channel, request in ((1, struct.pack("<BIB", 0, 4090, 8)), (2, struct.pack("<BIQ", 0, 4090, 0))):
        (reply,) = crazyflie.handle(Packet(Port.MEMORY, channel, request))
        assert reply.data[5] == Status.INPUT_OUTPUT
    (reply,) = crazyflie.handle(Packet(Port.MEMORY, 0, b"\x02\x00"))
    assert reply.data[2] == 0x12
    assert struct.unpack_from("<I", reply.data, 3) == (4096,)
    crazyflie.advance(1.0)
    assert crazyflie.truth.pos[2] == pytest.approx(0.5, abs=0.075)


def test_gains_are_parameters():
    slow, normal = boot(toc="full"), boot(toc="full")
    set_parameter(slow, "posCtlPid.xVelMax", "f", 0.1)
    for crazyflie in (slow, normal):
        send(crazyflie, struct.pack("<B4f", 7, 1.0, 0.0, 0.5, 0.0), 3.0)
    assert slow.truth.pos[0] < 0.35
    assert normal.truth.pos[0] > 0.9
    set_parameter(slow, "velCtlPid.vzKp", "f", math.nan)
    slow.advance(0.1)
    assert slow.truth.thrust < 0.05
    assert np.all(np.isfinite(slow.truth.x))


def test_what_is_followed_is_logged():
    crazyflie = boot()
    send(crazyflie, struct.pack("<B4f", 7, 0.1, 0.2, 0.3, 10.0), 1.0)
    snapshot = crazyflie.telemetry()
    assert snapshot.target.position == pytest.approx((0.1, 0.2, 0.3))
    assert snapshot.target.modes == (Mode.ABSOLUTE, Mode.ABSOLUTE, Mode.OFF, Mode.ABSOLUTE)
    assert snapshot.lift == pytest.approx(1.0, abs=0.3)
