"""The control step against the simulated vehicle in lockstep: a whole flight, and every failure down to the ground."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from lockstep_flight import (
    GOAL,
    HEALTHY,
    HOME,
    PERIOD,
    START,
    STRAIGHT,
    THRUST_MAP,
    BrokenPolicy,
    Flight,
    RaisingPolicy,
    landed,
)

from deq_mpc_controller.conversions import load_thrust_map
from deq_mpc_controller.flight import Mode, Request, Source
from deq_mpc_controller.pilot import Pilot, Step
from deq_mpc_controller.settings import controller_config, unfiltered_config
from deq_mpc_controller.surroundings import Surroundings
from deq_mpc_controller.vehicle_io import SetpointKind, VehicleStatus
from deq_mpc_core.policy.interface import Command
from deq_mpc_core.solver.solution import Status


@pytest.mark.parametrize("seed", range(3))
def test_takes_off_flies_to_the_goal_and_lands(seed: int) -> None:
    flight = Flight(seed=seed)
    flight.run(landed)
    assert flight.modes() == [Mode.IDLE, Mode.READY, Mode.ARMED, Mode.TAKEOFF, Mode.FLY, Mode.LAND, Mode.IDLE]
    assert flight.impact < 0.7
    np.testing.assert_allclose(flight.vehicle.truth.pos, [*GOAL[:2], 0.0], atol=0.1)
    last_of_fly = [step for step in flight.steps if step.state.mode is Mode.FLY][-1]
    assert np.linalg.norm(last_of_fly.estimate.x[:3] - GOAL) < 0.15
    flight.settle()
    assert flight.steps[-1].setpoint.kind is SetpointKind.OFF
    assert not flight.steps[-1].setpoint.arm


def test_a_short_dropout_ends_in_a_safe_landing() -> None:
    flight = Flight()
    step = flight.run(landed, seen=lambda since_fly: not 0.5 < since_fly < 1.0)
    assert step.state.failure == "no mocap pose"
    sources = {step.source for step in flight.steps if step.state.mode is Mode.LAND}
    assert sources == {Source.DESCEND, Source.HOVER}
    assert flight.impact < 0.7
    assert flight.vehicle.truth.pos[2] < 0.06


def test_a_dropout_too_short_to_matter_is_flown_through() -> None:
    flight = Flight()
    step = flight.run(landed, seen=lambda since_fly: not 0.5 < since_fly < 0.65)
    assert step.state.failure == ""
    assert flight.steps[-1].state.mode is Mode.IDLE


def test_mocap_that_never_returns_ends_on_the_ground_with_the_motors_off() -> None:
    flight = Flight()
    step = flight.run(landed, seen=lambda since_fly: since_fly < 0.5)
    assert step.state.mode is Mode.FAULT
    flight.settle()
    assert flight.vehicle.truth.pos[2] < 0.06
    assert flight.impact < 3.0  # a fall from less than half a metre
    assert flight.steps[-1].setpoint.kind is SetpointKind.OFF


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        (Command(np.nan, 0.0, 0.0, 0.3), Status.CONVERGED, "the policy's command is not finite"),
        (Command(0.4, 0.4, 0.0, 0.4), Status.NUMERICAL_FAILURE, "the solver failed"),
    ],
)
def test_a_broken_policy_ends_in_a_landing_by_the_other_one(command: Command, status: Status, reason: str) -> None:
    flight = Flight(BrokenPolicy(50, command, status))
    step = flight.run(landed)
    assert step.state.failure == reason
    assert flight.impact < 0.7
    for step in flight.steps:
        assert np.isfinite(step.setpoint.command).all()


def test_when_no_policy_answers_it_descends_level() -> None:
    broken = Command(np.nan, np.nan, np.nan, np.nan)
    flight = Flight(BrokenPolicy(50, broken, Status.CONVERGED), BrokenPolicy(280, broken, Status.CONVERGED))
    flight.run(landed)
    assert Source.DESCEND in {step.source for step in flight.steps}
    flight.settle()
    assert flight.vehicle.truth.pos[2] < 0.06
    assert flight.impact < 1.5


def test_a_policy_that_raises_ends_in_a_landing_by_the_other_one() -> None:
    flight = Flight(RaisingPolicy(50))
    step = flight.run(landed)
    assert step.state.failure == "the policy raised an error"
    assert "ZeroDivisionError: of a bug" in {step.policy_error for step in flight.steps}
    assert flight.impact < 0.7


def test_when_every_policy_raises_it_descends_level() -> None:
    flight = Flight(RaisingPolicy(50), RaisingPolicy(280))
    flight.run(landed)
    assert Source.DESCEND in {step.source for step in flight.steps}
    flight.settle()
    assert flight.vehicle.truth.pos[2] < 0.06
    assert flight.impact < 1.5


def test_a_dead_motor_stops_the_others_before_it_has_turned_over() -> None:
    flight = Flight()
    flight.run(lambda step: flight.fly_began is not None and step.t - flight.fly_began > 0.5)
    broken, died = flight.vehicle.parameters, flight.vehicle.t
    flight.vehicle.parameters = broken._replace(thrust_max=broken.thrust_max * np.array([0.0, 1.0, 1.0, 1.0]))
    step = flight.run(lambda step: step.state.mode is Mode.FAULT)
    assert step.state.failure == "does not follow its commands: motor, propeller or firmware"
    assert step.t - died < 0.5
    assert step.setpoint.kind is SetpointKind.OFF


def test_thrust_far_from_the_models_lands() -> None:
    flight = Flight()
    flight.run(lambda step: flight.fly_began is not None and step.t - flight.fly_began > 0.5)
    heavy = flight.vehicle.parameters
    flight.vehicle.parameters = heavy._replace(mass=0.6 * heavy.mass)
    step = flight.run(landed)
    assert step.state.failure == "thrust or mass are not the model's"


class Doubtful(Flight):
    """Poses that are wrong, or without attitude, from half a second after the take-off on."""

    def __init__(self, change: Callable[[int, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
        super().__init__()
        count, add_pose = [0], self.pilot.add_pose

        def spoilt(t: float, pos: np.ndarray, quat: np.ndarray, now: float) -> object:
            if self.fly_began is not None and now - self.fly_began > 0.5:
                count[0] += 1
                pos, quat = change(count[0], pos, quat)
            return add_pose(t, pos, quat, now)

        self.pilot.add_pose = spoilt


def test_a_storm_of_jumps_lands() -> None:
    """Two of three poses belong to something else; the third keeps the estimate alive."""
    flight = Doubtful(lambda n, pos, quat: (pos + np.array([0.0, 0.0, 0.5 * (n % 3 > 0)]), quat))
    step = flight.run(landed)
    assert step.state.failure == "mocap poses are refused"
    assert flight.impact < 0.7


def test_lost_attitude_lands() -> None:
    flight = Doubtful(lambda n, pos, quat: (pos, np.full(4, np.nan)))
    step = flight.run(landed)
    assert step.state.failure == "no attitude from the mocap"
    assert flight.impact < 0.7
    assert flight.vehicle.truth.pos[2] < 0.06


def test_poses_that_freeze_are_a_mocap_that_is_lost() -> None:
    frozen: list[tuple[np.ndarray, np.ndarray]] = []

    def freeze(n: int, pos: np.ndarray, quat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        frozen.append((pos, quat))
        return frozen[0]

    step = Doubtful(freeze).run(landed)
    assert step.state.failure == "no mocap pose"


def test_a_policy_that_flies_out_of_the_fence_does_not_get_there() -> None:
    outwards = Command(0.0, 0.45, 0.0, 0.36)
    flight = Flight(BrokenPolicy(0, outwards, Status.CONVERGED))
    flight.run(lambda step: flight.fly_began is not None and step.t - flight.fly_began > 6.0)
    assert flight.vehicle.truth.pos[0] < 2.15
    assert flight.steps[-1].state.mode is Mode.FLY
    assert any(step.filtered is not None and step.filtered.intervened for step in flight.steps)
    assert "the command filter overrules the policy" in {step.verdict.reason.value for step in flight.steps}


def test_without_the_filter_it_does() -> None:
    off = unfiltered_config()
    flight = Flight(BrokenPolicy(0, Command(0.0, 0.45, 0.0, 0.36), Status.CONVERGED))
    flight.pilot = Pilot(
        BrokenPolicy(0, Command(0.0, 0.45, 0.0, 0.36), Status.CONVERGED), STRAIGHT, off, THRUST_MAP, True
    )
    step = flight.run(lambda step: step.state.failure != "")
    assert step.state.failure == "too fast"
    flight.run(lambda step: flight.vehicle.truth.pos[0] > 2.15)


def test_emergency_request_in_the_air() -> None:
    flight = Flight()
    flight.run(lambda step: step.state.mode is Mode.FLY)
    step = flight.pilot.step(flight.vehicle.t, flight.world, HEALTHY, frozenset({Request.EMERGENCY}))
    assert step.setpoint.kind is SetpointKind.EMERGENCY
    assert flight.pilot.step(flight.vehicle.t + 1.0, flight.world, HEALTHY).setpoint.kind is SetpointKind.EMERGENCY


def test_does_not_start_without_pose_goal_or_battery() -> None:
    def mode_after(world: Surroundings, vehicle: VehicleStatus, poses: bool) -> Mode:
        pilot = Pilot(STRAIGHT, STRAIGHT, controller_config(), THRUST_MAP, auto=True)
        for t in np.arange(0.0, 1.3, PERIOD):
            if poses:
                pilot.add_pose(t, HOME, [0.0, 0.0, 0.0, 1.0], t)
            step = pilot.step(t, world, vehicle)
        return step.state.mode

    ready = Surroundings(goal=GOAL, start=START)
    assert mode_after(ready, HEALTHY, poses=True) is Mode.TAKEOFF
    assert mode_after(replace(ready, obstacles_known=False), HEALTHY, poses=True) is Mode.IDLE
    assert mode_after(ready, HEALTHY, poses=False) is Mode.IDLE
    assert mode_after(Surroundings(), HEALTHY, poses=True) is Mode.READY
    assert mode_after(ready, VehicleStatus(True, 3.4, 0.02), poses=True) is Mode.IDLE


def test_a_vehicle_carried_elsewhere_before_arming_is_believed() -> None:
    pilot = Pilot(STRAIGHT, STRAIGHT, controller_config(), THRUST_MAP)
    pilot.add_pose(0.0, [0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], 0.0)
    pilot.step(0.0, Surroundings(), HEALTHY)
    pilot.add_pose(0.01, [1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], 0.01)
    estimate = pilot.step(0.01, Surroundings(), HEALTHY).estimate
    assert estimate is not None
    assert estimate.x[0] == 1.0


def test_a_vehicle_is_where_it_is_said_to_stand_before_it_is_armed_once() -> None:
    pilot = Pilot(STRAIGHT, STRAIGHT, controller_config(), THRUST_MAP, place=np.array([1.0, 0.0, 0.0]))

    def wait_at(x: float, began: float) -> Step:
        for t in began + np.arange(0.0, 1.3, PERIOD):
            pilot.add_pose(t, [x, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], t)
            step = pilot.step(t, Surroundings(), HEALTHY)
        return step

    step = wait_at(0.0, 0.0)
    assert step.state.mode is Mode.IDLE
    assert "initial_position" in step.missing[0]
    assert wait_at(0.9, 2.0).state.mode is Mode.READY
    assert wait_at(0.0, 4.0).state.mode is Mode.READY


def test_obstacles_move_on_between_messages_but_not_for_ever() -> None:
    world = Surroundings(obstacles=np.array([[0.0, 0.0, 1.0, 0.1, 0.5, 0.0, -0.5]]), obstacles_stamp=10.0)
    np.testing.assert_allclose(world.obstacles_at(10.1)[0, :3], [0.05, 0.0, 0.95])
    np.testing.assert_allclose(world.obstacles_at(10.2), world.obstacles_at(99.0))
    np.testing.assert_array_equal(world.obstacles_at(9.0), world.obstacles)
    assert world.motion_age(10.7) == pytest.approx(0.7)
    assert replace(world, obstacles=world.obstacles * [1, 1, 1, 1, 0, 0, 0]).motion_age(99.0) == 0.0
    assert Surroundings().motion_age(99.0) == 0.0


@pytest.mark.parametrize("moving", [True, False])
def test_obstacles_that_move_and_fall_silent_end_the_flight_to_the_goal(moving: bool) -> None:
    far = np.array([[-5.0, 5.0, 1.0, 0.2, 0.1 if moving else 0.0, 0.0, 0.0]])
    flight = Flight()

    def heard(step: Step) -> bool:
        """They are published until a fifth of a second after the take-off."""
        if flight.fly_began is None or step.t < flight.fly_began + 0.2:
            flight.world = replace(flight.world, obstacles=far, obstacles_stamp=step.t)
        return landed(step)

    step = flight.run(heard)
    assert step.state.failure == ("no news of obstacles that move" if moving else "")
    assert flight.impact < 0.7
    assert all(step.advice == () for step in flight.steps)


@pytest.mark.parametrize("arms_itself", [True, False])
def test_a_vehicle_whose_supervisor_contradicts_its_platform_is_not_armed(arms_itself: bool) -> None:
    pilot = Pilot(STRAIGHT, STRAIGHT, controller_config(), load_thrust_map("cf21_brushless", "2026.04"))
    vehicle = replace(HEALTHY, arms_itself=arms_itself)
    for t in np.arange(0.0, 1.3, PERIOD):
        pilot.add_pose(t, [0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], t)
        step = pilot.step(t, Surroundings(), vehicle)
    assert step.state.mode is (Mode.IDLE if arms_itself else Mode.READY)
    assert any("correct platform:=" in line for line in step.missing) == arms_itself
