"""Scripts as in cflib's documentation, unchanged but for the URI, against virtual Crazyflies in real time."""

import math
import time

import numpy as np
import pytest

from deq_mpc_sim.supervisor import Bit
from deq_mpc_sim.udp_server import UdpServer
from deq_mpc_sim.vehicle import Vehicle
from deq_mpc_sim.virtual_crazyflie import VirtualCrazyflie

cflib_crtp = pytest.importorskip("cflib.crtp")
from cflib.crazyflie import Crazyflie  # noqa: E402
from cflib.crazyflie.log import LogConfig  # noqa: E402
from cflib.crazyflie.mem import MemoryElement, Poly4D  # noqa: E402
from cflib.crazyflie.swarm import CachedCfFactory, Swarm  # noqa: E402
from cflib.crazyflie.syncCrazyflie import SyncCrazyflie  # noqa: E402
from cflib.crazyflie.syncLogger import SyncLogger  # noqa: E402
from cflib.positioning.motion_commander import MotionCommander  # noqa: E402
from cflib.positioning.position_hl_commander import PositionHlCommander  # noqa: E402
from cflib.utils.reset_estimator import reset_estimator  # noqa: E402

PATIENCE = 20.0  # s


def serve(auto_arm=True, toc="full", y=0.0):
    vehicle = Vehicle()
    vehicle.reset(np.array([0.0, y, 0.0]))
    return UdpServer(VirtualCrazyflie(vehicle, auto_arm, toc=toc), port=0)


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def server():
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def scf(server, cache):
    """One connection for all scripts: opening it is what takes the time."""
    cflib_crtp.init_drivers()
    with SyncCrazyflie(server.uri, cf=Crazyflie(rw_cache=cache)) as link:
        link.wait_for_params()
        yield link


@pytest.fixture
def grounded(server, scf):
    """On the ground with still motors, and the high-level commander in charge."""
    scf.cf.commander.send_stop_setpoint()
    scf.cf.commander.send_notify_setpoint_stop()
    wait_for(lambda: server.truth().pos[2] == 0.0 and server.truth().thrust < 1e-3)
    return server.truth().pos


def test_the_tables_are_as_large_as_the_firmwares(scf):
    assert sum(len(group) for group in scf.cf.log.toc.toc.values()) == 541
    assert sum(len(group) for group in scf.cf.param.toc.toc.values()) == 332
    assert scf.cf.log.toc.get_element_by_complete_name("range.front").ctype == "uint16_t"
    assert scf.cf.param.toc.get_element_by_complete_name("pid_attitude.roll_kp").is_persistent()


def test_basic_log(scf):
    log_conf = LogConfig(name="Stabilizer", period_in_ms=20)
    log_conf.add_variable("stateEstimate.x", "float")
    log_conf.add_variable("stateEstimate.z", "float")
    log_conf.add_variable("stabilizer.roll", "FP16")
    log_conf.add_variable("pm.vbat", "FP16")
    log_conf.add_variable("pm.vbatMV")
    received = []
    scf.cf.log.add_config(log_conf)
    log_conf.data_received_cb.add_callback(lambda timestamp, data, logconf: received.append(data))
    log_conf.start()
    wait_for(lambda: len(received) > 3)
    log_conf.stop()
    assert received[-1]["pm.vbat"] == pytest.approx(received[-1]["pm.vbatMV"] / 1000.0, abs=0.01)


def test_synchronous_log(scf):
    config = LogConfig(name="Position", period_in_ms=20)
    for name in ("kalman.stateX", "kalman.stateY", "kalman.stateZ", "supervisor.info", "acc.z"):
        config.add_variable(name)
    with SyncLogger(scf, config) as logger:
        entries = [entry for _, entry in zip(range(5), logger, strict=False)]
    assert [entry[0] for entry in entries] == sorted(entry[0] for entry in entries)
    assert entries[-1][1]["acc.z"] == pytest.approx(1.0)


def test_parameters(scf):
    seen = []
    scf.cf.param.add_update_callback(group="stabilizer", name="estimator", cb=lambda name, value: seen.append(value))
    scf.cf.param.set_value("stabilizer.estimator", 2)
    wait_for(lambda: seen)
    assert scf.cf.param.get_value("stabilizer.estimator") == "2"
    states, defaults = [], []
    scf.cf.param.set_value("velCtlPid.vxKp", 24.0)
    scf.cf.param.persistent_store("velCtlPid.vxKp", lambda name, success: states.append(success))
    wait_for(lambda: states == [True])
    scf.cf.param.persistent_get_state("velCtlPid.vxKp", lambda name, state: states.append(state))
    wait_for(lambda: len(states) == 2)
    assert (states[1].is_stored, states[1].default_value, states[1].stored_value) == (True, 25.0, 24.0)
    scf.cf.param.get_default_value("velCtlPid.vxKp", lambda name, value: defaults.append(value))
    wait_for(lambda: defaults == [25.0])
    scf.cf.param.set_value("velCtlPid.vxKp", 25.0)


def test_motor_ramp(server, scf, grounded):
    commander = scf.cf.commander
    commander.send_setpoint(0, 0, 0, 0)  # unlocks the thrust
    for thrust in [*range(20000, 52000, 2000), *range(52000, 20000, -4000)]:
        commander.send_setpoint(0, 0, 0, thrust)
        time.sleep(0.04)
    assert server.truth().pos[2] > 0.02
    for _ in range(30):
        commander.send_setpoint(0, 0, 0, 0)
        time.sleep(0.01)


def test_motion_commander(server, scf, grounded):
    with MotionCommander(scf, default_height=0.3) as mc:
        assert server.truth().pos[2] > 0.05  # its controller has yet to find the thrust that hovers
        mc.forward(0.3, velocity=0.5)
        mc.stop()
        mc.turn_left(45, rate=90)
        mc.start_left(velocity=0.3)
        time.sleep(0.5)
        mc.stop()
        before_landing = server.truth()
    assert before_landing.pos[2] == pytest.approx(0.3, abs=0.15)
    assert before_landing.pos[0] - grounded[0] > 0.1
    assert before_landing.pos[1] - grounded[1] > 0.03
    assert 0.4 < before_landing.rpy[2] < 1.1
    wait_for(lambda: server.truth().thrust < 1e-3)


def test_position_high_level_commander(server, scf, grounded):
    scf.cf.param.set_value("kalman.resetEstimation", "1")
    turned = server.truth().rpy[2]
    with PositionHlCommander(scf, default_height=0.4, controller=PositionHlCommander.CONTROLLER_PID) as pc:
        pc.forward(0.3)
        pc.go_to(0.3, 0.2, 0.5, velocity=0.6)
        time.sleep(0.5)
        moved = server.truth().pos - grounded
        assert pc.get_position() == (0.3, 0.2, 0.5)
    c, s = math.cos(turned), math.sin(turned)
    np.testing.assert_allclose(moved, [0.3 * c - 0.2 * s, 0.3 * s + 0.2 * c, 0.5], atol=0.12)


def test_high_level_commander_and_an_uploaded_trajectory(server, scf, grounded):
    scf.cf.param.set_value("kalman.resetEstimation", "1")
    trajectory_mem = scf.cf.mem.get_mems(MemoryElement.TYPE_TRAJ)[0]
    along = Poly4D.Poly([0.0, 0.0, 0.0, 0.4, -0.2] + [0.0] * 3)
    trajectory_mem.trajectory = [Poly4D(1.0, x=along)]
    assert trajectory_mem.write_data_sync()
    commander = scf.cf.high_level_commander
    commander.define_trajectory(1, 0, 1)
    commander.takeoff(0.4, 1.0, yaw=None)
    time.sleep(1.2)
    assert scf.cf.supervisor.hl_control_active
    commander.go_to(0.1, 0.0, 0.0, 0.0, 0.6, relative=True)
    time.sleep(0.7)
    commander.start_trajectory(1, 1.0, relative_position=True)
    time.sleep(1.3)
    moved = server.truth().pos - grounded
    assert math.hypot(moved[0], moved[1]) == pytest.approx(0.3, abs=0.1)
    commander.land(0.0, 0.8, yaw=None)
    time.sleep(1.0)
    commander.stop()
    wait_for(lambda: server.truth().thrust < 1e-3)
    assert not scf.cf.supervisor.hl_control_active
    assert scf.cf.supervisor.hl_traj_finished


def test_setpoints_of_every_kind(server, scf, grounded):
    commander = scf.cf.commander

    def stream(send, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            send()
            time.sleep(0.02)

    stream(lambda: commander.send_hover_setpoint(0.0, 0.0, 0.0, 0.4), 1.0)
    stream(lambda: commander.send_velocity_world_setpoint(0.0, 0.0, 0.2, 0.0), 0.3)
    stream(lambda: commander.send_zdistance_setpoint(0.0, 0.0, 0.0, 0.4), 0.3)
    here = [float(value) for value in server._crazyflie.telemetry().motion.pos]
    stream(lambda: commander.send_position_setpoint(*here, 0.0), 0.3)
    still = [0.0, 0.0, 0.0]
    stream(lambda: commander.send_full_state_setpoint(here, still, still, [0.0, 0.0, 0.0, 1.0], 0.0, 0.0, 0.0), 0.3)
    assert server.truth().pos[2] > 0.2
    stream(lambda: commander.send_setpoint_manual(0.0, 0.0, 0.0, 60.0, False), 0.1)
    commander.send_stop_setpoint()
    commander.send_notify_setpoint_stop()
    wait_for(lambda: server.truth().thrust < 1e-3)


def test_external_positions_and_poses_and_the_estimators_reset(server, scf, grounded):
    scf.cf.extpos.send_extpos(1.0, 2.0, 0.0)
    wait_for(lambda: abs(server._crazyflie.telemetry().motion.pos[1] - 2.0) < 1e-3)
    scf.cf.extpos.send_extpose(0.5, 0.25, 0.0, 0.0, 0.0, math.sin(0.3), math.cos(0.3))
    wait_for(lambda: abs(server._crazyflie.telemetry().motion.yaw - 0.6) < 1e-3)
    reset_estimator(scf)  # waits for steady variances: those of a perfect estimate are 0
    wait_for(lambda: np.abs(server._crazyflie.telemetry().motion.pos).max() < 1e-3)


def test_arming_and_emergency_stop(cache):
    with serve(auto_arm=False) as unarmed, SyncCrazyflie(unarmed.uri, cf=Crazyflie(rw_cache=cache)) as link:
        assert link.cf.supervisor.can_be_armed
        link.cf.high_level_commander.takeoff(0.4, 0.5)
        time.sleep(0.3)
        assert unarmed.truth().thrust == 0.0
        link.cf.supervisor.send_arming_request(True)
        wait_for(lambda: unarmed.bits() & Bit.ARMED)
        link.cf.high_level_commander.takeoff(0.4, 0.5)
        wait_for(lambda: unarmed.truth().pos[2] > 0.1)
        link.cf.supervisor.send_emergency_stop()
        wait_for(lambda: unarmed.bits() & Bit.LOCKED)
        wait_for(lambda: unarmed.truth().pos[2] == 0.0)
        assert "Is locked" in link.cf.supervisor.read_state_list()


def test_a_swarm(cache):
    with serve(toc="small") as one, serve(toc="small", y=1.0) as two:
        with Swarm({one.uri, two.uri}, factory=CachedCfFactory(rw_cache=cache)) as swarm:

            def take_off(scf, height):
                scf.cf.high_level_commander.takeoff(height, 0.8)

            swarm.parallel_safe(take_off, args_dict={one.uri: [0.3], two.uri: [0.6]})
            wait_for(lambda: abs(one.truth().pos[2] - 0.3) < 0.1 and abs(two.truth().pos[2] - 0.6) < 0.1)
            swarm.parallel_safe(lambda scf: scf.cf.high_level_commander.stop())
        assert two.truth().pos[1] == pytest.approx(1.0, abs=0.05)
