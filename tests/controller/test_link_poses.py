"""Poses on their way to the on-board estimator, which is prepared for them, and to the setpoints made of them."""

import time
from collections.abc import Iterator

import numpy as np
import pytest
from cflib.crazyflie.commander import Commander
from witness import CONFIG, THRUST_MAP, WitnessServer, connected, wait_for

from deq_mpc_controller.conversions import decode_extpose, rpyt_from_command, rpyt_from_packet
from deq_mpc_controller.link import CrazyflieLink
from deq_mpc_controller.vehicle_io import OFF, Setpoint, SetpointKind
from deq_mpc_core.policy.interface import Command
from deq_mpc_sim.crtp import Port
from deq_mpc_sim.supervisor import Supervisor


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


def test_the_newest_pose_is_forwarded_no_faster_than_wanted() -> None:
    with WitnessServer() as server:
        link = connected(server, CONFIG.model_copy(update={"extpose_rate": 20.0}))
        began, sent = server.crazyflie.t, 0
        while server.crazyflie.t < began + 0.5:
            sent += 1
            link.send_pose(np.array([sent, 0.0, 1.0]), np.array([0.0, 0.0, 0.0, 1.0]))
            time.sleep(0.003)
        wait_for(lambda: decode_extpose(server.crazyflie.sent_to(Port.LOCALIZATION, 1)[-1])[0][0] == sent)
        duration = server.crazyflie.t - began
        numbers = [decode_extpose(data)[0][0] for data in server.crazyflie.sent_to(Port.LOCALIZATION, 1)]
        assert numbers == sorted(set(numbers))
        assert 2 <= len(numbers) <= 20.0 * duration + 2
        link.close()


def parameter_writes(server: WitnessServer, link: CrazyflieLink) -> list[tuple[str, int]]:
    """Name and value of each parameter that was written, one byte long."""
    toc = link._cf.param.toc
    writes = [(data[0] + 256 * data[1], data[2]) for data in server.crazyflie.sent_to(Port.PARAM, 2)]
    elements = [(toc.get_element_by_id(number), value) for number, value in writes]
    return [(f"{element.group}.{element.name}", value) for element, value in elements]


def test_the_estimator_that_takes_poses_is_chosen_and_begins_anew(server: WitnessServer, link: CrazyflieLink) -> None:
    wait_for(lambda: len(parameter_writes(server, link)) == 3)
    assert parameter_writes(server, link) == [
        ("stabilizer.estimator", 2),
        ("kalman.resetEstimation", 1),
        ("kalman.resetEstimation", 0),
    ]

    def located() -> bool:
        link.send_pose(np.array([1.0, -0.5, 0.1]), np.array([0.0, 0.0, 0.0, 1.0]))
        return bool(np.allclose(link.status().pos, [1.0, -0.5, 0.1], atol=0.01))

    wait_for(located)
    assert len(parameter_writes(server, link)) == 3


def test_no_estimator_is_reset_in_the_air(monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that is started while the vehicle flies: its reports say so."""
    flying = [True]
    monkeypatch.setattr(Supervisor, "flying", lambda _self, _t: flying[0])
    with WitnessServer() as server:
        link = connected(server)
        before = len(server.crazyflie.sent_to(Port.COMMANDER))
        wait_for(lambda: len(server.crazyflie.sent_to(Port.COMMANDER)) > before + 20)
        assert parameter_writes(server, link) == []
        flying[0] = False
        wait_for(lambda: len(parameter_writes(server, link)) == 3)
        link.close()


def test_no_pose_is_forwarded_at_rate_zero() -> None:
    with WitnessServer() as server:
        link = connected(server, CONFIG.model_copy(update={"extpose_rate": 0.0}))
        link.send_pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
        before = len(server.crazyflie.sent_to(Port.COMMANDER))
        wait_for(lambda: len(server.crazyflie.sent_to(Port.COMMANDER)) > before + 5)
        assert server.crazyflie.sent_to(Port.LOCALIZATION, 1) == []
        assert server.crazyflie.sent_to(Port.PARAM, 2) == []
        link.close()


def test_a_received_setpoint_is_paired_with_the_pose_that_it_was_computed_from() -> None:
    stamps: dict[bytes, float] = {}
    wire: list[bytes] = []

    class Recorder:
        def send_packet(self, packet: object) -> None:
            wire.append(bytes(packet.data))

    def remember(_now: float, setpoint: Setpoint) -> None:
        if setpoint.kind is SetpointKind.FLY and setpoint.stamp is not None:
            Commander(Recorder()).send_setpoint(*rpyt_from_command(setpoint.command, THRUST_MAP))
            stamps[wire[-1]] = setpoint.stamp

    with WitnessServer() as server:
        link = connected(server, on_sent=remember)
        for step in range(20):
            command = Command(0.001 * step, 0.0, 0.0, 0.1)
            link.send(Setpoint(SetpointKind.FLY, command, arm=True, stamp=float(step)))
            wait_for(lambda step=step: float(step) in stamps.values())
        received = [data for data in server.crazyflie.sent_to(Port.COMMANDER) if rpyt_from_packet(data).thrust > 0]
        assert {stamps[data] for data in received} >= set(map(float, range(19)))
        link.send(OFF)
        link.close()
