"""The suite ``estimate`` of ``deq-mpc bench``: noise and delay of the controller's estimate against the truth.

The simulated vehicle, which is not the model that the estimator predicts with, flies figures of up to 1.5 m/s in gusts;
a motion capture measures it with white noise and delay. Noise is what is left of the error once the estimate has been
shifted by its delay, which is where the two fit best. A positive delay means: the estimate lags.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller.estimate import Estimator
from deq_mpc_controller.settings import controller_config
from deq_mpc_core.bench.row import BenchOptions, Row
from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.policy.interface import Command
from deq_mpc_sim.gusts import first_gust, next_gust
from deq_mpc_sim.mocap import Mocap
from deq_mpc_sim.parameters import MocapConfig, draw_vehicle, world_config
from deq_mpc_sim.vehicle import Truth, Vehicle

Array = NDArray[np.float64]

ENGINE = "controller's estimator"
PERIOD = 0.01
"""Of control and motion capture [s]."""
SECONDS, QUICK_SECONDS = 20.0, 4.0
_SETTLING = 1.5  # s: not counted
_LAGS = np.arange(-0.060, 0.0601, 0.001)
"""Delays that are tried [s]."""
_SEED = 0xE57


@dataclass(frozen=True)
class Conditions:
    """Of the motion capture: position [m] and rotation noise [rad], one standard deviation per axis, and delay [s]."""

    position_noise: float
    rotation_noise: float
    delay: float

    @property
    def name(self) -> str:
        """In the units of the laboratory."""
        degrees = np.degrees(self.rotation_noise)
        return f"mocap {1e3 * self.position_noise:g} mm, {degrees:.1f} deg, {1e3 * self.delay:.0f} ms late"


CONDITIONS = tuple(
    Conditions(position, float(np.radians(degrees)), delay)
    for position, degrees in ((0.001, 0.3), (0.002, 0.5))
    for delay in (0.0, 0.01, 0.02, 0.04)
)


@dataclass(frozen=True)
class Figures:
    """Noise (one standard deviation over all axes) and delay of the estimate.

    Attributes:
        position_mm, velocity_mm_s, angle_deg, rate_deg_s: noise without the part that the delay explains.
        velocity_delay_ms, rate_delay_ms: how much later than the truth.
    """

    position_mm: float
    velocity_mm_s: float
    angle_deg: float
    rate_deg_s: float
    velocity_delay_ms: float
    rate_delay_ms: float


def suite(options: BenchOptions) -> Iterator[Row]:
    """A row for each of the conditions; its time is that of taking a pose and giving an estimate."""
    seconds = QUICK_SECONDS if options.quick else SECONDS
    for conditions in CONDITIONS:
        truths, estimates, times = fly(conditions, seconds)
        figures = measure(truths, estimates)
        p50, p99 = (float(np.percentile(times, share)) for share in (50, 99))
        yield Row(conditions.name, ENGINE, 1, 1, 1, p50, p99, 1.0, describe(figures), vars(figures))


def describe(figures: Figures) -> str:
    """The figures in one line."""
    f = figures
    return (
        f"velocity {f.velocity_mm_s:.0f} mm/s, {f.velocity_delay_ms:+.1f} ms; "
        f"rates {f.rate_deg_s:.1f} deg/s, {f.rate_delay_ms:+.1f} ms; "
        f"position {f.position_mm:.1f} mm, attitude {f.angle_deg:.2f} deg"
    )


def fly(conditions: Conditions, seconds: float, seed: int = _SEED) -> tuple[Array, Array, Array]:
    """True states and estimates (n, 13) at every control step, and what the estimator took (n,) [ms]."""
    vehicle_rng, gust_rng, mocap_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    world = world_config()
    vehicle = Vehicle(draw_vehicle(vehicle_rng))
    vehicle.reset(np.array([0.0, 0.0, 1.0]))
    vehicle.hover()
    mocap = Mocap(_mocap_config(conditions), mocap_rng)
    estimator = Estimator(controller_config().estimator)
    estimator.grounded = False
    force = first_gust(world.disturbances, gust_rng)
    truths, estimates, times = [], [], []
    for step in range(round(seconds / PERIOD)):
        t, truth = step * PERIOD, vehicle.truth
        began = perf_counter()
        for pose in mocap.step(t, truth.pos, truth.quat):
            estimator.add_pose(pose.stamp, pose.pos, pose.quat, t)
        estimate = estimator.estimate(t)
        if estimate is not None and t >= _SETTLING:
            times.append(1e3 * (perf_counter() - began))
            truths.append(truth.x)
            estimates.append(estimate.x)
        command = _figures_command(t, truth)
        estimator.add_command(t, command)
        vehicle.step(PERIOD, command, force)
        force = next_gust(force, PERIOD, world.disturbances, gust_rng)
    return np.array(truths), np.array(estimates), np.array(times)


def measure(truths: Array, estimates: Array) -> Figures:
    """The figures of estimates (n, 13) of true states (n, 13), one every `PERIOD`."""
    position, _ = noise_and_delay(truths[:, cf.POS], estimates[:, cf.POS])
    velocity, velocity_delay = noise_and_delay(truths[:, cf.VEL], estimates[:, cf.VEL])
    rates, rate_delay = noise_and_delay(truths[:, 9:11], estimates[:, 9:11])
    angle, _ = noise_and_delay(truths[:, 6:8], estimates[:, 6:8])
    return Figures(
        position_mm=1e3 * position,
        velocity_mm_s=1e3 * velocity,
        angle_deg=float(np.degrees(angle)),
        rate_deg_s=float(np.degrees(rates)),
        velocity_delay_ms=1e3 * velocity_delay,
        rate_delay_ms=1e3 * rate_delay,
    )


def noise_and_delay(truth: Array, estimate: Array) -> tuple[float, float]:
    """Smallest standard deviation of estimate(t) - truth(t - delay), both (n, k), and the delay [s] that gives it."""
    t = PERIOD * np.arange(len(truth))
    inner = (t >= t[0] + _LAGS[-1]) & (t <= t[-1] + _LAGS[0])
    errors = []
    for lag in _LAGS:
        shifted = np.stack([np.interp(t[inner] - lag, t, column) for column in truth.T], axis=1)
        errors.append(float(np.std(estimate[inner] - shifted)))
    best = int(np.argmin(errors))
    return errors[best], float(_LAGS[best])


def _mocap_config(conditions: Conditions) -> MocapConfig:
    return world_config().mocap.model_copy(
        update={
            "position_noise": conditions.position_noise,
            "rotation_noise": conditions.rotation_noise,
            "delay": conditions.delay,
        }
    )


def _figures_command(t: float, truth: Truth) -> Command:
    """A controller that knows the truth flies figures whose frequencies go up to 1 Hz."""
    position = np.array([np.sin(1.2 * t) + 0.05 * np.sin(6.0 * t), 0.8 * np.sin(0.9 * t), 1.0 + 0.3 * np.sin(0.7 * t)])
    velocity = np.array([1.2 * np.cos(1.2 * t) + 0.3 * np.cos(6.0 * t), 0.72 * np.cos(0.9 * t), 0.21 * np.cos(0.7 * t)])
    gravity = cf.attitude_models().gravity
    wanted = 4.0 * (position - truth.pos) + 3.0 * (velocity - truth.vel) + [0.0, 0.0, gravity]
    roll, pitch = np.clip([-wanted[1] / gravity, wanted[0] / gravity], -0.4, 0.4)
    thrust = np.clip(cf.hover_thrust() * wanted[2] / gravity, 0.1, 0.43)
    return Command(float(roll), float(pitch), -float(truth.rpy[2]), float(thrust))
