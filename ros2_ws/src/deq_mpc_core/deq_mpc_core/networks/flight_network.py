"""theta = NN_phi(x_init, o, tau) in flight: ``waypoints.py`` compiled for one sample, float32, without torch.

``waypoints.py`` states the equations. A cold import compiles for some seconds; after that the machine code is cached.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.features.flight import FlightFeatures
from deq_mpc_core.networks.config import NetworkConfig
from deq_mpc_core.networks.flight_kernels import FlightContext, Mixing, encode, refine_conv_stack, refine_equilibrium
from deq_mpc_core.networks.flight_weights import Array32, ConvWeights, WeightReader
from deq_mpc_core.networks.shapes import check_weights, parameter_shapes

Array = NDArray[np.float64]


class FlightRefinement(NamedTuple):
    """theta (T, 6) float64 [m, m/s], yaw frame; z (T, H) float32; residual, steps: see ``waypoints.Refinement``."""

    theta: Array
    z: Array32
    residual: float
    steps: int


def straight_line(goal: Array, horizon: int, dt: float, config: NetworkConfig) -> Array:
    """Waypoints (T, 6) towards the relative goal (3,) [m]; see ``waypoints.straight_line``."""
    distance = math.sqrt(float(goal @ goal))
    travelled = np.minimum(config.reference_speed * dt * np.arange(horizon), distance)
    speed = np.minimum(config.reference_speed, config.approach_rate * (distance - travelled))
    direction = goal / max(distance, 1e-6)
    return np.hstack([np.outer(travelled, direction), np.outer(speed, direction)])


class FlightNetwork:
    """The policy's network for one sample; ``encode`` once per control step, ``refine`` once per DEQ-MPC iteration."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], config: NetworkConfig, horizon: int, dt: float) -> None:
        """Take the torch network's parameters by name.

        Raises:
            UserError: if a weight is missing, unknown or not of the shape that the configuration needs.
        """
        check_weights(weights, parameter_shapes(config, horizon))
        self.config, self.horizon, self.dt = config, horizon, dt
        self.features = FlightFeatures(config.features)
        reader = WeightReader(weights)
        self._encoder = reader.encoder(config)
        self._refiner = reader.refiner(config)
        fixed_point = config.fixed_point
        self._mixing = Mixing(
            fixed_point.memory,
            np.float32(fixed_point.mixing),
            fixed_point.max_steps,
            fixed_point.tolerance,
            fixed_point.regularisation,
        )
        self._core = reader.equilibrium() if config.kind == "deq" else reader.conv_stack(config.blocks)

    def initial_z(self) -> Array32:
        """(T, H) zeros: the cold start of the fixed point."""
        return np.zeros((self.horizon, self.config.hidden), np.float32)

    def encode(self, x: Array, goal: Array, obstacles: Array, fence: Array, weight: float) -> FlightContext:
        """The part that does not depend on the iterate; arguments as `FlightFeatures.observe`."""
        seen = self.features.observe(x, goal, obstacles, fence, weight)
        scene = np.concatenate([seen.ego, seen.scan]).astype(np.float32)[None]
        injection = encode(self._encoder, self.config.heads, scene, seen.tokens.astype(np.float32))
        distance = math.sqrt(float(seen.goal @ seen.goal))
        baseline = straight_line(seen.goal, self.horizon, self.dt, self.config)
        return FlightContext(injection, baseline, min(1.0, distance / self.config.goal_authority))

    def describe_knots(self, x: Array, states: Array, obstacles: Array) -> Array:
        """(T, KNOT_SIZE) features of the iterate's states (T, 13); see `FlightFeatures.describe_knots`."""
        return self.features.describe_knots(x, states, obstacles, self.dt)

    def refine(self, context: FlightContext, knots: Array, z: Array32) -> FlightRefinement:
        """Waypoints for the iterate whose features are ``knots`` (T, KNOT_SIZE), from the start ``z`` (T, H)."""
        inputs, start = (np.array(array, dtype=np.float32, order="C") for array in (knots, z))
        core, groups = self._core, self.config.groups
        if isinstance(core, ConvWeights):
            theta = refine_conv_stack(self._refiner, core, groups, context, inputs)
            return FlightRefinement(theta, z, residual=0.0, steps=0)
        return FlightRefinement(*refine_equilibrium(self._refiner, core, self._mixing, groups, context, inputs, start))
