"""The control step and time: a vehicle that is mute or lost, a clock that is set, a step that is late, a plan."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lockstep_flight import HEALTHY, STRAIGHT, THRUST_MAP, BrokenPolicy, Flight, landed

from deq_mpc_controller.estimate import Gate
from deq_mpc_controller.flight import Mode
from deq_mpc_controller.flight_clock import FlightClock
from deq_mpc_controller.pilot import Pilot
from deq_mpc_controller.setpoint_stream import due_setpoint
from deq_mpc_controller.settings import controller_config
from deq_mpc_controller.vehicle_io import SetpointKind, VehicleStatus
from deq_mpc_core.policy.interface import Command
from deq_mpc_core.solver.solution import Status


@pytest.mark.parametrize("back_after", [0.8, 2.5, inf])
def test_a_mute_vehicle_that_hears_is_landed_whenever_it_speaks_again(back_after: float) -> None:
    def status(since_fly: float) -> VehicleStatus:
        silent_for = since_fly - 0.5 if 0.5 < since_fly < 0.5 + back_after else 0.02
        return replace(HEALTHY, age=max(silent_for, 0.02))

    flight = Flight()
    step = flight.run(landed, status=status)
    assert step.state.failure == "no word from the vehicle"
    assert flight.modes()[-2:] == [Mode.LAND, Mode.FAULT]
    assert flight.impact < 0.7
    assert flight.vehicle.truth.pos[2] < 0.06


@pytest.mark.parametrize(
    ("status", "reason", "mode"),
    [
        (
            VehicleStatus(True, 4.0, 0.02, "link lost", lost=True),
            "the link is lost; the vehicle's firmware levels out and stops its motors",
            Mode.FAULT,
        ),
        (VehicleStatus(True, 4.0, 0.02, "tumbled"), "the vehicle reports a fault", Mode.FAULT),
        (
            VehicleStatus(True, 4.0, 0.02, stopped=True),
            "the controller was silent; the link has stopped the motors",
            Mode.FAULT,
        ),
        (VehicleStatus(True, 4.0, 0.7), "no word from the vehicle", Mode.LAND),
    ],
)
def test_vehicle_trouble_in_the_air(status: VehicleStatus, reason: str, mode: Mode) -> None:
    flight = Flight()
    step = flight.run(
        lambda step: step.state.mode in (Mode.FAULT, Mode.LAND),
        status=lambda since_fly: status if since_fly > 0.5 else HEALTHY,
    )
    assert step.state.mode is mode
    assert step.state.failure == reason


def test_a_clock_that_is_set_back_on_the_ground_is_followed() -> None:
    pilot = Pilot(STRAIGHT, STRAIGHT, controller_config(), THRUST_MAP)
    pose = ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0])
    assert pilot.add_pose(100.0, *pose, 100.0) is Gate.ACCEPTED
    assert pilot.add_pose(99.9, *pose, 100.01) is Gate.OUT_OF_ORDER
    assert pilot.add_pose(90.0, *pose, 90.0) is Gate.ACCEPTED


class ClockThatIsSet(Flight):
    """A flight by the stamps of a clock that is set by ``jump`` [s] half a second after the take-off.

    ``mocap_too``: it is the motion capture's clock as well. Poses are stamped 10 ms before they arrive.
    """

    def __init__(self, jump: float, mocap_too: bool) -> None:
        super().__init__()
        add_pose, step = self.pilot.add_pose, self.pilot.step
        self.clock = FlightClock(lambda: 1.7e9 + self.vehicle.t + self._set(jump), lambda: self.vehicle.t)

        def add_stamped(taken: float, pos: np.ndarray, quat: np.ndarray, _now: float) -> Gate:
            stamp = 1.7e9 + taken + (self._set(jump) if mocap_too else 0.0)
            now = self.clock.now()
            return add_pose(self.clock.from_system(stamp), pos, quat, now)

        self.pilot.add_pose = add_stamped
        self.pilot.step = lambda _now, *arguments: step(self.clock.now(), *arguments)

    def _set(self, jump: float) -> float:
        return jump if self.fly_began is not None and self.vehicle.t - self.fly_began > 0.5 else 0.0


@settings(max_examples=4, deadline=None)
@given(jump=st.sampled_from([-3600.0, -0.1, -0.03, 0.03, 0.3, 7200.0]))
def test_a_clock_that_is_set_in_the_air_does_not_matter(jump: float) -> None:
    flight = ClockThatIsSet(jump, mocap_too=True)
    step = flight.run(landed)
    assert flight.clock.settings == 1
    assert step.state.failure == ""
    assert flight.impact < 0.7


@settings(max_examples=4, deadline=None)
@given(jump=st.sampled_from([-3600.0, -0.3, 1.5, 7200.0]))
def test_a_mocap_whose_clock_is_not_set_with_it_is_a_mocap_that_is_lost(jump: float) -> None:
    flight = ClockThatIsSet(jump, mocap_too=False)
    step = flight.run(landed)
    assert step.state.mode is Mode.FAULT
    assert step.state.failure == "no mocap pose"
    flight.settle()
    assert flight.vehicle.truth.pos[2] < 0.06
    assert flight.steps[-1].setpoint.kind is SetpointKind.OFF


def test_a_setpoint_carries_what_is_planned_after_it_and_the_stamp_of_its_pose() -> None:
    flight, config = Flight(), controller_config()
    step = flight.run(lambda step: flight.fly_began is not None and step.t - flight.fly_began > 0.3)
    setpoint = step.setpoint
    assert setpoint.stamp == pytest.approx(step.t - step.estimate.age)
    assert setpoint.hover == pytest.approx(0.0318 * 9.81, rel=0.15)
    assert setpoint.spacing == STRAIGHT.dt
    assert len(setpoint.plan) * setpoint.spacing >= config.link.hold_time
    for command in setpoint.plan:
        assert max(abs(command.roll), abs(command.pitch)) <= config.safety.tilt_command_max + 1e-9
        assert 0.0 < command.thrust <= THRUST_MAP.force_max
    later = flight.run(lambda later: later.t > step.t + STRAIGHT.dt - 1e-6).setpoint.command
    foreseen = due_setpoint(setpoint, STRAIGHT.dt, config.link).command
    np.testing.assert_allclose(foreseen[:2], later[:2], atol=0.1)
    assert (flight.steps[0].setpoint.plan, flight.steps[0].setpoint.stamp) == ((), None)


def test_after_a_late_step_the_estimate_knows_what_the_link_sent_meanwhile() -> None:
    def error_after_pause(knows: bool) -> float:
        flight, config = Flight(), controller_config().link
        if not knows:
            flight.pilot._catch_up = lambda _now: None
        setpoint = flight.run(lambda step: flight.fly_began is not None and step.t - flight.fly_began > 0.3).setpoint
        began = flight.vehicle.t
        while flight.vehicle.t < began + 0.19:
            age = flight.vehicle.t - began
            flight.vehicle.step(0.005, due_setpoint(setpoint, age, config).command)
        estimate = flight.pilot.step(flight.vehicle.t, flight.world, HEALTHY).estimate
        return float(np.max(np.abs(estimate.x[6:8] - flight.vehicle.truth.rpy[:2])))

    assert error_after_pause(knows=True) < 0.5 * error_after_pause(knows=False)


def test_a_broken_policys_plan_is_not_followed() -> None:
    broken = BrokenPolicy(20, Command(0.1, 0.0, 0.0, 0.3), Status.NUMERICAL_FAILURE)
    flight = Flight(policy=broken)
    step = flight.run(lambda step: broken.count > 20)
    assert step.setpoint.kind is SetpointKind.FLY
    assert step.setpoint.plan == ()
