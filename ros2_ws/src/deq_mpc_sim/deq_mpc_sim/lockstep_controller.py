"""The controller's process in simulated time: its control thread and its link's, as ``controller_node`` runs them."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller import flight
from deq_mpc_controller.conversions import load_thrust_map
from deq_mpc_controller.estimate import Gate
from deq_mpc_controller.flight import Mode, Request, Source
from deq_mpc_controller.flight_clock import FlightClock
from deq_mpc_controller.flight_statistics import FlightStatistics
from deq_mpc_controller.pilot import Pilot, Step
from deq_mpc_controller.process import Instant
from deq_mpc_controller.safety import obstacles_refusal
from deq_mpc_controller.settings import controller_config
from deq_mpc_controller.surroundings import Surroundings
from deq_mpc_controller.vehicle_io import Setpoint, VehicleStatus
from deq_mpc_core.policy.interface import Policy
from deq_mpc_sim.episode import CONTROL_PERIOD, FIRMWARE, PLATFORM
from deq_mpc_sim.lockstep_link import LockstepLink
from deq_mpc_sim.mishaps import Mishap
from deq_mpc_sim.mocap import MocapPose
from deq_mpc_sim.scenes import Scene
from deq_mpc_sim.udp_server import Crazyflie

Array = NDArray[np.float64]

_ROUNDING = 1e-9  # s


class LockstepController:
    """One automatic flight through a scene, by the vehicle's clock.

    Attributes:
        link: to the vehicle.
        vehicle: what it last reported.
    """

    def __init__(
        self, crazyflie: Crazyflie, policy: Policy, hover_policy: Policy, scene: Scene, mishap: Mishap
    ) -> None:
        """A controller that has just connected; ``mishap`` tells which clocks are wrong and what takes too long."""
        config, thrust_map = controller_config(), load_thrust_map(PLATFORM, FIRMWARE)
        self.link = LockstepLink(crazyflie, thrust_map, config.link)
        self.vehicle = VehicleStatus()
        policies = mishap.policy(policy), mishap.hover_policy(hover_policy)
        self._pilot = Pilot(*policies, config, thrust_map, auto=True)
        self._clock = FlightClock(lambda: crazyflie.t + mishap.system_clock(crazyflie.t), lambda: crazyflie.t)
        self._statistics = FlightStatistics(CONTROL_PERIOD)
        self._surroundings = Surroundings(goal=scene.goal, start=scene.start, obstacles_known=False)
        self._mishap = mishap
        self._requests: frozenset[Request] = frozenset()
        self._setpoint: Setpoint | None = None
        self._ready_at = self._due = -inf
        self.link.connect()

    @property
    def mode(self) -> Mode:
        """The flight state's."""
        return self._pilot.state.mode

    def add_pose(self, pose: MocapPose) -> None:
        """A pose from the topic."""
        now = self._clock.now()
        gate = self._pilot.add_pose(self._clock.from_system(pose.stamp), pose.pos, pose.quat, now)
        if gate is Gate.ACCEPTED and np.isfinite(pose.quat).all():
            self.link.send_pose(pose.pos, pose.quat)

    def add_obstacles(self, stamp: float, obstacles: Array) -> None:
        """Obstacles (K, 7) from the topic."""
        if obstacles_refusal(obstacles):
            return
        self._clock.now()
        self._surroundings = replace(
            self._surroundings,
            obstacles=obstacles,
            obstacles_stamp=self._clock.from_system(stamp),
            obstacles_known=True,
        )

    def request(self, request: Request) -> str:
        """A service's request; why it is refused, or ""."""
        refused = flight.refusal(self.mode, request)
        if not refused:
            self._requests |= {request}
        return refused

    def is_idle(self, t: float) -> bool:
        """Whether the control thread takes messages, and a control step is due."""
        return self._setpoint is None and t >= self._due - _ROUNDING

    def control(self, t: float) -> Step | None:
        """One control step, begun at ``t`` [s]; its setpoint is ready when the policy has had its time.

        None: it raised, and the next one goes on.
        """
        self.vehicle = self.link.status()
        if t in self._mishap.raising:
            self._due = t + CONTROL_PERIOD
            return None
        step = self._pilot.step(
            self._clock.now(), self._surroundings, self.vehicle, self._requests, self._statistics.late
        )
        self._requests = frozenset()
        self._setpoint, self._ready_at = step.setpoint, t + self._length(t, step.source)
        self._due = max(t + CONTROL_PERIOD, self._ready_at)
        self._statistics.add_step(Instant(t), Instant(self._ready_at), step.state.mode in flight.IN_FLIGHT, None)
        return step

    def serve(self, t: float) -> None:
        """The link's turn: sends a setpoint that is ready, or what the stream has come to."""
        if self._setpoint is not None and t >= self._ready_at - _ROUNDING:
            self.link.send(self._setpoint)
            self._setpoint = None
        self.link.fails = t in self._mishap.unsent
        if t not in self._mishap.unserved:
            self.link.serve()

    def _length(self, t: float, source: Source) -> float:
        """How long a control step lasts [s]."""
        if t in self._mishap.stuck:
            return self._mishap.stuck.end - t
        computes = source in (Source.POLICY, Source.HOLD, Source.HOVER, Source.GROUND_HOVER)
        return self._mishap.policy_seconds if computes and t in self._mishap.slow else 0.0
