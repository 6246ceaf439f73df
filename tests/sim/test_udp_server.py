"""The real cflib against the virtual Crazyflie, over UDP and in real time."""

import socket
import threading
import time

import numpy as np
import pytest

from deq_mpc_core.errors import UserError
from deq_mpc_sim import udp_server
from deq_mpc_sim.supervisor import Bit
from deq_mpc_sim.udp_server import UdpServer
from deq_mpc_sim.vehicle import Vehicle
from deq_mpc_sim.virtual_crazyflie import VirtualCrazyflie

cflib_crtp = pytest.importorskip("cflib.crtp")
from cflib.crazyflie import Crazyflie  # noqa: E402
from cflib.crazyflie.log import LogConfig  # noqa: E402
from cflib.crazyflie.syncCrazyflie import SyncCrazyflie  # noqa: E402

PATIENCE = 20.0  # s


def wait_for(condition, keep_doing=lambda: None):
    """Until ``condition()``; failing that within PATIENCE, fail."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        keep_doing()
        time.sleep(0.01)


@pytest.fixture
def server():
    vehicle = Vehicle()
    vehicle.reset(np.array([0.0, 0.0, 0.0]))
    with UdpServer(VirtualCrazyflie(vehicle), port=0) as running:
        yield running


@pytest.fixture
def crazyflie(server):
    cflib_crtp.init_drivers()
    link = Crazyflie(rw_cache=None)
    ready = threading.Event()
    link.fully_connected.add_callback(lambda uri: ready.set())
    link.open_link(server.uri)
    assert ready.wait(PATIENCE)
    yield link
    link.close_link()


def take_off(server, crazyflie):
    crazyflie.commander.send_setpoint(0.0, 0.0, 0.0, 0)
    wait_for(lambda: server.truth().pos[2] > 0.4, lambda: crazyflie.commander.send_setpoint(0.0, 0.0, 0.0, 50000))


def test_connects_and_finds_both_tables(server, crazyflie):
    assert crazyflie.platform.get_protocol_version() == 12
    assert crazyflie.log.toc.get_element_by_complete_name("stateEstimate.x") is not None
    assert crazyflie.param.get_value("stabilizer.estimator") == "2"
    assert float(crazyflie.param.get_value("locSrv.extPosStdDev")) == pytest.approx(0.01)


def test_parameters_are_written_and_read_back(crazyflie):
    answers = []
    crazyflie.param.add_update_callback("pm", "lowVoltage", lambda name, value: answers.append(float(value)))
    crazyflie.param.set_value("pm.lowVoltage", 3.35)
    wait_for(lambda: answers and answers[-1] == pytest.approx(3.35))


def test_log_data_flow(server, crazyflie):
    received = []
    block = LogConfig("state", 20)
    for name in ("stateEstimate.z", "pm.vbat", "supervisor.info"):
        block.add_variable(name)
    crazyflie.log.add_config(block)
    block.data_received_cb.add_callback(lambda stamp, values, _: received.append((stamp, values)))
    block.start()
    wait_for(lambda: len(received) >= 5)
    values = received[-1][1]
    assert values["stateEstimate.z"] == pytest.approx(0.0, abs=1e-3)
    assert 3.8 < values["pm.vbat"] < 4.2
    assert values["supervisor.info"] & Bit.CAN_FLY
    assert min(np.diff([stamp for stamp, _ in received])) > 10  # 20 ms, less the jitter of real time


@pytest.mark.parametrize(
    ("setpoint", "moved"),
    [
        ((0.0, 8.0, 0.0), lambda truth: truth.vel[0] > 0.2),
        ((8.0, 0.0, 0.0), lambda truth: truth.vel[1] < -0.2),
        ((0.0, 0.0, 60.0), lambda truth: truth.ang_vel[2] < -0.8),
    ],
    ids=["pitch forward", "roll right", "yaw rate clockwise"],
)
def test_setpoints_have_cflibs_signs(server, crazyflie, setpoint, moved):
    take_off(server, crazyflie)
    wait_for(lambda: moved(server.truth()), lambda: crazyflie.commander.send_setpoint(*setpoint, 43000))


def test_supervisor_over_its_port(server, crazyflie):
    assert crazyflie.supervisor.can_fly
    assert crazyflie.supervisor.is_auto_armed
    assert not crazyflie.supervisor.is_flying
    take_off(server, crazyflie)
    wait_for(lambda: crazyflie.supervisor.is_flying, lambda: crazyflie.commander.send_setpoint(0, 0, 0, 43000))
    crazyflie.supervisor.send_emergency_stop()
    wait_for(lambda: server.bits() & Bit.LOCKED)
    wait_for(lambda: server.truth().pos[2] == 0.0)


def test_external_poses_reach_the_estimate(server, crazyflie):
    crazyflie.extpos.send_extpose(1.0, -2.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    wait_for(lambda: abs(server._crazyflie.telemetry().motion.pos[1] + 2.0) < 1e-4)


def test_closing_the_link_cuts_the_motors(server, crazyflie):
    take_off(server, crazyflie)
    crazyflie.close_link()
    wait_for(lambda: server.truth().thrust < 1e-3)


def test_a_second_connection_works_after_the_first(server):
    cflib_crtp.init_drivers()
    for _ in range(2):
        with SyncCrazyflie(server.uri, cf=Crazyflie(rw_cache=None)) as link:
            assert link.is_link_open()


def test_a_scan_is_answered(server):
    host, port = server.uri.removeprefix("udp://").split(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(PATIENCE)
        probe.sendto(b"\xff", (host, int(port)))
        assert len(probe.recvfrom(64)[0]) >= 1


def test_a_port_in_use_is_named():
    vehicle = Vehicle()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"UDP port {port} is in use"):
            UdpServer(VirtualCrazyflie(vehicle), port)
    with pytest.raises(UserError, match="cannot listen at"):
        UdpServer(VirtualCrazyflie(vehicle), 0, "203.0.113.7")


def test_the_simulation_follows_the_clock_and_is_never_ahead():
    began = time.monotonic()
    with UdpServer(VirtualCrazyflie(Vehicle()), port=0) as server:
        wait_for(lambda: server.truth().t > 0.4)
        assert server.truth().t <= time.monotonic() - began + 0.01


def test_a_failure_in_the_thread_is_raised_at_the_end(server, monkeypatch):
    broken = UdpServer(VirtualCrazyflie(Vehicle()), port=0)
    monkeypatch.setattr(broken._crazyflie, "advance", lambda dt: 1 / 0)
    broken.start()
    wait_for(lambda: not broken._thread.is_alive())
    with pytest.raises(RuntimeError, match="stopped on an error"):
        broken.close()


def test_the_truth_is_of_now_though_nobody_sends(monkeypatch):
    monkeypatch.setattr(udp_server, "_WAIT", 0.3)  # s, in which its thread waits for a datagram
    vehicle = Vehicle()
    with UdpServer(VirtualCrazyflie(vehicle), port=0) as running:
        times = []

        def look():
            times.append(running.truth().t)

        wait_for(lambda: times and times[-1] > times[0] + 0.2, look)
    assert len(set(times)) > 4  # the thread alone would have moved it on once
