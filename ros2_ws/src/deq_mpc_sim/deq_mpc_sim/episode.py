"""One flight in lockstep: plant and controller take turns, in process, without ROS and without a clock.

Every control period the poses that the motion capture delivered go to the controller's pilot, which estimates, checks,
runs the policy and limits its command as in flight; the radio carries it, the on-board controller follows, and the
plant flies on. A flight is a pure function of policy, scene, conditions and seed, but for the measured computing times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deq_mpc_controller.conversions import ThrustMap, load_thrust_map
from deq_mpc_controller.flight import Mode, Source, in_the_air
from deq_mpc_controller.pilot import Pilot, Step
from deq_mpc_controller.settings import ControllerConfig, controller_config
from deq_mpc_controller.surroundings import Surroundings
from deq_mpc_controller.vehicle_io import VehicleStatus
from deq_mpc_core.models.crazyflie import NX, hover_thrust
from deq_mpc_core.policy.interface import Command, Policy
from deq_mpc_core.policy.straight_line import StraightLinePolicy
from deq_mpc_sim.exploration import ExplorationNoise, NoisyPolicy
from deq_mpc_sim.gusts import first_gust, next_gust
from deq_mpc_sim.identified_vehicle import IdentifiedVehicle, draw_identified
from deq_mpc_sim.lossy_radio import LossyRadio
from deq_mpc_sim.mocap import Mocap
from deq_mpc_sim.parameters import HEADING, DisturbanceConfig, draw_vehicle, world_config
from deq_mpc_sim.plant import rotation_matrix
from deq_mpc_sim.referee import Ending, Referee
from deq_mpc_sim.scenes import Scene, advance_adversarial, positions
from deq_mpc_sim.vehicle import Truth, Vehicle

Array = NDArray[np.float64]

CONTROL_PERIOD = 0.01
"""Between two commands [s]."""
PLATFORM, FIRMWARE = "cf21_legacy_props", "2026.04"
"""Platform of the rigid body, and every vehicle's firmware."""
SETTLING = 1.0
"""Hover before the policy takes over [s]."""
_STREAM = 0xF11E
"""Keeps a flight's random numbers apart from those of its scene."""


@dataclass(frozen=True)
class Conditions:
    """What flies, and what is against it.

    Attributes:
        disturbances: a set of ``config/world.yaml``.
        vehicle: ``default`` is the rigid body with the firmware's controller of ``config/plant.yaml``; or a set of
            ``config/identified_vehicles.yaml``.
    """

    disturbances: str = "default"
    vehicle: str = "default"


@dataclass(frozen=True)
class Episode:
    """Result of one flight of n control steps.

    Attributes:
        ending: how it ended.
        duration: flight time [s]; to the goal if it ended there.
        min_clearance: smallest distance from the vehicle's centre to a sphere's surface [m].
        policy_ms: (p,) computing time of the policy's steps [ms]; p < n if the controller gave up.
        statuses: (p,) ``solver.Status`` of the policy's steps.
        path: (n, 13) true states, one per control period.
        estimates: (n, 13) the controller's, NaN where it had none.
        failure: why the controller ordered a landing or stopped; "" where it did not.
        mode: the controller's flight state at the end.
    """

    ending: Ending
    duration: float
    min_clearance: float
    policy_ms: Array
    statuses: NDArray[np.int64]
    path: Array
    estimates: Array
    failure: str = ""
    mode: Mode = Mode.FLY

    @property
    def success(self) -> bool:
        """Whether it ended at the goal."""
        return self.ending is Ending.GOAL


class FlightRecorder(Protocol):
    """Where a flight is recorded, such as a ``bag_writer.FlightBagWriter``."""

    def write_pose(self, t: float, pos: ArrayLike, quat: ArrayLike) -> None:
        """A pose of the motion capture, measured at ``t``."""

    def write_truth(self, t: float, pos: ArrayLike, quat: ArrayLike, vel: ArrayLike, ang_vel: ArrayLike) -> None:
        """What the vehicle really does; ``ang_vel`` in the world frame."""

    def write_setpoint(self, t: float, command: Command) -> None:
        """The command that was sent."""

    def write_obstacles(self, t: float, obstacles: ArrayLike) -> None:
        """The obstacles (K, 7)."""

    def write_goal(self, t: float, goal: ArrayLike) -> None:
        """The goal (3,)."""

    def write_expert_plan(self, t: float, plan: ArrayLike, dt: float) -> None:
        """A plan of states (T, 13) from ``t``."""


def make_vehicle(
    name: str, bounds: DisturbanceConfig, rng: np.random.Generator
) -> tuple[Vehicle | IdentifiedVehicle, ThrustMap]:
    """The vehicle of ``Conditions`` as this flight's disturbances have it, and the thrust map of its platform."""
    if name == Conditions.vehicle:
        return Vehicle(draw_vehicle(rng, bounds)), load_thrust_map(PLATFORM, FIRMWARE)
    parameters, platform = draw_identified(name, bounds, rng)
    thrust_map = load_thrust_map(platform, FIRMWARE)
    return IdentifiedVehicle(parameters, thrust_map), thrust_map


class World:
    """Vehicle, gusts, obstacles, motion capture and radio of one flight. It starts in hover at the scene's start.

    Attributes:
        thrust_map: of the vehicle's platform.
        t: [s] from the first frame of the motion capture.
        truth: the vehicle of now.
        obstacles: (K, 7) of now; they wait at their places until ``release``.
        poses: what the motion capture delivered since the last period.
    """

    def __init__(
        self, scene: Scene, streams: Sequence[np.random.Generator], conditions: Conditions | None = None
    ) -> None:
        """``streams``: of vehicle, motion capture, gusts and radio."""
        vehicle_rng, mocap_rng, self._gust_rng, radio_rng = streams
        conditions = conditions or Conditions()
        config = world_config(conditions.disturbances)
        self._scene = scene
        self._disturbances = config.disturbances
        self._vehicle, self.thrust_map = make_vehicle(conditions.vehicle, config.disturbances, vehicle_rng)
        self._vehicle.reset(scene.start, float(vehicle_rng.uniform(-HEADING, HEADING)))
        self._vehicle.hover()
        self._force = first_gust(self._disturbances, self._gust_rng)
        self._mocap = Mocap(config.mocap, mocap_rng)
        self._radio = LossyRadio(config.radio, radio_rng, _hover_command())
        self._steps = 0
        self._released: int | None = None
        self.t = 0.0
        self.obstacles = scene.obstacles
        self._look()

    def release(self) -> None:
        """Let the obstacles move from now on."""
        self._released = self._steps

    def status(self) -> VehicleStatus:
        """What the vehicle last reported."""
        return VehicleStatus(armed=True, voltage=self.truth.voltage, age=self._radio.report_age(self.t))

    def advance(self, command: Command) -> None:
        """Send ``command`` and fly one control period."""
        before = self.truth
        self._vehicle.step(CONTROL_PERIOD, self._radio.fly(self.t, command), self._force)
        self._force = next_gust(self._force, CONTROL_PERIOD, self._disturbances, self._gust_rng)
        self._steps += 1
        self.t = self._steps * CONTROL_PERIOD
        if self._released is not None:
            self._move_obstacles(before, (self._steps - self._released) * CONTROL_PERIOD)
        self._look()

    def _move_obstacles(self, vehicle: Truth, moving_for: float) -> None:
        if self._scene.motion == "adversarial":
            self.obstacles = advance_adversarial(self._scene, self.obstacles, vehicle.pos, vehicle.vel, CONTROL_PERIOD)
        else:
            self.obstacles = positions(self._scene, moving_for)

    def _look(self) -> None:
        self.truth = self._vehicle.truth
        self.poses = self._mocap.step(self.t, self.truth.pos, self.truth.quat)


@dataclass
class _Trace:
    """Lists that grow with the flight, see ``Episode``."""

    policy_ms: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    path: list[Array] = field(default_factory=list)
    estimates: list[Array] = field(default_factory=list)

    def add(self, step: Step, truth: Truth) -> None:
        """Note one control step."""
        self.path.append(truth.x)
        self.estimates.append(np.full(NX, np.nan) if step.estimate is None else step.estimate.x)
        if step.source is Source.POLICY and step.info is not None:
            self.policy_ms.append(1e3 * step.policy_seconds)
            self.statuses.append(int(step.info.status))


def fly_episode(
    policy: Policy,
    scene: Scene,
    seed: Sequence[int],
    recorder: FlightRecorder | None = None,
    noise: ExplorationNoise | None = None,
    config: ControllerConfig | None = None,
    conditions: Conditions | None = None,
) -> Episode:
    """Fly ``policy`` through ``scene`` until the referee ends it.

    Args:
        policy: is started cold, in hover.
        scene: see ``scenes.make_scene``.
        seed: non-negative integers that decide vehicle, gusts and sensor noise, the same for every policy.
        recorder: gets everything that happens.
        noise: on the commands, for flights to learn from.
        config: of the controller, its last-resort filter among others; default the shipped one.
        conditions: vehicle and disturbances; default the shipped ones.
    """
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence([*seed, _STREAM]).spawn(5)]
    exploration_rng = streams.pop(3)
    world, referee, trace = World(scene, streams, conditions), Referee(scene.goal), _Trace()
    if noise is not None:
        policy = NoisyPolicy(policy, noise, exploration_rng, SETTLING + referee.rules.time_limit)
    pilot = pilot_in_hover(policy, world, scene, config)
    world.release()
    while (ending := referee.observe(world.t, world.truth.pos, world.truth.vel, world.obstacles)) is None:
        step = control(pilot, world, scene.goal)
        trace.add(step, world.truth)
        if recorder is not None:
            _record(recorder, world, scene.goal, step.setpoint.command)
        world.advance(step.setpoint.command)
    return _finish(ending, referee, trace, pilot)


def _finish(ending: Ending, referee: Referee, trace: _Trace, pilot: Pilot) -> Episode:
    return Episode(
        ending=ending,
        duration=referee.elapsed,
        min_clearance=referee.min_clearance,
        policy_ms=np.array(trace.policy_ms),
        statuses=np.array(trace.statuses),
        path=np.array(trace.path).reshape(-1, NX),
        estimates=np.array(trace.estimates).reshape(-1, NX),
        failure=pilot.state.failure,
        mode=pilot.state.mode,
    )


def pilot_in_hover(policy: Policy, world: World, scene: Scene, config: ControllerConfig | None = None) -> Pilot:
    """The controller after ``SETTLING`` seconds of hover at the start, as after a take-off: it knows this vehicle.

    ``config``: default the shipped one.
    """
    pilot = Pilot(
        policy,
        _hover_policy(),
        config or controller_config(),
        world.thrust_map,
        state=in_the_air(world.t, scene.start),
    )
    while not world.poses:
        world.advance(_hover_command())
    while world.t < SETTLING - 0.5 * CONTROL_PERIOD:
        world.advance(control(pilot, world, None).setpoint.command)
    return pilot


def control(pilot: Pilot, world: World, goal: Array | None) -> Step:
    """One step of the controller; without a goal it hovers."""
    for pose in world.poses:
        pilot.add_pose(pose.stamp, pose.pos, pose.quat, world.t)
    return pilot.step(world.t, Surroundings(goal, None, world.obstacles, world.t), world.status())


def _hover_command() -> Command:
    return Command(0.0, 0.0, 0.0, hover_thrust())


@cache
def _hover_policy() -> StraightLinePolicy:
    return StraightLinePolicy()


def _record(recorder: FlightRecorder, world: World, goal: Array, sent: Command) -> None:
    t, truth = world.t, world.truth
    for pose in world.poses:
        recorder.write_pose(pose.stamp, pose.pos, pose.quat)
    recorder.write_truth(t, truth.pos, truth.quat, truth.vel, rotation_matrix(truth.quat) @ truth.ang_vel)
    recorder.write_obstacles(t, world.obstacles)
    recorder.write_goal(t, goal)
    recorder.write_setpoint(t, sent)
