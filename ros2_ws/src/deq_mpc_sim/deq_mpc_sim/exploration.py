"""Noise on an expert's commands, so that its flights also show the way back (Laskey et al., "DART", CoRL 2017).

The noise is an Ornstein-Uhlenbeck process per command, smooth on the scale of the vehicle's response:

    n(t + dt) = a n(t) + sqrt(1 - a^2) sigma w,     a = exp(-dt / tau),  w ~ N(0, 1)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.policy.interface import Command, Observation, Policy, PolicyInfo, PolicyState

Array = NDArray[np.float64]

NOISE_PERIOD = 0.01
"""Of the noise's samples [s]."""


class ExplorationNoise(NamedTuple):
    """Strength of the noise, one standard deviation each.

    Attributes:
        tilt: of roll and pitch [rad].
        yaw_rate: [rad/s].
        thrust: relative to the commanded one.
        time: correlation time tau [s].
    """

    tilt: float = 0.08
    yaw_rate: float = 0.2
    thrust: float = 0.05
    time: float = 0.3


class NoisyPolicy:
    """A policy whose commands are perturbed for one flight; the noise is drawn before it, so a step stays pure."""

    def __init__(self, policy: Policy, noise: ExplorationNoise, rng: np.random.Generator, duration: float) -> None:
        """Noise for ``duration`` [s] from time 0 of the observations; the last value stays."""
        self._policy = policy
        self.dt, self.horizon = policy.dt, policy.horizon
        self._scale = np.array([noise.tilt, noise.tilt, noise.yaw_rate, noise.thrust])
        self._unit = draw_correlated(rng, round(duration / NOISE_PERIOD) + 1, noise.time)

    def step(self, obs: Observation, state: PolicyState | None) -> tuple[Command, PolicyState, PolicyInfo]:
        """See `Policy.step`."""
        command, state, info = self._policy.step(obs, state)
        now = min(int(obs.t / NOISE_PERIOD + 0.5), len(self._unit) - 1)
        roll, pitch, yaw_rate, thrust = (self._scale * self._unit[now]).tolist()
        perturbed = Command(
            command.roll + roll,
            command.pitch + pitch,
            command.yaw_rate + yaw_rate,
            command.thrust * (1.0 + thrust),
        )
        return perturbed, state, info


def draw_correlated(rng: np.random.Generator, count: int, time: float) -> Array:
    """``count`` samples (count, 4) of the process with sigma = 1, every ``NOISE_PERIOD``."""
    keep = np.exp(-NOISE_PERIOD / time)
    samples = rng.normal(size=(count, 4))
    samples[1:] *= np.sqrt(1.0 - keep**2)
    for i in range(1, count):
        samples[i] += keep * samples[i - 1]
    return samples
