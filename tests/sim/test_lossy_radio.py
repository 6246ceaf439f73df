"""The radio of lockstep flights: what is lost, what the vehicle holds, and the firmware's time-outs."""

import numpy as np
import pytest

from deq_mpc_controller.vehicle_io import NO_COMMAND
from deq_mpc_core.policy.interface import Command
from deq_mpc_sim.lossy_radio import LossyRadio
from deq_mpc_sim.parameters import RadioConfig, world_config

HELD = Command(0.2, 0.1, 0.3, 0.31)
MUTE = RadioConfig.model_construct(packet_loss=1.0)


def commands(count):
    return [HELD._replace(thrust=0.2 + 1e-4 * k) for k in range(count)]


def test_without_losses_every_command_arrives_at_once():
    radio = LossyRadio(world_config().radio, np.random.default_rng(0), HELD)
    sent = commands(300)
    assert [radio.fly(0.01 * k, command) for k, command in enumerate(sent)] == sent


def test_a_lost_command_leaves_the_last_that_arrived_and_one_in_twenty_is_lost():
    radio = LossyRadio(world_config("lab").radio, np.random.default_rng(1), HELD)
    sent = commands(20_000)
    flown = [radio.fly(0.01 * k, command) for k, command in enumerate(sent)]
    lost = [k for k in range(1, len(sent)) if flown[k] is not sent[k]]
    assert len(lost) / len(sent) == pytest.approx(0.05, abs=0.005)
    assert all(flown[k] is flown[k - 1] for k in lost)
    runs = sum(1 for k in lost if k - 1 in lost)
    assert runs / len(lost) == pytest.approx(0.05, abs=0.02)  # each for itself


def test_a_vehicle_that_hears_nothing_levels_out_and_then_stops():
    radio = LossyRadio(MUTE, np.random.default_rng(0), HELD)
    flown = {k: radio.fly(0.01 * k, HELD._replace(roll=0.4)) for k in range(251)}
    assert all(flown[k] == HELD for k in range(51))
    assert all(flown[k] == Command(0.0, 0.0, 0.0, HELD.thrust) for k in range(51, 201))
    assert all(flown[k] == NO_COMMAND for k in range(201, 251))


def test_reports_come_every_period_and_age_when_lost():
    sound = LossyRadio(world_config().radio, np.random.default_rng(0), HELD)
    ages = [sound.report_age(0.01 * k) for k in range(1000)]
    assert max(ages) == pytest.approx(0.04)
    lossy = LossyRadio(world_config("lab").radio, np.random.default_rng(2), HELD)
    ages = np.array([lossy.report_age(0.01 * k) for k in range(20_000)])
    assert 0.08 < ages.max() < 0.3
    assert np.mean(ages > 0.045) == pytest.approx(0.05, abs=0.01)
    mute = LossyRadio(MUTE, np.random.default_rng(0), HELD)
    assert mute.report_age(7.0) == 7.0
