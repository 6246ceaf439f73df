"""The link in simulated time, against the virtual Crazyflie: what the real link does, without cflib and threads."""

import numpy as np
import pytest

from deq_mpc_controller.conversions import load_thrust_map
from deq_mpc_controller.settings import controller_config
from deq_mpc_controller.vehicle_io import OFF, Setpoint, SetpointKind
from deq_mpc_core.policy.interface import Command
from deq_mpc_sim.lockstep_link import LINK_LOST, LockstepLink
from deq_mpc_sim.supervisor import Bit
from deq_mpc_sim.vehicle import Vehicle
from deq_mpc_sim.virtual_crazyflie import VirtualCrazyflie

CONFIG = controller_config().link
CLIMB = Setpoint(SetpointKind.FLY, Command(0.0, 0.0, 0.0, 0.36), arm=True)


class Pair:
    """A vehicle on the floor and its link; ``deaf``: nothing comes back."""

    def __init__(self, auto_arm=True):
        self.crazyflie = VirtualCrazyflie(Vehicle(), auto_arm)
        self.link = LockstepLink(self.crazyflie, load_thrust_map("cf21_legacy_props", "2026.04"), CONFIG)
        self.link.connect()
        self.mute = False

    def run(self, seconds, setpoint=None):
        for _ in range(round(seconds / 0.005)):
            if setpoint is not None:
                self.link.send(setpoint)
            self.link.serve()
            packets = self.crazyflie.advance(0.005)
            self.link.receive([] if self.mute else packets)
        return self.link.status()


def test_reports_tell_what_the_vehicle_says():
    pair = Pair()
    pair.link.send_pose([0.3, -0.2, 0.0], [0.0, 0.0, 0.0, 1.0])
    status = pair.run(0.3)
    assert status.age <= CONFIG.log_period
    assert status.voltage == pytest.approx(pair.crazyflie.truth.voltage, abs=1e-3)
    assert status.pos == pytest.approx([0.3, -0.2, 0.0], abs=1e-6)
    assert (status.armed, status.fault, status.lost) == (True, "", False)


def test_zero_setpoints_unlock_the_thrust_then_it_flies_and_an_old_setpoint_brings_it_down():
    pair = Pair()
    pair.run(0.2, OFF)
    pair.run(1.0, CLIMB)
    height = pair.crazyflie.truth.pos[2]
    assert height > 0.3
    pair.run(CONFIG.hold_time + CONFIG.level_time + 0.05)
    assert not pair.crazyflie.vehicle.motor_counts.any()


def test_a_vehicle_that_does_not_arm_itself_is_armed_and_disarmed():
    pair = Pair(auto_arm=False)
    pair.run(0.2, OFF)
    assert not pair.link.status().armed
    assert pair.run(0.3, Setpoint(SetpointKind.OFF, arm=True)).armed
    assert not pair.run(CONFIG.down_time + 2.0, OFF).armed


def test_an_emergency_locks_it_for_ever():
    pair = Pair()
    pair.run(0.2, OFF)
    status = pair.run(0.2, Setpoint(SetpointKind.EMERGENCY))
    assert pair.crazyflie.bits & Bit.LOCKED
    assert status.fault == "locked: reboot it"
    assert pair.run(1.0, CLIMB).fault
    assert pair.crazyflie.truth.pos[2] == 0.0


def test_a_link_that_is_given_up_sends_nothing_and_is_made_anew_once_the_vehicle_is_down():
    pair = Pair()
    pair.run(0.2, OFF)
    pair.run(0.5, CLIMB)
    pair.link.lose()
    status = pair.run(1.0, OFF)
    assert (status.lost, status.fault) == (True, LINK_LOST)
    assert pair.crazyflie.vehicle.motor_counts.any()  # nobody tells it to stop them
    assert status.age > 0.9
    status = pair.run(CONFIG.down_time + 0.5, OFF)
    assert not status.lost
    assert status.age <= CONFIG.log_period


def test_a_mute_vehicle_on_the_ground_is_connected_to_anew():
    pair = Pair()
    pair.run(0.2, OFF)
    pair.mute = True
    assert pair.run(CONFIG.mute_time + 0.5, OFF).age > CONFIG.mute_time
    pair.crazyflie.reboot()
    pair.mute = False
    status = pair.run(CONFIG.mute_time + 2.0, OFF)
    assert status.age <= CONFIG.log_period
    assert np.isfinite(status.voltage)


def test_sending_that_fails_is_a_lost_link_until_it_succeeds_again():
    pair = Pair()
    pair.run(0.2, OFF)
    pair.link.fails = True
    assert not pair.run(0.5 * CONFIG.stall_time, CLIMB).lost
    status = pair.run(CONFIG.stall_time, CLIMB)
    assert status.lost
    assert "sending fails (OSError" in status.fault
    pair.link.fails = False
    status = pair.run(0.1, CLIMB)
    assert (status.lost, status.fault) == (False, "")
