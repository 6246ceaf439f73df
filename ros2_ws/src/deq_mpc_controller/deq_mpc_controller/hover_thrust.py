"""How much of the commanded thrust arrives: mass, battery and thrust map as one slowly varying factor.

In the air the vertical specific force y = v_d + g - drag is a multiple of the one that was commanded, h = k T e_z / m:

    y = s h + w,    w white with density ``noise``
    s_d = w_s,      w_s white with density ``wander``

s is found by a Kalman filter of one state, from samples that are plausible: airborne and settled, nearly upright, with
motors that carry, and not far from what s predicts. The disturbance of ``estimate`` follows gusts, too; s averages over
them, and is good for thrusts that nobody corrects: carrying the weight takes m g / (k s).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import acos, cos, isfinite, nan, sqrt

from deq_mpc_controller.estimate import Estimate
from deq_mpc_controller.units import Acceleration, AccelerationNoise, FactorNoise, Number, Radian, Second
from deq_mpc_core.config import Config
from deq_mpc_core.models import crazyflie as cf


class HoverThrustConfig(Config):
    """``hover_thrust`` in ``config/controller.yaml``."""

    deviation: Number
    noise: AccelerationNoise
    wander: FactorNoise
    error_max: Acceleration
    tilt_max: Radian
    commanded_min: Acceleration
    factor_min: Number
    factor_max: Number
    max_gap: Second
    settle_time: Second


@dataclass(frozen=True)
class ThrustFactor:
    """The estimate.

    Attributes:
        value: s.
        variance: of s; None before the first sample.
        t: of the last sample, taken or not [s].
        since: when the vehicle took off [s]; None: it is not airborne.
    """

    value: float = 1.0
    variance: float | None = None
    t: float | None = None
    since: float | None = None

    @property
    def hover_thrust(self) -> float:
        """Thrust to command so that it carries the weight [N]."""
        return cf.hover_thrust() / self.value

    @property
    def deviation(self) -> float | None:
        """Standard deviation of s."""
        return None if self.variance is None else sqrt(self.variance)


@dataclass(frozen=True)
class Sample:
    """What the vehicle does at ``t`` [s].

    Attributes:
        t: now.
        commanded: h, the vertical specific force that the model has of the motors' thrust [m/s^2].
        measured: y, the one that the motion shows [m/s^2].
        tilt: angle between the body's and the world's z axis [rad].
        airborne: whether nothing but air carries it.
    """

    t: float
    commanded: float
    measured: float
    tilt: float
    airborne: bool


def update(factor: ThrustFactor, seen: Sample, config: HoverThrustConfig) -> ThrustFactor:
    """The estimate after a sample. Samples that are not plausible move the time alone."""
    since = factor.since if factor.since is not None else seen.t
    later = replace(factor, t=seen.t, since=since if seen.airborne else None)
    if factor.t is None:
        return replace(later, variance=config.deviation**2)
    elapsed = seen.t - factor.t
    if not elapsed > 0.0:
        return factor
    assert factor.variance is not None
    variance = min(factor.variance + config.wander**2 * elapsed, config.deviation**2)
    later = replace(later, variance=variance)
    settled = seen.airborne and seen.t - since >= config.settle_time
    if not settled or not _is_usable(seen, config) or elapsed > config.max_gap:
        return later
    error = seen.measured - factor.value * seen.commanded
    if abs(error) > config.error_max:
        return later
    gain = variance * seen.commanded / (seen.commanded**2 * variance + config.noise**2 / elapsed)
    value = min(max(factor.value + gain * error, config.factor_min), config.factor_max)
    return replace(later, value=value, variance=(1.0 - gain * seen.commanded) * variance)


def _is_usable(seen: Sample, config: HoverThrustConfig) -> bool:
    finite = isfinite(seen.commanded) and isfinite(seen.measured) and isfinite(seen.tilt)
    upright = abs(seen.tilt) <= config.tilt_max
    return finite and upright and seen.commanded >= config.commanded_min


def observe(factor: ThrustFactor, estimate: Estimate, airborne: bool, config: HoverThrustConfig) -> ThrustFactor:
    """The estimate after a control step: the vehicle's disturbance is what the model's thrust does not explain."""
    model = cf.attitude_models().nominal
    roll, pitch = estimate.x[cf.RPY][:2]
    upward = cos(roll) * cos(pitch)
    commanded = model.k * float(estimate.x[cf.THRUST]) * upward / model.mass
    seen = Sample(
        t=estimate.t,
        commanded=commanded,
        measured=commanded + float(estimate.disturbance[2]),
        tilt=acos(upward),
        airborne=airborne,
    )
    if estimate.age > config.max_gap:  # what the motion shows is a guess
        seen = replace(seen, measured=nan)
    return update(factor, seen, config)
