"""A flight in closed form, recorded as a bag."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deq_mpc_core.policy.interface import Command
from deq_mpc_core.rotations import quat_from_rpy
from deq_mpc_sim.bag_writer import FlightBagWriter

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ClosedFormFlight:
    """Minimum-jerk path from ``start`` to ``goal`` in ``duration`` seconds, with a gentle roll, pitch and yaw."""

    duration: float = 3.0
    start: tuple[float, float, float] = (-1.5, 0.2, 0.8)
    goal: tuple[float, float, float] = (1.5, -0.1, 1.2)
    thrust: float = 0.3

    def motion(self, t: Array) -> tuple[Array, Array]:
        s = np.clip(t / self.duration, 0.0, 1.0)[:, None]
        way = np.subtract(self.goal, self.start)
        pos = self.start + (10 * s**3 - 15 * s**4 + 6 * s**5) * way
        vel = 30 * s**2 * (1 - s) ** 2 / self.duration * way
        return pos, vel

    def attitude(self, t: Array) -> tuple[Array, Array]:
        amplitude, omega = np.array([0.2, 0.15, 0.1]), np.array([2.0, 3.0, 1.0])
        phase = t[:, None] * omega
        return amplitude * np.sin(phase), amplitude * omega * np.cos(phase)

    def states(self, t: Array) -> Array:
        rpy, rate = self.attitude(t)
        return np.concatenate([*self.motion(t), rpy, rate, np.full((len(t), 1), self.thrust)], axis=1)


Recorder = Callable[..., Path]


@pytest.fixture
def record(tmp_path: Path) -> Recorder:
    """``record(flight, name=..., obstacles=..., pose_t=..., edit=...)`` writes the flight's bag and gives its path."""

    def write(
        flight: ClosedFormFlight,
        name: str = "bags/flight",
        obstacles: Callable[[float], Array] = lambda t: np.zeros((0, 7)),
        pose_t: Array | None = None,
        edit: Callable[[FlightBagWriter], None] = lambda bag: None,
    ) -> Path:
        t = np.arange(round(flight.duration * 100) + 1) / 100 if pose_t is None else pose_t
        pos, quat = flight.motion(t)[0], quat_from_rpy(flight.attitude(t)[0])
        path = tmp_path / name
        with FlightBagWriter(path) as bag:
            for i in range(len(t)):
                bag.write_goal(t[i], flight.goal)
                bag.write_obstacles(t[i], obstacles(t[i]))
                bag.write_pose(t[i], pos[i], quat[i])
                bag.write_setpoint(t[i], Command(0.0, 0.0, 0.0, flight.thrust))
            edit(bag)
        return path

    return write


@pytest.fixture
def flight() -> ClosedFormFlight:
    return ClosedFormFlight()
