"""The link over the real cflib and UDP, against the virtual Crazyflie."""

import socket
import time
from collections.abc import Callable, Iterator
from math import inf

import numpy as np
import pytest

from deq_mpc_controller.conversions import load_thrust_map
from deq_mpc_controller.link import CrazyflieLink
from deq_mpc_controller.settings import controller_config
from deq_mpc_controller.vehicle_io import OFF, Setpoint, SetpointKind, due_setpoint
from deq_mpc_core.errors import UserError
from deq_mpc_core.models.crazyflie import hover_thrust
from deq_mpc_core.policy.interface import Command
from deq_mpc_sim.supervisor import Bit
from deq_mpc_sim.udp_server import UdpServer
from deq_mpc_sim.vehicle import Vehicle
from deq_mpc_sim.virtual_crazyflie import VirtualCrazyflie

CONFIG = controller_config().link
THRUST_MAP = load_thrust_map("cf21_legacy_props", "2026.04")
CLIMB = Setpoint(SetpointKind.FLY, Command(0.0, 0.0, 0.0, 0.36), arm=True)


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.005)


def virtual_crazyflie(auto_arm: bool = True) -> UdpServer:
    vehicle = Vehicle()
    vehicle.reset(np.zeros(3))
    return UdpServer(VirtualCrazyflie(vehicle, auto_arm=auto_arm), port=0)


def connected(server: UdpServer) -> CrazyflieLink:
    link = CrazyflieLink(server.uri, THRUST_MAP, CONFIG)
    link.connect()
    wait_for(lambda: link.status().age < 1.0)
    return link


@pytest.fixture
def server() -> Iterator[UdpServer]:
    with virtual_crazyflie() as server:
        yield server


@pytest.fixture
def link(server: UdpServer) -> Iterator[CrazyflieLink]:
    link = connected(server)
    yield link
    link.send(OFF)
    link.close()


def test_reports_battery_and_arming(link: CrazyflieLink) -> None:
    status = link.status()
    assert status.voltage == pytest.approx(4.1, abs=0.2)
    assert status.armed
    assert status.fault == ""


def test_thrust_is_unlocked_on_the_ground_and_a_setpoint_lifts_off(server: UdpServer, link: CrazyflieLink) -> None:
    def climb() -> bool:
        link.send(CLIMB)
        return server.truth().pos[2] > 0.05

    wait_for(climb)
    link.send(OFF)
    wait_for(lambda: server.truth().thrust < 0.02)


def test_a_silent_controller_is_held_then_levelled_then_stopped(server: UdpServer, link: CrazyflieLink) -> None:
    link.send(CLIMB)
    wait_for(lambda: server.truth().thrust > 0.25)
    wait_for(lambda: server.truth().thrust < 0.02)
    assert not server.bits() & Bit.LOCKED


def test_emergency_locks_and_stays(server: UdpServer, link: CrazyflieLink) -> None:
    link.send(CLIMB)
    wait_for(lambda: server.truth().thrust > 0.25)
    link.send(Setpoint(SetpointKind.EMERGENCY))
    wait_for(lambda: bool(server.bits() & Bit.LOCKED))
    link.send(CLIMB)
    wait_for(lambda: link.status().fault.startswith("locked"))
    assert server.truth().thrust < 0.36


def test_link_is_not_closed_in_the_air(server: UdpServer, link: CrazyflieLink) -> None:
    link.send(CLIMB)
    wait_for(lambda: server.truth().thrust > 0.25)
    with pytest.raises(RuntimeError, match="flies"):
        link.close()
    assert server.truth().thrust > 0.2


def test_arms_a_vehicle_that_does_not_arm_itself() -> None:
    with virtual_crazyflie(auto_arm=False) as server:
        link = connected(server)
        assert not link.status().armed
        link.send(Setpoint(SetpointKind.OFF, arm=True))
        wait_for(lambda: link.status().armed)
        link.close()


def test_a_mute_vehicle_raises_nothing_but_its_age_grows(server: UdpServer, link: CrazyflieLink) -> None:
    assert link.status().age < 1.0
    with server._lock:
        wait_for(lambda: link.status().age > 1.0)
        assert link.status().fault == ""
    wait_for(lambda: link.status().age < 0.5)


def test_a_vehicle_that_is_gone_is_a_fault() -> None:
    with virtual_crazyflie() as server:
        link = connected(server)
    wait_for(lambda: link.status().fault.startswith("link lost"))
    link.close()


def test_nobody_there_is_a_user_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        uri = f"udp://127.0.0.1:{mute.getsockname()[1]}"
        link = CrazyflieLink(uri, THRUST_MAP, CONFIG.model_copy(update={"attempt_time": 0.3, "connect_time": 0.5}))
        with pytest.raises(UserError, match=f"no Crazyflie at {uri} .no answer."):
            link.connect()


def test_waiting_for_somebody_can_be_cancelled() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        link = CrazyflieLink(f"udp://127.0.0.1:{mute.getsockname()[1]}", THRUST_MAP, CONFIG)
        assert not link.connect(cancelled=lambda: True)


def test_a_closed_port_is_a_user_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"udp://127.0.0.1:{closed.getsockname()[1]}"
    link = CrazyflieLink(uri, THRUST_MAP, CONFIG.model_copy(update={"attempt_time": 1.0, "connect_time": 0.5}))
    with pytest.raises(UserError, match="no Crazyflie at"):
        link.connect()


def test_a_malformed_uri_is_a_user_error_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match="check the uri"):
        CrazyflieLink("carrier-pigeon://7", THRUST_MAP, CONFIG).connect()
    assert time.monotonic() - began < CONFIG.connect_time / 2


def test_a_missing_radio_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []

    def fail(cancelled: Callable[[], bool]) -> str:
        attempts.append(cancelled)
        return "Couldn't load link driver: Cannot find a Crazyradio Dongle"

    link = CrazyflieLink("radio://0/80/2M/E7E7E7E7E7", THRUST_MAP, CONFIG)
    monkeypatch.setattr(link, "_attempt", fail)
    with pytest.raises(UserError, match="plug the Crazyradio in"):
        link.connect()
    assert len(attempts) == 1


@pytest.mark.parametrize(
    ("age", "kind", "thrust"),
    [
        (0.0, SetpointKind.FLY, CLIMB.command.thrust),
        (CONFIG.hold_time, SetpointKind.FLY, CLIMB.command.thrust),
        (CONFIG.hold_time + 0.01, SetpointKind.FLY, CONFIG.level_thrust * hover_thrust()),
        (CONFIG.hold_time + CONFIG.level_time + 0.01, SetpointKind.OFF, 0.0),
        (inf, SetpointKind.OFF, 0.0),
    ],
)
def test_due_setpoint(age: float, kind: SetpointKind, thrust: float) -> None:
    tilted = Setpoint(SetpointKind.FLY, CLIMB.command._replace(roll=0.3), arm=True)
    due = due_setpoint(tilted, age, CONFIG)
    assert due.kind is kind
    assert due.command.thrust == pytest.approx(thrust)
    assert (due.command.roll == 0.3) == (age <= CONFIG.hold_time)


@pytest.mark.parametrize("kind", [SetpointKind.OFF, SetpointKind.EMERGENCY])
def test_off_and_emergency_stay_for_ever(kind: SetpointKind) -> None:
    assert due_setpoint(Setpoint(kind), inf, CONFIG).kind is kind
