"""Pre-flight check: what is missing before a vehicle on the ground may start its motors, in words. Pure.

That the policy can be flown is no question here: it is loaded and compiled before the node connects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import dist, isfinite

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller.mocap_monitor import MocapReport
from deq_mpc_controller.safety import SafetyConfig, beyond_fence
from deq_mpc_controller.units import Hertz, Metre, Radian, Second, Volt
from deq_mpc_controller.vehicle_io import VehicleStatus
from deq_mpc_core.config import Config

Array = NDArray[np.float64]


class PreflightConfig(Config):
    """``preflight`` in ``config/controller.yaml``."""

    battery_arm: Volt
    mocap_time: Second
    mocap_rate: Hertz
    mocap_latency: Second
    estimator_distance: Metre
    initial_distance: Metre
    tilt: Radian


@dataclass(frozen=True)
class Readiness:
    """What is known on the ground.

    Attributes:
        vehicle: what it last reported.
        mocap: what the motion capture is worth.
        pos, rpy: (3,) of the estimate [m, rad]; None without one.
        attitude_age: since the last pose with an attitude [s].
        obstacles_wanted, obstacles_known: whether the flight waits for obstacles, and has got any.
        obstacle_age: since the last news of those that move [s].
        arms_itself: whether the platform does that was said; None: not known.
        place: (3,) where it is said to stand, of which x and y count [m]; None: not said, or it has stood there.
    """

    vehicle: VehicleStatus = field(default_factory=VehicleStatus)
    mocap: MocapReport = field(default_factory=MocapReport)
    pos: Array | None = None
    rpy: Array | None = None
    attitude_age: float = 0.0
    obstacles_wanted: bool = False
    obstacles_known: bool = False
    obstacle_age: float = 0.0
    arms_itself: bool | None = None
    place: Array | None = None


def advice(ready: Readiness) -> tuple[str, ...]:
    """What does not stand in the way of arming but should be known before, one line each."""
    if ready.obstacles_known or ready.obstacles_wanted:
        return ()
    return ("nobody has published obstacles on /obstacles: it flies as if there were none",)


def missing(ready: Readiness, config: PreflightConfig, safety: SafetyConfig) -> tuple[str, ...]:
    """What stands in the way of arming and what to do about it, one line each; empty: nothing."""
    return (
        *_vehicle(ready, config, safety),
        *_mocap(ready, config, safety),
        *_place(ready, config, safety),
        *_world(ready, safety),
    )


def _vehicle(ready: Readiness, config: PreflightConfig, safety: SafetyConfig) -> Iterator[str]:
    vehicle = ready.vehicle
    if vehicle.fault:
        yield f"the vehicle reports: {vehicle.fault}"
    if not vehicle.age <= safety.link_land:
        heard = f"for {vehicle.age:.1f} s" if isfinite(vehicle.age) else "yet"
        yield f"no word from the vehicle {heard}; check link and battery"
        return
    if not vehicle.voltage >= config.battery_arm:
        yield f"battery at {vehicle.voltage:.2f} V; charge it, {config.battery_arm:g} V are the least"
    if None not in (vehicle.arms_itself, ready.arms_itself) and vehicle.arms_itself is not ready.arms_itself:
        does, said = ("arms by itself", "does not") if vehicle.arms_itself else ("does not arm by itself", "does")
        yield f"the vehicle {does}, its platform {said}: another thrust map is needed; correct platform:="


def _mocap(ready: Readiness, config: PreflightConfig, safety: SafetyConfig) -> Iterator[str]:
    mocap = ready.mocap
    if ready.pos is None or not mocap.seen_for > 0.0:
        latency = mocap.latency
        if isfinite(latency) and latency > safety.pose_stop:
            yield f"mocap poses are stamped {latency:.3g} s before they arrive; synchronise the clocks"
        else:
            yield "no usable mocap pose; check its topic, frame, stamps and that the vehicle is tracked"
        return
    if mocap.seen_for < config.mocap_time:
        yield f"mocap seen for {mocap.seen_for:.1f} s; wait until it has been there for {config.mocap_time:g} s"
    elif mocap.rate < config.mocap_rate:
        yield f"mocap at {mocap.rate:.0f} Hz; {config.mocap_rate:g} Hz are the least"
    if mocap.latency > config.mocap_latency:
        yield f"mocap poses arrive {1e3 * mocap.latency:.0f} ms after their stamps; synchronise the clocks"
    if mocap.rejects > safety.rejects_warn:
        yield f"{100.0 * mocap.rejects:.0f} % of the mocap poses are refused; see poses_* on /diagnostics"
    if ready.attitude_age > safety.attitude_land:
        yield "mocap poses without attitude; define a rigid body of three markers or more"


def _place(ready: Readiness, config: PreflightConfig, safety: SafetyConfig) -> Iterator[str]:
    if ready.pos is None:
        return
    if beyond_fence(ready.pos, safety) > 0.0:
        yield f"it stands outside the fence, at {_text(ready.pos)} m; carry it inside"
    if ready.rpy is not None and not max(abs(ready.rpy[0]), abs(ready.rpy[1])) <= config.tilt:
        degrees = np.degrees(ready.rpy[:2])
        yield f"it reads a tilt of {degrees[0]:.0f} and {degrees[1]:.0f} deg; put it level, check its rigid body"
    place = ready.place
    if place is not None and not dist(place[:2], ready.pos[:2]) <= config.initial_distance:
        said = f"its initial_position in crazyflies.yaml is {_text(place[:2])} m"
        yield f"it stands at {_text(ready.pos[:2])} m, {said}; put it there, or check what is tracked under its name"
    own = ready.vehicle.pos
    if own is not None and not dist(own, ready.pos) <= config.estimator_distance:
        yield f"its own estimate says {_text(own)} m, mocap {_text(ready.pos)} m; forward the poses: link.extpose_rate"


def _world(ready: Readiness, safety: SafetyConfig) -> Iterator[str]:
    if ready.obstacles_wanted and not ready.obstacles_known:
        yield "no obstacles; publish them on /obstacles, an empty cloud if there are none"
    if ready.obstacle_age > safety.obstacle_age:
        yield f"obstacles that move are {ready.obstacle_age:.3g} s old; check who publishes /obstacles, and its clock"


def _text(point: Array) -> str:
    return "(" + ", ".join(f"{value:.2f}" for value in point) + ")"
