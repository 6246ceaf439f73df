"""One control step of the trained policy as one compiled function: what is seen, the network, the MPC, N times.

A template: ``compiled.py`` puts the solver's kernels of the Crazyflie in the place of those imported here. World frame
and SI; float64 but for the network. Arrays that are passed in must be C-contiguous and writable, and are not written.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deq_mpc_core.features.dimensions import EGO_SIZE, KNOT_SIZE, THETA_SIZE, TOKEN_SIZE
from deq_mpc_core.features.flight import Scales, describe_knots, observe
from deq_mpc_core.networks.flight_kernels import (
    FlightContext,
    Mixing,
    encode,
    refine_conv_stack,
    refine_equilibrium,
)
from deq_mpc_core.networks.flight_weights import Array32, NetworkWeights, Sizes
from deq_mpc_core.networks.packing import unpack
from deq_mpc_core.solver.arrays import DYNAMICS, NEXT_PENALTY, REPORTED, STATUS, VIOLATION, Data, Duals, Options
from deq_mpc_core.solver.kernels.riccati import workspace
from deq_mpc_core.solver.kernels.slot import FASTMATH
from deq_mpc_core.solver.kernels.solve import solve_one

Array = NDArray[np.float64]

_jit = njit(cache=True, error_model="numpy", fastmath=FASTMATH)

NX, NU = 13, 4
YAW, THRUST = 8, 12
REPORT_SIZE = 7 + NU
"""Numbers in a report: status, |k|, h^+, residuals of theta, tau and the network, iterations, command."""


class Line(NamedTuple):
    """The straight line that the network's output is added to, see ``waypoints.straight_line``; SI."""

    speed: float
    approach_rate: float
    goal_authority: float


class Turns(NamedTuple):
    """How network and solver take turns from one kind of start: iterations, the first penalty, the solver's options."""

    iterations: int
    penalty: float
    options: Options


class Settings(NamedTuple):
    """The policy's configuration for the kernel.

    Attributes:
        dt: knot spacing [s]. margin: on the spheres' radii [m].
        nominal_hover: thrust [N] that the network's inputs are relative to.
        sees_iterate: False for coupling diff-mpc.
    """

    dt: float
    margin: float
    nominal_hover: float
    sees_iterate: bool
    sizes: Sizes
    scales: Scales
    mixing: Mixing
    line: Line
    cold: Turns
    warm: Turns


class Constants(NamedTuple):
    """Arrays that no step changes: network (see ``packing``), rays (3, R), limits (3, nz): lower, upper, weights."""

    network: Array32
    rays: Array
    limits: Array


class Seen(NamedTuple):
    """An observation: x (13,), goal (3,), obstacles (K, 7), fence (2, 3), model parameters (np,), hover thrust [N]."""

    x: Array
    goal: Array
    obstacles: Array
    fence: Array
    params: Array
    hover: float


class Warm(NamedTuple):
    """Where a step starts from or ends: plan tau (T, nz), theta (T, 6), the network's z (T, H)."""

    tau: Array
    theta: Array
    z: Array32


@_jit
def _straight_line(goal: Array, horizon: int, dt: float, line: Line) -> tuple[Array, float]:
    """Waypoints (T, 6) towards the relative goal (3,) [m], and the authority of the learned part."""
    distance = math.sqrt(goal[0] * goal[0] + goal[1] * goal[1] + goal[2] * goal[2])
    baseline = np.empty((horizon, THETA_SIZE))
    for t in range(horizon):
        travelled = min(line.speed * dt * t, distance)
        speed = min(line.speed, line.approach_rate * (distance - travelled))
        for i in range(3):
            direction = goal[i] / max(distance, 1e-6)
            baseline[t, i] = travelled * direction
            baseline[t, 3 + i] = speed * direction
    return baseline, min(1.0, distance / line.goal_authority)


@_jit
def encode_observation(seen: Seen, weights: NetworkWeights, rays: Array, settings: Settings) -> FlightContext:
    """What does not depend on the iterate."""
    sizes = settings.sizes
    ego, scan, tokens, goal = observe(
        seen.x, seen.goal, seen.obstacles, seen.fence, settings.nominal_hover, rays, settings.scales
    )
    scene = np.empty((1, EGO_SIZE + sizes.rays), np.float32)
    for i in range(EGO_SIZE):
        scene[0, i] = ego[i]
    for i in range(sizes.rays):
        scene[0, EGO_SIZE + i] = scan[i]
    narrow = np.empty((len(tokens), TOKEN_SIZE), np.float32)
    for k in range(len(tokens)):
        for i in range(TOKEN_SIZE):
            narrow[k, i] = tokens[k, i]
    injection = encode(weights.encoder, sizes.heads, scene, narrow)
    baseline, authority = _straight_line(goal, sizes.horizon, settings.dt, settings.line)
    return FlightContext(injection, baseline, authority)


@_jit
def refine_plan(
    seen: Seen, context: FlightContext, weights: NetworkWeights, settings: Settings, tau: Array, z: Array32
) -> tuple[Array, float]:
    """Waypoints (T, 6), yaw frame, for the iterate tau; z goes from the start to the fixed point, in place."""
    states = np.empty((tau.shape[0], NX))
    for t in range(tau.shape[0]):
        for i in range(NX):
            states[t, i] = tau[t, i] if settings.sees_iterate else seen.x[i]
    described = describe_knots(seen.x, states, seen.obstacles, settings.dt, settings.scales)
    knots = np.empty((len(described), KNOT_SIZE), np.float32)
    for t in range(len(described)):
        for i in range(KNOT_SIZE):
            knots[t, i] = described[t, i]
    if not settings.sizes.deq:
        return refine_conv_stack(weights.refiner, weights.conv, settings.sizes.groups, context, knots), 0.0
    theta, z_star, residual, _ = refine_equilibrium(
        weights.refiner, weights.equilibrium, settings.mixing, settings.sizes.groups, context, knots, z
    )
    z[:] = z_star
    return theta, residual


@_jit
def _to_world(relative: Array, x: Array, theta: Array) -> None:
    """Waypoints (T, 6) from the yaw frame of x, relative, to the world, absolute."""
    c, s = math.cos(x[YAW]), math.sin(x[YAW])
    for t in range(theta.shape[0]):
        for i in (0, 3):
            ahead, left = relative[t, i], relative[t, i + 1]
            theta[t, i] = c * ahead - s * left
            theta[t, i + 1] = s * ahead + c * left
            theta[t, i + 2] = relative[t, i + 2]
        for i in range(3):
            theta[t, i] += x[i]


@_jit
def _pose_problem(seen: Seen, limits: Array, settings: Settings) -> Data:
    """The MPC's problem; what theta decides of x_ref comes later."""
    horizon, count = settings.sizes.horizon, len(seen.obstacles)
    x_ref, u_ref = np.zeros((horizon, NX)), np.zeros((horizon, NU))
    q, r = np.empty((horizon, NX)), np.empty((horizon, NU))
    lower, upper = np.empty((horizon, NX + NU)), np.empty((horizon, NX + NU))
    centres, radii = np.empty((horizon, count, 3)), np.empty(count)
    for t in range(horizon):
        x_ref[t, YAW], x_ref[t, THRUST], u_ref[t, NU - 1] = seen.x[YAW], seen.hover, seen.hover
        lower[t], upper[t] = limits[0], limits[1]
        lower[t, 0:3], upper[t, 0:3] = seen.fence[0], seen.fence[1]
        q[t], r[t] = limits[2, :NX], limits[2, NX:]
        for k in range(count):
            for i in range(3):
                centres[t, k, i] = seen.obstacles[k, i] + t * settings.dt * seen.obstacles[k, 4 + i]
    for k in range(count):
        radius = seen.obstacles[k, 3]
        radii[k] = radius + settings.margin if radius > 0.0 else 0.0
    return Data(seen.x, x_ref, u_ref, q, r, lower, upper, centres, radii, seen.params, settings.dt)


@_jit
def _read_later(a: Array, knots: float, out: Array) -> int:
    """``solver.shift_trajectory`` of a (T, n) into out; returns how many knots of out lie within a's time."""
    last = a.shape[0] - 1
    within = 0
    for t in range(a.shape[0]):
        within += t + knots <= last
        at = min(t + knots, float(last))
        low = min(int(at), max(last - 1, 0))
        high = min(low + 1, last)
        weight = at - low
        for i in range(a.shape[1]):
            out[t, i] = (1.0 - weight) * a[low, i] + weight * a[high, i]
    return within


@_jit
def _mean_change(a: Array, b: Array, rows: int, columns: int) -> float:
    """Mean |a - b| over the first rows and columns; NaN over none."""
    total = 0.0
    for t in range(rows):
        for i in range(columns):
            total += abs(a[t, i] - b[t, i])
    return total / (rows * columns)


@_jit
def _start(seen: Seen, before: Warm, shift: float, after: Warm) -> int:
    """Fill ``after`` with the iterate to start from; returns how many knots theta can be compared at."""
    if shift >= 0.0:
        after.z[:] = before.z
        _read_later(before.tau, shift, after.tau)
        return _read_later(before.theta, shift, after.theta)
    after.z[:] = np.float32(0.0)
    after.theta[:] = np.nan
    for t in range(after.tau.shape[0]):
        after.tau[t, :NX] = seen.x
        after.tau[t, NX:] = 0.0
        after.tau[t, NX + NU - 1] = seen.hover
    return 0


@_jit
def step(
    seen: Seen, before: Warm, shift: float, constants: Constants, settings: Settings, after: Warm, report: Array
) -> None:
    """Write the next ``after`` and the ``report``.

    Args:
        shift: time since ``before`` in knots; negative to start cold, whatever ``before`` holds.
    """
    turns = settings.warm if shift >= 0.0 else settings.cold
    weights = unpack(constants.network, settings.sizes)
    context = encode_observation(seen, weights, constants.rays, settings)
    data = _pose_problem(seen, constants.limits, settings)
    comparable = _start(seen, before, shift, after)
    horizon, count = settings.sizes.horizon, len(seen.obstacles)
    duals = Duals(
        np.zeros((horizon - 1, NX)),
        np.zeros((horizon, NX + NU)),
        np.zeros((horizon, NX + NU)),
        np.zeros((horizon, count)),
    )
    penalty, work, out = turns.penalty, workspace(horizon), np.zeros(REPORTED)
    theta, tau = np.empty((horizon, THETA_SIZE)), np.empty((horizon, NX + NU))
    residual = 0.0
    for _ in range(turns.iterations):
        relative, residual = refine_plan(seen, context, weights, settings, after.tau, after.z)
        theta[:] = after.theta
        tau[:] = after.tau
        _to_world(relative, seen.x, after.theta)
        report[3] = _mean_change(after.theta, theta, comparable, THETA_SIZE)
        comparable = horizon
        data.x_ref[:, :THETA_SIZE] = after.theta
        solve_one(data, after.tau, duals, penalty, turns.options, out, work)
        penalty = out[NEXT_PENALTY]
    report[0], report[1], report[2] = out[STATUS], out[DYNAMICS], out[VIOLATION]
    report[4] = _mean_change(after.tau, tau, horizon, 6)
    report[5] = residual
    report[6] = turns.iterations
    for i in range(NU):
        report[7 + i] = min(max(after.tau[0, NX + i], constants.limits[0, NX + i]), constants.limits[1, NX + i])
