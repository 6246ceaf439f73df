"""The virtual Crazyflie in simulated time: signs, locks, time-outs, protocol; test_udp_server has the real cflib."""

import math
import struct

import numpy as np
import pytest

from deq_mpc_sim.battery_gauge import battery_level
from deq_mpc_sim.crtp import MAX_DATA, Packet, Port, Status, decode, encode
from deq_mpc_sim.parameter_store import firmware_parameters
from deq_mpc_sim.parameters import plant_config
from deq_mpc_sim.supervisor import Bit
from deq_mpc_sim.telemetry import SOURCES, log_variables
from deq_mpc_sim.vehicle import Vehicle
from deq_mpc_sim.virtual_crazyflie import BOOT_TIME, VirtualCrazyflie

HOVER = 42590  # motor count that carries 31.8 g


def boot(pos=(0.0, 0.0, 0.0), yaw=0.0, **options):
    vehicle = Vehicle()
    vehicle.reset(np.array(pos), yaw)
    return VirtualCrazyflie(vehicle, **options)


def rpyt(crazyflie, roll=0.0, pitch_up=0.0, clockwise=0.0, thrust=HOVER):
    assert crazyflie.handle(Packet(Port.COMMANDER, 0, struct.pack("<fffH", roll, pitch_up, clockwise, thrust))) == []


def fly(crazyflie, seconds, **setpoint):
    """Setpoints at 100 Hz."""
    for _ in range(round(seconds * 100)):
        rpyt(crazyflie, **setpoint)
        crazyflie.advance(0.01)


def airborne(**options):
    crazyflie = boot(**options)
    fly(crazyflie, 0.1, thrust=0)
    fly(crazyflie, 1.0, thrust=50000)
    fly(crazyflie, 0.1)
    assert crazyflie.truth.pos[2] > 0.5
    return crazyflie


def ask(crazyflie, port, channel, data):
    (reply,) = crazyflie.handle(Packet(port, channel, bytes(data)))
    assert (reply.port, reply.channel) == (port, channel)
    assert len(reply.data) <= MAX_DATA
    return reply.data


def log_index(name):
    return list(log_variables("small")).index(name)


def start_block(crazyflie, number, *names, period=1):
    variables = b"".join(struct.pack("<BH", 7, log_index(name)) for name in names)
    assert ask(crazyflie, Port.LOG, 1, bytes([6, number]) + variables) == bytes([6, number, 0])
    assert ask(crazyflie, Port.LOG, 1, [3, number, period]) == bytes([3, number, 0])


def logged(crazyflie, *names):
    """The values of log variables now, as floats on the wire."""
    start_block(crazyflie, 1, *names)
    data = crazyflie.advance(0.011)[-1].data
    ask(crazyflie, Port.LOG, 1, [2, 1])
    return struct.unpack(f"<{len(names)}f", data[4:])


def test_wire_signs_of_roll_pitch_and_yaw_rate():
    for setpoint, axis, sign in (({"pitch_up": 8.0}, 0, -1.0), ({"roll": 8.0}, 1, -1.0)):
        crazyflie = airborne()
        fly(crazyflie, 0.6, **setpoint)
        assert sign * crazyflie.truth.vel[axis] > 0.25
        assert abs(crazyflie.truth.vel[1 - axis]) < 0.01
    crazyflie = airborne()
    fly(crazyflie, 1.0, clockwise=60.0)
    assert crazyflie.truth.ang_vel[2] == pytest.approx(-math.radians(60.0), rel=0.1)


def test_manual_setpoints_turn_the_other_way_and_need_no_unlocking():
    crazyflie = boot()
    manual = struct.pack("<BfffHB", 11, 0.0, 0.0, 60.0, 50000, 0)
    for _ in range(100):
        crazyflie.handle(Packet(Port.GENERIC_COMMANDER, 0, manual))
        crazyflie.advance(0.01)
    assert crazyflie.truth.pos[2] > 0.5
    assert crazyflie.truth.ang_vel[2] == pytest.approx(math.radians(60.0), rel=0.1)


def test_thrust_is_locked_until_a_zero_setpoint_arrives():
    crazyflie = boot()
    fly(crazyflie, 0.5, thrust=50000)
    assert crazyflie.truth.pos[2] == 0.0
    assert not crazyflie.bits & Bit.FLYING
    fly(crazyflie, 0.05, thrust=0)
    fly(crazyflie, 0.5, thrust=50000)
    assert crazyflie.truth.pos[2] > 0.1
    assert crazyflie.bits & Bit.FLYING


def test_small_thrust_counts_as_none_and_large_is_clipped():
    crazyflie = airborne()
    fly(crazyflie, 0.1, thrust=65535)
    assert logged(crazyflie, "stabilizer.thrust") == (60000.0,)
    fly(crazyflie, 0.1, thrust=999)
    assert logged(crazyflie, "stabilizer.thrust") == (0.0,)


def test_an_old_setpoint_levels_out_after_half_a_second_and_keeps_thrust():
    crazyflie = airborne()
    fly(crazyflie, 0.5, roll=15.0)
    crazyflie.advance(0.45)
    assert crazyflie.truth.rpy[0] > math.radians(12.0)
    crazyflie.advance(0.6)
    assert abs(crazyflie.truth.rpy[0]) < math.radians(4.0)
    assert crazyflie.truth.thrust > 0.25
    assert not crazyflie.bits & Bit.LOCKED


def test_after_two_seconds_in_flight_it_stops_and_only_a_reboot_helps():
    crazyflie = airborne()
    crazyflie.advance(1.98)
    assert crazyflie.truth.thrust > 0.25
    crazyflie.advance(0.25)
    assert crazyflie.truth.thrust < 1e-3
    assert crazyflie.bits & Bit.LOCKED
    assert not crazyflie.bits & (Bit.CAN_ARM | Bit.ARMED | Bit.CAN_FLY)
    fly(crazyflie, 0.1, thrust=0)
    fly(crazyflie, 0.5, thrust=50000)
    assert crazyflie.truth.thrust < 1e-3


def test_landed_silence_does_not_lock_and_the_thrust_stays_unlocked():
    crazyflie = airborne()
    fly(crazyflie, 0.3, thrust=0)
    crazyflie.advance(4.0)
    assert not crazyflie.bits & (Bit.LOCKED | Bit.FLYING)
    fly(crazyflie, 0.3, thrust=50000)
    assert crazyflie.truth.thrust > 0.3


@pytest.mark.parametrize(
    ("port", "channel", "data"),
    [(Port.SUPERVISOR, 1, b"\x03"), (Port.LOCALIZATION, 1, b"\x03")],
)
def test_emergency_stop_cuts_the_motors_for_good(port, channel, data):
    crazyflie = airborne()
    assert crazyflie.handle(Packet(port, channel, data)) == []
    fly(crazyflie, 0.5)
    assert crazyflie.truth.thrust < 1e-3
    assert crazyflie.bits & Bit.LOCKED


def test_the_watchdog_bites_only_once_fed():
    crazyflie = airborne()
    fly(crazyflie, 1.5)
    assert not crazyflie.bits & Bit.LOCKED
    crazyflie.handle(Packet(Port.SUPERVISOR, 1, b"\x04"))
    fly(crazyflie, 0.9)
    assert not crazyflie.bits & Bit.LOCKED
    fly(crazyflie, 0.2)
    assert crazyflie.bits & Bit.LOCKED


def test_a_stop_setpoint_cuts_the_motors():
    crazyflie = airborne()
    crazyflie.handle(Packet(Port.GENERIC_COMMANDER, 0, b"\x00"))
    crazyflie.advance(0.3)
    assert crazyflie.truth.thrust < 1e-3


@pytest.mark.parametrize("bad", [{"roll": math.nan}, {"pitch_up": math.inf}])
def test_a_setpoint_that_is_not_finite_stops_the_motors(bad):
    crazyflie = airborne()
    fly(crazyflie, 0.3, **bad)
    assert crazyflie.truth.thrust < 1e-3
    assert np.all(np.isfinite(crazyflie.truth.x))


def test_a_vehicle_that_does_not_arm_itself():
    crazyflie = boot(auto_arm=False)
    fly(crazyflie, 0.1, thrust=0)
    fly(crazyflie, 0.2, thrust=50000)
    assert crazyflie.truth.thrust < 1e-3
    assert not crazyflie.bits & Bit.ARMED
    assert ask(crazyflie, Port.SUPERVISOR, 1, [1, 1]) == b"\x81\x01\x01"
    assert crazyflie.bits & Bit.ARMED
    fly(crazyflie, 0.3, thrust=50000)
    assert crazyflie.truth.thrust > 0.3
    fly(crazyflie, 4.0, thrust=0)
    assert not crazyflie.bits & Bit.ARMED  # landed for 3 s
    assert ask(crazyflie, Port.SUPERVISOR, 1, [1, 1]) == b"\x81\x01\x01"
    crazyflie.advance(29.0)
    assert crazyflie.bits & Bit.ARMED
    crazyflie.advance(1.5)
    assert not crazyflie.bits & Bit.ARMED
    assert ask(crazyflie, Port.SUPERVISOR, 1, [1, 0]) == b"\x81\x01\x00"


def test_tumbling_in_flight_is_a_crash():
    vehicle = Vehicle()
    vehicle.reset(np.array([0.0, 0.0, 0.0]))
    vehicle._body[6:10] = [1.0, 0.0, 0.0, 0.0]  # on its back
    crazyflie = VirtualCrazyflie(vehicle)
    fly(crazyflie, 0.1, thrust=0)
    fly(crazyflie, 0.5, thrust=30000)
    assert not crazyflie.bits & Bit.TUMBLED
    fly(crazyflie, 0.8, thrust=30000)
    assert crazyflie.bits & Bit.TUMBLED
    assert crazyflie.bits & Bit.CRASHED
    assert not crazyflie.bits & Bit.CAN_FLY
    assert ask(crazyflie, Port.SUPERVISOR, 1, [2]) == b"\x82\x00\x00"
    vehicle._body[6:10] = [0.0, 0.0, 0.0, 1.0]
    crazyflie.advance(0.02)
    assert ask(crazyflie, Port.SUPERVISOR, 1, [2]) == b"\x82\x01\x01"
    assert crazyflie.bits & Bit.CAN_FLY


def test_logged_attitude_has_the_firmware_signs():
    crazyflie = airborne()
    fly(crazyflie, 0.8, roll=5.0, pitch_up=10.0)
    truth = crazyflie.truth
    roll, pitch, gyro = logged(crazyflie, "stateEstimate.roll", "stateEstimate.pitch", "gyro.z")
    assert roll == pytest.approx(math.degrees(truth.rpy[0]), abs=0.3)
    assert pitch == pytest.approx(-math.degrees(truth.rpy[1]), abs=0.3)
    assert pitch > 5.0
    fly(crazyflie, 0.8, clockwise=-50.0)
    assert logged(crazyflie, "gyro.z")[0] == pytest.approx(50.0, rel=0.1)
    assert gyro == pytest.approx(0.0, abs=1.0)


def test_external_poses_set_the_estimate():
    crazyflie = boot(pos=(1.0, 2.0, 0.0), yaw=0.5)
    names = ("stateEstimate.x", "stateEstimate.y", "stateEstimate.yaw")
    np.testing.assert_allclose(logged(crazyflie, *names), 0.0, atol=1e-3)
    pose = struct.pack("<B7f", 8, 1.0, 2.0, 0.0, 0.0, 0.0, math.sin(0.25), math.cos(0.25))
    crazyflie.handle(Packet(Port.LOCALIZATION, 1, pose))
    np.testing.assert_allclose(logged(crazyflie, *names), [1.0, 2.0, math.degrees(0.5)], atol=1e-3)
    crazyflie.handle(Packet(Port.LOCALIZATION, 1, struct.pack("<B7f", 8, 1.5, 2.0, 0.0, *[math.nan] * 4)))
    np.testing.assert_allclose(logged(crazyflie, *names), [1.5, 2.0, math.degrees(0.5)], atol=1e-3)
    crazyflie.handle(Packet(Port.LOCALIZATION, 0, struct.pack("<3f", 1.2, 2.0, 0.0)))
    np.testing.assert_allclose(logged(crazyflie, *names)[0], 1.2, atol=1e-3)
    index = [p.name for p in firmware_parameters("small")].index("kalman.resetEstimation")
    assert ask(crazyflie, Port.PARAM, 2, struct.pack("<HB", index, 1)) == struct.pack("<HB", index, 1)
    np.testing.assert_allclose(logged(crazyflie, *names), 0.0, atol=1e-3)


def test_a_take_off_right_after_a_reset_of_the_estimate_begins_where_that_says():
    crazyflie = boot(pos=(1.0, 2.0, 0.0))
    crazyflie.handle(Packet(Port.LOCALIZATION, 0, struct.pack("<3f", 1.0, 2.0, 0.0)))
    crazyflie.advance(0.1)
    index = [p.name for p in firmware_parameters("small")].index("kalman.resetEstimation")
    ask(crazyflie, Port.PARAM, 2, struct.pack("<HB", index, 1))
    crazyflie.handle(Packet(Port.HIGH_LEVEL, 0, struct.pack("<BBff?f", 7, 0, 0.4, 0.0, True, 1.0)))
    crazyflie.advance(2.0)
    np.testing.assert_allclose(crazyflie.truth.pos, [1.0, 2.0, 0.4], atol=0.15)


def test_gusts_push_it():
    crazyflie = boot(pos=(0.0, 0.0, 5.0), force=lambda t: np.array([0.01, 0.0, 0.0]))
    crazyflie.advance(0.1)
    assert crazyflie.truth.vel[0] == pytest.approx(0.01 / plant_config().body.mass * 0.1, rel=0.05)


def test_log_blocks_stream_at_their_period():
    crazyflie = boot()
    start_block(crazyflie, 3, "pm.vbat", period=5)
    packets = [packet for _ in range(100) for packet in crazyflie.advance(0.01)]
    stamps = [int.from_bytes(packet.data[1:4], "little") for packet in packets]
    assert np.all(np.diff(stamps) == 50)
    assert len(stamps) == 20
    assert packets[0].data[0] == 3
    assert 3.5 < struct.unpack("<f", packets[0].data[4:])[0] < 4.2
    assert ask(crazyflie, Port.LOG, 1, [4, 3]) == b"\x04\x03\x00"
    assert crazyflie.advance(0.2) == []


def test_log_blocks_refuse_what_the_firmware_refuses():
    crazyflie = boot()
    start_block(crazyflie, 1, "pm.vbat")
    item = struct.pack("<BH", 7, log_index("pm.vbat"))
    assert ask(crazyflie, Port.LOG, 1, bytes([6, 1]) + item)[2] == Status.EXISTS
    assert ask(crazyflie, Port.LOG, 1, bytes([6, 2]) + 7 * item)[2] == Status.TOO_BIG
    assert ask(crazyflie, Port.LOG, 1, bytes([6, 2]) + item)[2] == Status.EXISTS  # it is there, with what it took
    assert ask(crazyflie, Port.LOG, 1, bytes([6, 3]) + struct.pack("<BH", 7, 999))[2] == Status.NO_SUCH_ENTRY
    assert ask(crazyflie, Port.LOG, 1, bytes([3, 9, 1]))[2] == Status.NO_SUCH_ENTRY
    assert ask(crazyflie, Port.LOG, 1, bytes([0, 9]) + item)[2] == Status.NOT_A_COMMAND
    for number in range(4, 17):
        assert ask(crazyflie, Port.LOG, 1, bytes([6, number]) + item)[2] == Status.OK
    assert ask(crazyflie, Port.LOG, 1, bytes([6, 17]) + item)[2] == Status.NO_MEMORY
    assert ask(crazyflie, Port.LOG, 1, [5]) == b"\x05\x00\x00"
    assert crazyflie.advance(0.1) == []


def test_log_blocks_hold_26_bytes_and_128_variables_appended_in_any_portions():
    crazyflie = boot()
    item = struct.pack("<BH", 1, log_index("pm.state"))
    for number in range(1, 5):
        assert ask(crazyflie, Port.LOG, 1, bytes([6, number]) + 9 * item)[2] == Status.OK
        for _ in range(2):
            assert ask(crazyflie, Port.LOG, 1, bytes([7, number]) + 8 * item)[2] == Status.OK
        assert ask(crazyflie, Port.LOG, 1, bytes([7, number]) + 2 * item)[2] == Status.TOO_BIG
    assert ask(crazyflie, Port.LOG, 1, bytes([6, 5]) + 9 * item)[2] == Status.OK
    assert ask(crazyflie, Port.LOG, 1, bytes([7, 5]) + 9 * item)[2] == Status.OK
    assert ask(crazyflie, Port.LOG, 1, bytes([7, 5]) + 9 * item)[2] == Status.NO_MEMORY
    assert ask(crazyflie, Port.LOG, 1, [3, 1, 1])[2] == Status.OK
    (packet,) = crazyflie.advance(0.0101)
    assert len(packet.data) == MAX_DATA


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (1, b"\x05"),
        (2, b"\x05\x10"),
        (3, b"\x05\x10\x00\x00"),
        (4, b"\x05"),
        (7, struct.pack("<f", 4101.0)),
        (8, np.float16(4101.0).tobytes()),
    ],
)
def test_a_log_variable_is_sent_as_any_type(code, value):
    crazyflie = boot()
    voltage = 4.1015
    crazyflie.vehicle.parameters = crazyflie.vehicle.parameters._replace(
        full_voltage=voltage, resistance=0.0, voltage_drop=0.0
    )
    crazyflie.advance(0.01)
    item = struct.pack("<BH", code, log_index("pm.vbatMV"))
    assert ask(crazyflie, Port.LOG, 1, bytes([6, 1]) + item)[2] == Status.OK
    assert ask(crazyflie, Port.LOG, 1, [3, 1, 0])[2] == Status.OK  # no period: once
    packets = crazyflie.advance(0.1)
    assert [packet.data[4:] for packet in packets] == [value]


def test_periods_can_be_given_in_milliseconds():
    crazyflie = boot()
    assert ask(crazyflie, Port.LOG, 1, bytes([6, 1]) + struct.pack("<BH", 7, log_index("pm.vbat")))[2] == Status.OK
    assert ask(crazyflie, Port.LOG, 1, struct.pack("<BBH", 8, 1, 500))[2] == Status.OK
    assert len(crazyflie.advance(2.01)) == 4


@pytest.mark.parametrize("size", ["small", "full"])
def test_every_log_variable_and_parameter_is_served(size):
    crazyflie = boot(toc=size)
    for port, names in (
        (Port.LOG, list(log_variables(size))),
        (Port.PARAM, [parameter.name for parameter in firmware_parameters(size)]),
    ):
        count, _ = struct.unpack_from("<HI", ask(crazyflie, port, 0, [3]), 1)
        assert count == len(names)
        for index, name in enumerate(names):
            item = ask(crazyflie, port, 0, struct.pack("<BH", 2, index))
            assert item[4:-1].decode().replace("\0", ".") == name
        assert ask(crazyflie, port, 0, struct.pack("<BH", 2, count)) == b"\x02"
    for index in range(len(firmware_parameters(size))):
        assert ask(crazyflie, Port.PARAM, 1, struct.pack("<H", index))[2] == 0
    snapshot = crazyflie.telemetry()
    assert all(np.isfinite(variable.read(snapshot)) for variable in log_variables(size).values())


def test_the_full_tables_are_those_of_the_firmware():
    assert len(log_variables("full")) == 541
    assert len(firmware_parameters("full")) == 332
    assert set(log_variables("small")) <= set(log_variables("full"))
    assert set(SOURCES) <= set(log_variables("full"))
    assert {p.name for p in firmware_parameters("small")} <= {p.name for p in firmware_parameters("full")}
    assert log_variables("full")["stateEstimateZ.x"].kind == "h"


def test_read_only_parameters_stay():
    crazyflie = boot()
    index = [p.name for p in firmware_parameters("small")].index("firmware.revision1")
    assert crazyflie.handle(Packet(Port.PARAM, 2, struct.pack("<HH", index, 7))) == []
    assert ask(crazyflie, Port.PARAM, 1, struct.pack("<H", index)) == struct.pack("<HBH", index, 0, 0)
    assert ask(crazyflie, Port.PARAM, 1, struct.pack("<H", 500)) == struct.pack("<HB", 500, Status.NO_SUCH_ENTRY)


def test_parameters_by_name_their_types_defaults_and_storage():
    crazyflie = boot()
    index = [p.name for p in firmware_parameters("small")].index("pm.lowVoltage")
    head = struct.pack("<H", index)
    by_name = b"\0pm\0lowVoltage\0"
    assert ask(crazyflie, Port.PARAM, 3, by_name + b"\x06" + struct.pack("<f", 3.4)) == by_name + b"\0"
    assert ask(crazyflie, Port.PARAM, 1, head) == head + b"\0" + struct.pack("<f", 3.4)
    assert ask(crazyflie, Port.PARAM, 3, by_name + b"\x08\x01") == by_name + bytes([Status.INVALID])
    unknown = b"\0pm\0nothing\0"
    assert ask(crazyflie, Port.PARAM, 3, unknown + b"\x08\x01") == unknown + bytes([Status.NO_SUCH_ENTRY])
    assert ask(crazyflie, Port.PARAM, 3, b"\x07" + head) == b"\x07" + head + b"\0\1"
    assert ask(crazyflie, Port.PARAM, 3, b"\x08" + head) == b"\x08" + head + b"\0" + struct.pack("<f", 3.2)
    assert ask(crazyflie, Port.PARAM, 3, b"\x04" + head) == b"\x04" + head + b"\0" + struct.pack("<f", 3.2)
    assert ask(crazyflie, Port.PARAM, 3, b"\x03" + head) == b"\x03" + head + b"\0"
    assert ask(crazyflie, Port.PARAM, 3, b"\x04" + head) == b"\x04" + head + b"\1" + struct.pack("<ff", 3.2, 3.4)
    reboot(crazyflie)
    assert ask(crazyflie, Port.PARAM, 1, head) == head + b"\0" + struct.pack("<f", 3.4)
    assert ask(crazyflie, Port.PARAM, 3, b"\x05" + head) == b"\x05" + head + b"\0"
    reboot(crazyflie)
    assert ask(crazyflie, Port.PARAM, 1, head) == head + b"\0" + struct.pack("<f", 3.2)


def reboot(crazyflie):
    crazyflie.reboot()
    assert crazyflie.handle(Packet(Port.LINK, 1, b"\0")) == []
    crazyflie.advance(BOOT_TIME + 0.01)


def test_a_reboot_in_flight_stops_the_motors_and_forgets_everything():
    crazyflie = airborne()
    crazyflie.handle(Packet(Port.SUPERVISOR, 1, b"\x03"))
    start_block(crazyflie, 1, "pm.vbat")
    crazyflie.advance(0.1)
    assert crazyflie.bits & Bit.LOCKED
    reboot(crazyflie)
    assert crazyflie.truth.thrust < 1e-3
    assert not crazyflie.bits & Bit.LOCKED
    assert crazyflie.advance(0.1) == []
    fly(crazyflie, 0.3, thrust=50000)
    assert crazyflie.truth.thrust < 1e-3  # the thrust lock is back
    fly(crazyflie, 0.1, thrust=0)
    fly(crazyflie, 0.3, thrust=50000)
    assert crazyflie.truth.thrust > 0.3
    start_block(crazyflie, 1, "pm.vbat")
    (packet,) = crazyflie.advance(0.0101)
    assert int.from_bytes(packet.data[1:4], "little") < 1000.0 * (BOOT_TIME + 1.5)


def test_a_low_battery_is_reported_after_five_seconds():
    crazyflie = boot()
    index = [p.name for p in firmware_parameters("small")].index("pm.lowVoltage")
    ask(crazyflie, Port.PARAM, 2, struct.pack("<Hf", index, 4.2))
    crazyflie.advance(4.9)
    assert logged(crazyflie, "pm.state", "pm.batteryLevel") == (0.0, 90.0)
    crazyflie.advance(0.3)
    assert logged(crazyflie, "pm.state") == (3.0,)
    assert [battery_level(volts) for volts in (2.9, 3.5, 3.88, 4.2)] == [0, 10, 40, 90]


def test_versions_and_the_old_way_of_arming():
    crazyflie = boot(auto_arm=False)
    assert ask(crazyflie, Port.PLATFORM, 1, [0]) == b"\x00\x0c"
    assert b"virtual" in ask(crazyflie, Port.PLATFORM, 1, [1])
    assert b"Crazyflie 2.1" in ask(crazyflie, Port.PLATFORM, 1, [2])
    assert crazyflie.bits & Bit.CAN_ARM
    assert ask(crazyflie, Port.PLATFORM, 0, [1, 1]) == b"\x01\x01\x01"
    assert not crazyflie.bits & Bit.CAN_ARM  # it is
    assert ask(crazyflie, Port.SUPERVISOR, 0, [2]) == b"\x82\x01"
    assert ask(crazyflie, Port.SUPERVISOR, 0, [5]) == b"\x85\x00"
    assert ask(crazyflie, Port.PLATFORM, 0, [2]) == b"\x02\x01\x01"


def test_packets_survive_the_wire_and_rubbish_is_ignored():
    packet = Packet(Port.LOG, 2, b"abc")
    assert decode(encode(packet)) == packet
    assert decode(b"") is None
    assert decode(bytes(32)) is None
    crazyflie = boot()
    for port in range(16):
        for channel in range(4):
            for data in (b"", b"\x00", b"\x02", b"\x06\x01\x07", b"\x03\xff\xff", bytes(30), b"\xff" * 30):
                for reply in crazyflie.handle(Packet(port, channel, data)):
                    assert len(reply.data) <= MAX_DATA
    crazyflie.advance(0.1)


def test_what_is_not_simulated_is_said_once(caplog):
    crazyflie = boot()
    for _ in range(3):
        assert crazyflie.handle(Packet(12, 0, b"\0")) == []
    (record,) = caplog.records
    assert record.getMessage() == "the virtual Crazyflie ignores port 12; see deq-mpc virtual-crazyflie --help"


def test_what_the_controller_uses_is_not_remarked_on(caplog):
    crazyflie = airborne()
    crazyflie.handle(Packet(Port.GENERIC_COMMANDER, 0, b"\x00"))
    crazyflie.handle(Packet(Port.GENERIC_COMMANDER, 1, b"\x00" * 5))
    crazyflie.handle(Packet(Port.LOCALIZATION, 1, b"\x03"))
    assert not caplog.records


def test_it_repeats_exactly():
    one, two = airborne(), airborne()
    np.testing.assert_array_equal(one.truth.x, two.truth.x)
