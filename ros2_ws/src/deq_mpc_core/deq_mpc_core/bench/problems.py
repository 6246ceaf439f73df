"""Random problems of every model, feasible by construction.

A motion is rolled out under random admissible inputs; bounds are placed around it and spheres beside it, so that it
satisfies them all; the reference lies off it, so that the optimum is pressed against them. Sample b of a seed is the
same problem in a batch of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deq_mpc_core.bench.integration import scalar_step
from deq_mpc_core.models import MODELS, NOMINAL_PARAMS, crazyflie, quadrotor
from deq_mpc_core.solver.arrays import Data
from deq_mpc_core.tasks import load_task

Array = NDArray[np.float64]

DT = 0.05
"""[s]"""
_TIGHTEST, _LOOSEST = 0.01, 0.5
"""Room between the motion and a bound, in natural scales of the quantity; drawn log-uniformly."""
_CLEARANCE = (0.002, 0.1)
"""[m] room between the motion and a sphere; drawn log-uniformly."""
_RADIUS = (0.2, 0.6)
"""[m] on which side to pass is a question: many problems have several local optima."""
_SMALLEST_RADIUS = 0.03
"""[m] a sphere that would have to be smaller is switched off."""
_DRIFT = 0.2
"""[m/s] standard deviation of a sphere's velocity, per axis."""


@dataclass(frozen=True)
class Recipe:
    """How problems of one model are drawn; (nx,) and (nu,) arrays in the model's order and units.

    Attributes:
        start_low, start_high: box of the motion's first state.
        u_mid, u_reach: centre and amplitude of the motion's inputs.
        u_lower, u_upper: what the inputs can ever be.
        bounded: indices of the states that get bounds, each with probability 1/2.
        offset: standard deviation of the reference off the motion.
        q, r: weights, each multiplied by a factor in 1/2..2.
        spread: the parameters differ from the nominal ones by at most this share.
        steady: adds to the inputs what keeps the motion tame, given the state.
    """

    start_low: Array
    start_high: Array
    u_mid: Array
    u_reach: Array
    u_lower: Array
    u_upper: Array
    bounded: tuple[int, ...]
    offset: Array
    q: Array
    r: Array
    spread: float = 0.0
    steady: Callable[[Array], Array] | None = None


def _level(x: Array) -> Array:
    """Motor commands that turn the quadrotor's body back to level: a damped oscillator of 5 rad/s about each axis."""
    roll, pitch, yaw = -(25.0 * 4.0 * x[quadrotor.MRP] + 10.0 * x[quadrotor.BODY_RATE]) / [120.0, 120.0, 200.0]
    mixed = [
        y * roll - x * pitch + s * yaw for (x, y), s in zip(quadrotor.MOTOR_DIRECTIONS, quadrotor.SPIN, strict=True)
    ]
    return np.array(mixed)


def _pendulum() -> Recipe:
    task = load_task("pendulum")
    return Recipe(
        start_low=np.array([-np.pi, -2.0]),
        start_high=np.array([np.pi, 2.0]),
        u_mid=np.zeros(1),
        u_reach=np.array([4.0]),
        u_lower=task.lower[2:],
        u_upper=task.upper[2:],
        bounded=(0, 1),
        offset=np.array([0.5, 1.0]),
        q=task.q,
        r=task.r,
        spread=0.2,
    )


def _cartpole() -> Recipe:
    task = load_task("cartpole")
    return Recipe(
        start_low=np.array([-1.0, -np.pi, -1.0, -2.0]),
        start_high=np.array([1.0, np.pi, 1.0, 2.0]),
        u_mid=np.zeros(1),
        u_reach=np.array([60.0]),
        u_lower=task.lower[4:],
        u_upper=task.upper[4:],
        bounded=(0, 2, 3),
        offset=np.array([0.3, 0.3, 0.5, 0.5]),
        q=task.q,
        r=task.r,
        spread=0.2,
    )


def _quadrotor() -> Recipe:
    task = load_task("quadrotor")
    hover = quadrotor.hover_command()
    reach = np.array([5.0] * 3 + [0.3] * 3 + [1.5] * 3 + [1.0] * 3)
    return Recipe(
        start_low=-reach,
        start_high=reach,
        u_mid=np.full(4, hover),
        u_reach=np.full(4, 0.3),
        u_lower=task.lower[12:],
        u_upper=task.upper[12:],
        bounded=(2, 6, 7, 8, 9, 10, 11),
        offset=np.array([0.4] * 3 + [0.05] * 3 + [0.5] * 3 + [0.5] * 3),
        q=task.q,
        r=task.r,
        steady=_level,
    )


def _crazyflie() -> Recipe:
    hover = crazyflie.hover_thrust()
    reach = np.array([1.0] * 3 + [1.0] * 3 + [0.2] * 3 + [0.5] * 3 + [0.02])
    centre = np.zeros(13)
    centre[crazyflie.THRUST] = hover
    return Recipe(
        start_low=centre - reach,
        start_high=centre + reach,
        u_mid=np.array([0.0, 0.0, 0.0, hover]),
        u_reach=np.array([0.25, 0.25, 0.8, 0.06]),
        u_lower=np.array([-0.4, -0.4, -1.5, 0.12]),
        u_upper=np.array([0.4, 0.4, 1.5, 0.43]),
        bounded=(2, 3, 4, 5, 6, 7),
        offset=np.array([0.4] * 3 + [0.3] * 3 + [0.1] * 3 + [0.2] * 3 + [0.02]),
        q=np.array([10.0] * 3 + [1.0] * 3 + [0.2] * 3 + [0.02] * 3 + [1.0]),
        r=np.array([1.0, 1.0, 0.2, 5.0]),
    )


_RECIPES: Mapping[str, Callable[[], Recipe]] = MappingProxyType(
    {"pendulum": _pendulum, "cartpole": _cartpole, "quadrotor": _quadrotor, "crazyflie": _crazyflie}
)


@cache
def recipe(name: str) -> Recipe:
    """How the problems of a model are drawn."""
    return _RECIPES[name]()


def _inputs(rng: np.random.Generator, horizon: int, nu: int) -> Array:
    """Smooth signals (T, nu) in -1..1: two sines each."""
    t = np.arange(horizon)[:, None, None] * DT
    frequency = rng.uniform(0.5, 3.0, (nu, 2))  # [Hz]
    phase, weight = rng.uniform(0.0, 2.0 * np.pi, (nu, 2)), rng.uniform(0.2, 1.0, (nu, 2))
    signals: Array = (weight * np.sin(2.0 * np.pi * frequency * t + phase)).sum(-1) / weight.sum(-1)
    return signals


def _motion(name: str, rng: np.random.Generator, horizon: int, p: Array) -> tuple[Array, Array]:
    """A motion: states (T, nx) and inputs (T, nu)."""
    draw, step = recipe(name), scalar_step(MODELS[name]())
    wanted = draw.u_mid + draw.u_reach * _inputs(rng, horizon, draw.u_mid.size)
    x = np.empty((horizon, draw.start_low.size))
    u = np.empty_like(wanted)
    x[0] = rng.uniform(draw.start_low, draw.start_high)
    for t in range(horizon):
        extra = draw.steady(x[t]) if draw.steady else 0.0
        u[t] = np.clip(wanted[t] + extra, draw.u_lower, draw.u_upper)
        if t + 1 < horizon:
            x[t + 1] = step(x[t], u[t], p, DT)
    return x, u


def _room(rng: np.random.Generator, scale: ArrayLike) -> Array:
    size = np.shape(scale)
    return np.asarray(scale) * np.exp(rng.uniform(np.log(_TIGHTEST), np.log(_LOOSEST), size))


def _bounds(name: str, rng: np.random.Generator, x: Array, u: Array) -> tuple[Array, Array]:
    """Bounds (nz,) that the motion keeps."""
    draw, model = recipe(name), MODELS[name]()
    lower, upper = np.full(model.nx + model.nu, -np.inf), np.full(model.nx + model.nu, np.inf)
    lower[model.nx :] = np.maximum(draw.u_lower, u.min(0) - _room(rng, draw.u_reach))
    upper[model.nx :] = np.minimum(draw.u_upper, u.max(0) + _room(rng, draw.u_reach))
    for i in draw.bounded:
        below, above = x[:, i].min() - _room(rng, draw.offset[i]), x[:, i].max() + _room(rng, draw.offset[i])
        if rng.random() < 0.5:
            lower[i] = below
        if rng.random() < 0.5:
            upper[i] = above
    return lower, upper


def _spheres(rng: np.random.Generator, path: Array, towards: Array, count: int) -> tuple[Array, Array]:
    """Centres (T, K, 3) and radii (K,) of drifting spheres beside a path (T, 3), rather ``towards`` (3,)."""
    horizon = path.shape[0]
    knots = rng.integers(horizon // 3, horizon, count)
    direction = rng.normal(size=(count, 3)) + 2.0 * towards / max(float(np.linalg.norm(towards)), 1e-9)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    wanted, clearance = (
        rng.uniform(*_RADIUS, count),
        np.exp(rng.uniform(np.log(_CLEARANCE[0]), np.log(_CLEARANCE[1]), count)),
    )
    middle = path[knots] + direction * (wanted + clearance)[:, None]
    elapsed = (np.arange(horizon)[:, None, None] - knots[:, None]) * DT
    centres = middle + rng.normal(size=(count, 3)) * _DRIFT * elapsed
    nearest = np.linalg.norm(path[:, None] - centres, axis=-1).min(0)
    radii = np.minimum(wanted, nearest - clearance)
    return centres, np.where(radii >= _SMALLEST_RADIUS, radii, 0.0)


@dataclass(frozen=True)
class Problem:
    """One sample's arrays, without the batch dimension, and the motion (T, nz) that satisfies its constraints."""

    data: dict[str, Array]
    witness: Array


def _problem(name: str, horizon: int, rng: np.random.Generator, spheres: int) -> Problem:
    draw, model = recipe(name), MODELS[name]()
    p = NOMINAL_PARAMS[name]() * (1.0 + draw.spread * rng.uniform(-1.0, 1.0, len(model.p)))
    x, u = _motion(name, rng, horizon, p)
    lower, upper = _bounds(name, rng, x, u)
    offset = rng.normal(size=model.nx) * draw.offset
    centres, radii = np.zeros((horizon, 0, 3)), np.zeros(0)
    if model.position:
        where = list(model.position)
        centres, radii = _spheres(rng, x[:, where], offset[where], spheres)
    data = {
        "x_init": x[0],
        "x_ref": x + offset,
        "u_ref": np.broadcast_to(draw.u_mid, u.shape) + 0.1 * draw.u_reach * rng.normal(size=u.shape),
        "q": np.broadcast_to(draw.q * 2.0 ** rng.uniform(-1.0, 1.0, model.nx), x.shape),
        "r": np.broadcast_to(draw.r * 2.0 ** rng.uniform(-1.0, 1.0, model.nu), u.shape),
        "lower": np.broadcast_to(lower, (horizon, lower.size)),
        "upper": np.broadcast_to(upper, (horizon, upper.size)),
        "centres": centres,
        "radii": radii,
        "p": p,
    }
    return Problem(data, np.concatenate([x, u], axis=1))


def random_problems_and_witnesses(
    name: str, batch: int, horizon: int, seed: int, *, spheres: int = 4
) -> tuple[Data, Array]:
    """`random_problems` and for each the motion (B, T, nz) that satisfies all its constraints."""
    model_number = list(_RECIPES).index(name)
    drawn = [
        _problem(name, horizon, np.random.default_rng([seed, model_number, horizon, b]), spheres) for b in range(batch)
    ]
    fields = {
        key: np.ascontiguousarray(np.stack([problem.data[key] for problem in drawn]))  # stacked broadcasts are not
        for key in Data._fields
        if key != "dt"
    }
    return Data(**fields, dt=DT), np.stack([problem.witness for problem in drawn])


def random_problems(name: str, batch: int, horizon: int, seed: int, *, spheres: int = 4) -> Data:
    """A batch of feasible problems of a model; ``spheres`` of them for models that have a position."""
    return random_problems_and_witnesses(name, batch, horizon, seed, spheres=spheres)[0]


def take(data: Data, which: ArrayLike) -> Data:
    """The named samples of a batch, in that order; one may be named several times."""
    index = np.asarray(which, dtype=np.int64)
    return data._replace(**{name: np.asarray(a)[index] for name, a in data._asdict().items() if name != "dt"})
