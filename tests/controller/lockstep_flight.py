"""A pilot against the simulated vehicle in lockstep, and policies that fail. For the tests of the control step."""

from collections.abc import Callable

import numpy as np

from deq_mpc_controller.conversions import load_thrust_map
from deq_mpc_controller.flight import Mode
from deq_mpc_controller.pilot import Pilot, Step
from deq_mpc_controller.settings import controller_config
from deq_mpc_controller.surroundings import Surroundings
from deq_mpc_controller.vehicle_io import VehicleStatus
from deq_mpc_core.policy import load_policy
from deq_mpc_core.policy.interface import Command, Observation, PolicyInfo
from deq_mpc_core.rotations import quat_from_rpy
from deq_mpc_core.solver.solution import Status
from deq_mpc_sim.parameters import perturb, plant_config, world_config
from deq_mpc_sim.vehicle import Vehicle

PERIOD = 0.01
HOME, START, GOAL = np.array([-0.6, 0.3, 0.0]), np.array([-0.6, 0.3, 0.8]), np.array([0.7, 0.0, 1.0])
HEALTHY = VehicleStatus(armed=True, voltage=4.0, age=0.02)
THRUST_MAP = load_thrust_map("cf21_legacy_props", "2026.04")
STRAIGHT = load_policy("straight-line")


class BrokenPolicy:
    """Straight to the goal at first; broken from its ``after``-th step on."""

    def __init__(self, after: int, command: Command, status: Status) -> None:
        self.dt, self.horizon = STRAIGHT.dt, STRAIGHT.horizon
        self.after, self.command, self.status, self.count = after, command, status, 0

    def step(self, obs: Observation, state: object) -> tuple[Command, object, PolicyInfo]:
        self.count += 1
        command, state, info = STRAIGHT.step(obs, state)
        if self.count <= self.after:
            return command, state, info
        return self.command, state, PolicyInfo(self.status, info.plan)


class RaisingPolicy(BrokenPolicy):
    """Raises from its ``after``-th step on."""

    def __init__(self, after: int) -> None:
        super().__init__(after, Command(0.0, 0.0, 0.0, 0.3), Status.CONVERGED)

    def step(self, obs: Observation, state: object) -> tuple[Command, object, PolicyInfo]:
        if self.count >= self.after:
            raise ZeroDivisionError("of a bug")
        return super().step(obs, state)


class Flight:
    """A pilot and a vehicle taking turns; poses come noisy and 10 ms late unless ``seen`` says no."""

    def __init__(self, policy: object = STRAIGHT, hover_policy: object = STRAIGHT, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        parameters = perturb(plant_config().parameters(), world_config().disturbances, self.rng)
        self.vehicle = Vehicle(parameters)
        self.vehicle.reset(HOME)
        self.pilot = Pilot(policy, hover_policy, controller_config(), THRUST_MAP, auto=True)
        self.world = Surroundings(goal=GOAL, start=START)
        self.steps: list[Step] = []
        self.impact = 0.0
        self.fly_began: float | None = None
        self._pose: tuple[float, np.ndarray, np.ndarray] | None = None

    def run(
        self,
        until: Callable[[Step], bool],
        seen: Callable[[float], bool] = lambda since_fly: True,
        status: Callable[[float], VehicleStatus] = lambda since_fly: HEALTHY,
        limit: float = 30.0,
    ) -> Step:
        """Fly until a step satisfies ``until``; ``seen`` and ``status`` get the seconds since FLY began, -1 before."""
        while True:
            t, truth = self.vehicle.t, self.vehicle.truth
            since_fly = -1.0 if self.fly_began is None else t - self.fly_began
            if self._pose is not None and seen(since_fly):
                self.pilot.add_pose(*self._pose, t)
            noisy = quat_from_rpy(truth.rpy + self.rng.normal(0.0, 0.005, 3))
            self._pose = (t, truth.pos + self.rng.normal(0.0, 0.001, 3), noisy)
            step = self.pilot.step(t, self.world, status(since_fly))
            self.steps.append(step)
            if step.state.mode is Mode.FLY and self.fly_began is None:
                self.fly_began = t
            if until(step):
                return step
            assert t < limit, f"still {step.state.mode} after {limit} s"
            self.vehicle.step(PERIOD, step.setpoint.command)
            if self.vehicle.truth.pos[2] < 0.05:
                self.impact = max(self.impact, -truth.vel[2])

    def settle(self) -> None:
        """Let the vehicle come to rest with the motors as the pilot left them."""
        for _ in range(150):
            self.run(lambda step: True)
            self.vehicle.step(PERIOD, self.steps[-1].setpoint.command)
            self.impact = max(self.impact, -self.vehicle.truth.vel[2])

    def modes(self) -> list[Mode]:
        modes = [step.state.mode for step in self.steps]
        return [mode for mode, before in zip(modes, [None, *modes], strict=False) if mode is not before]


def landed(step: Step) -> bool:
    return step.state.mode is Mode.FAULT or step.state.flown
