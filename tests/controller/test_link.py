"""The link over the real cflib and UDP, against the virtual Crazyflie."""

import socket
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from witness import CLIMB, CONFIG, THRUST_MAP, WitnessServer, connected, wait_for

from deq_mpc_controller.conversions import rpyt_from_command, rpyt_from_packet
from deq_mpc_controller.link import CrazyflieLink
from deq_mpc_controller.vehicle_io import OFF, Setpoint, SetpointKind
from deq_mpc_core.errors import UserError
from deq_mpc_core.policy.interface import Command
from deq_mpc_sim.crtp import Port
from deq_mpc_sim.supervisor import Bit


@pytest.fixture
def server() -> Iterator[WitnessServer]:
    with WitnessServer() as server:
        yield server


@pytest.fixture
def link(server: WitnessServer) -> Iterator[CrazyflieLink]:
    link = connected(server)
    yield link
    link.send(OFF)
    link.close()


def test_reports_battery_and_arming(link: CrazyflieLink) -> None:
    status = link.status()
    assert status.voltage == pytest.approx(4.1, abs=0.2)
    assert status.armed
    assert status.fault == ""
    np.testing.assert_allclose(status.pos, np.zeros(3), atol=1e-3)


def test_thrust_is_unlocked_on_the_ground_and_a_setpoint_lifts_off(server: WitnessServer, link: CrazyflieLink) -> None:
    def climb() -> bool:
        link.send(CLIMB)
        return server.truth().pos[2] > 0.05

    wait_for(climb)
    link.send(OFF)
    wait_for(lambda: server.truth().thrust < 0.02)


def test_a_silent_controller_is_held_then_levelled_then_stopped(server: WitnessServer, link: CrazyflieLink) -> None:
    link.send(CLIMB)
    wait_for(lambda: server.truth().thrust > 0.25)
    wait_for(lambda: server.truth().thrust < 0.02)
    assert not server.bits() & Bit.LOCKED


def test_emergency_locks_and_stays(server: WitnessServer, link: CrazyflieLink) -> None:
    link.send(CLIMB)
    wait_for(lambda: server.truth().thrust > 0.25)
    link.send(Setpoint(SetpointKind.EMERGENCY))
    wait_for(lambda: bool(server.bits() & Bit.LOCKED))
    link.send(CLIMB)
    wait_for(lambda: link.status().fault.startswith("locked"))
    assert server.truth().thrust < 0.36


def test_link_is_not_closed_in_the_air(server: WitnessServer, link: CrazyflieLink) -> None:
    link.send(CLIMB)
    wait_for(lambda: server.truth().thrust > 0.25)
    with pytest.raises(RuntimeError, match="flies"):
        link.close()
    assert server.truth().thrust > 0.2


def test_arms_and_disarms_a_vehicle_that_does_not_arm_itself() -> None:
    with WitnessServer(auto_arm=False) as server:
        link = connected(server)
        assert not link.status().armed
        assert link.status().arms_itself is False
        link.send(Setpoint(SetpointKind.OFF, arm=True))
        wait_for(lambda: link.status().armed)
        link.send(OFF)
        wait_for(lambda: not link.status().armed)
        link.send(Setpoint(SetpointKind.OFF, arm=True))
        wait_for(lambda: link.status().armed)
        link.close()
        wait_for(lambda: not server.bits() & Bit.ARMED)


def test_a_mute_vehicle_raises_nothing_but_its_age_grows(server: WitnessServer, link: CrazyflieLink) -> None:
    assert link.status().age < 1.0
    assert link.status().arms_itself is True
    with server._lock:
        wait_for(lambda: link.status().age > 1.0)
        assert link.status().fault == ""
    wait_for(lambda: link.status().age < 0.5)


IMPATIENT = CONFIG.model_copy(update={"mute_time": 0.5, "attempt_time": 3.0, "retry_pause": 0.05})


def test_a_vehicle_that_is_gone_is_a_fault_until_it_is_back() -> None:
    with WitnessServer() as server:
        link = connected(server, IMPATIENT)
        port = int(server.uri.rsplit(":", 1)[1])
    wait_for(lambda: link.status().fault.startswith("link lost"))
    with WitnessServer(port=port) as server:
        wait_for(lambda: link.status().fault == "" and link.status().age < 0.5)
        wait_for(lambda: len(server.crazyflie.sent_to(Port.COMMANDER)) > 2)
        link.close()
    assert set(server.crazyflie.thrusts()) == {0}


def test_a_link_lost_in_the_air_is_made_anew_only_when_the_vehicle_is_down() -> None:
    """Before that it would begin with the zero setpoint that cuts the motors."""
    config, flown = IMPATIENT.model_copy(update={"down_time": 1.5}), []

    def note(now: float, setpoint: Setpoint) -> None:
        if setpoint.kind is SetpointKind.FLY:
            flown.append(now)

    with WitnessServer() as server:
        link = connected(server, config, on_sent=note)
        port = int(server.uri.rsplit(":", 1)[1])
        link.send(CLIMB)
        wait_for(lambda: server.truth().thrust > 0.25)

    def lost() -> bool:
        link.send(CLIMB)
        return link.status().lost

    wait_for(lost)
    link.send(OFF)
    with WitnessServer(port=port) as server:
        wait_for(lambda: len(server.crazyflie.received) > 0)
        assert time.monotonic() - flown[-1] > config.down_time
        wait_for(lambda: link.status().fault == "" and not link.status().lost)
        link.close()


def test_a_vehicle_that_is_gone_for_good_does_not_keep_the_link_open() -> None:
    with WitnessServer() as server:
        link = connected(server, IMPATIENT)
    wait_for(lambda: "reconnecting (" in link.status().fault)
    link.close()


def test_a_vehicle_that_falls_mute_on_the_ground_is_connected_to_anew() -> None:
    with WitnessServer() as server:
        link = connected(server, IMPATIENT)
        server.crazyflie.mute = True
        wait_for(lambda: "no word for" in link.status().fault and "reconnecting" in link.status().fault)
        server.crazyflie.mute = False
        wait_for(lambda: link.status().fault == "" and link.status().age < 0.5)
        link.close()


def test_nothing_is_connected_anew_in_the_air() -> None:
    with WitnessServer() as server:
        link = connected(server, IMPATIENT)
        greetings = len(server.crazyflie.sent_to(Port.LINK, 1))
        server.crazyflie.mute = True

        def silent_for_long() -> bool:
            link.send(CLIMB)
            return link.status().age > 3.0 * IMPATIENT.mute_time

        wait_for(silent_for_long)
        assert link.status().fault == ""
        assert len(server.crazyflie.sent_to(Port.LINK, 1)) == greetings
        link.send(OFF)
        wait_for(lambda: len(server.crazyflie.sent_to(Port.LINK, 1)) > greetings)
        link.close()


@pytest.mark.parametrize(
    ("protocol", "arming", "disarming", "emergency"),
    [(12, (9, 1, b"\1\1"), (9, 1, b"\1\0"), (9, 1, b"\3")), (10, (13, 0, b"\1\1"), (13, 0, b"\1\0"), (6, 1, b"\3"))],
)
def test_old_firmware_is_armed_and_stopped_on_its_own_ports(
    protocol: int, arming: tuple, disarming: tuple, emergency: tuple
) -> None:
    with WitnessServer(auto_arm=False, protocol=protocol) as server:
        link = connected(server)
        link.send(Setpoint(SetpointKind.OFF, arm=True))
        wait_for(lambda: arming[2] in server.crazyflie.sent_to(*arming[:2]))
        link.send(OFF)
        wait_for(lambda: disarming[2] in server.crazyflie.sent_to(*disarming[:2]))
        link.send(Setpoint(SetpointKind.EMERGENCY))
        wait_for(lambda: emergency[2] in server.crazyflie.sent_to(*emergency[:2]))
        wait_for(lambda: bool(server.bits() & Bit.LOCKED))
        link.close()


def test_setpoints_go_on_along_the_plan_when_the_controller_is_late(server: WitnessServer, link: CrazyflieLink) -> None:
    pitches = (0.0, 0.1, 0.2, 0.3)
    commands = [Command(0.0, pitch, 0.0, 0.1) for pitch in pitches]
    link.send(Setpoint(SetpointKind.FLY, commands[0], arm=True, plan=tuple(commands[1:]), spacing=0.05))
    thrust = rpyt_from_command(commands[0], THRUST_MAP).thrust

    def planned() -> list[float]:
        rpyts = [rpyt_from_packet(data) for data in server.crazyflie.sent_to(Port.COMMANDER)]
        return [rpyt.pitch for rpyt in rpyts if rpyt.thrust == thrust]

    wait_for(lambda: len(planned()) > 0 and server.crazyflie.thrusts()[-1] == 0)
    sent = planned()
    assert sent == sorted(sent)
    assert sent[0] < np.degrees(0.1) < sent[-1] <= np.degrees(0.3) + 1e-4
    assert len(set(sent)) > 3


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
    with pytest.raises(UserError, match="write it like"):
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
    ("reason", "advice"),
    [
        ("Couldn't load link driver: Could not open usb://0", "plug its USB cable in"),
        ("Couldn't load link driver: Cannot find radio with serial ABCDEF0123", "write its number"),
        ("Couldn't load link driver: [Errno 13] Access denied (insufficient permissions)", "udev rules"),
        ("it does not log supervisor.info", "update the firmware"),
    ],
)
def test_what_no_waiting_cures_is_said_at_once(monkeypatch: pytest.MonkeyPatch, reason: str, advice: str) -> None:
    link = CrazyflieLink("usb://0", THRUST_MAP, CONFIG)
    attempts = iter([reason])
    monkeypatch.setattr(link, "_attempt", lambda _cancelled: next(attempts))
    with pytest.raises(UserError, match=advice):
        link.connect()


def test_a_usb_cable_that_is_not_there_is_said_at_once() -> None:
    with pytest.raises(UserError, match=r"no Crazyflie at usb://7 \(.*\); \w+"):
        CrazyflieLink("usb://7", THRUST_MAP, CONFIG.model_copy(update={"connect_time": 0.5})).connect()
