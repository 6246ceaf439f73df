"""Where take-off and landing go, and how fast. Pure; heights and positions are in the world frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller.flight_config import FlightConfig

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Manoeuvre:
    """What a take-off or landing is asked to be.

    Attributes:
        height: of the hover after a take-off, world frame [m]; None: the start of the scene, or the usual height.
        duration: that it should take at least [s]; never faster than the configuration allows.
    """

    height: float | None = None
    duration: float = 0.0


def pace(way: float, duration: float, fastest: float, slowest: float) -> tuple[float, float]:
    """Speed [m/s] that covers ``way`` [m] in no less than ``duration`` [s], and the time that this adds [s]."""
    if not duration > 0.0 or not way > 0.0:
        return fastest, 0.0
    speed = min(max(way / duration, slowest), fastest)
    return speed, way / speed - way / fastest


def longest_landing(height: float, config: FlightConfig) -> float:
    """Longest time [s] from the request to land to the ground, from ``height`` [m].

    That is as slowly as can be asked for, up to the limit on landings, and once more as long if safety orders a landing
    then: it begins anew.
    """
    return height / config.slowest + 2.0 * config.land_time_max


def hover_point(pos: Array, start: Array | None, height: float | None, config: FlightConfig) -> Array:
    """Where a take-off from ``pos`` (3,) ends.

    Args:
        pos: (3,) of the vehicle [m].
        start: (3,) where the flight to the goal begins [m]; it counts if it is near ``pos``.
        height: that was asked for, straight up [m]; None: none was.
        config: the usual height, and how near.
    """
    if height is not None:
        return np.array([pos[0], pos[1], max(height, pos[2] + config.lowest_hover)])
    if start is not None and float(np.linalg.norm(start[:2] - pos[:2])) <= config.start_radius:
        return start.copy()
    return pos + np.array([0.0, 0.0, config.takeoff_height])


def resting_point(pos: Array, vel: Array, stopping_time: float) -> Array:
    """Where (3,) a vehicle comes to rest if it begins to brake now, at its present height."""
    point: Array = pos + stopping_time * vel * np.array([1.0, 1.0, 0.0])
    return point


def climbing_point(home: Array, hover: Array, climbed: float) -> Array:
    """The goal point (3,) of a take-off that has climbed so far [m]: straight up, then to the hover point."""
    height = home[2] + climbed
    return hover.copy() if height >= hover[2] else np.array([home[0], home[1], height])


def sinking_point(anchor: Array, sunk: float, lowest: float) -> Array:
    """The goal point (3,) of a landing that has sunk so far below ``anchor`` [m]; no lower than ``lowest``."""
    return np.array([anchor[0], anchor[1], max(anchor[2] - sunk, lowest)])
