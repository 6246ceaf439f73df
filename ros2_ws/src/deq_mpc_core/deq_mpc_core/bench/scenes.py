"""The problems that the solver suite times, beside the random ones of ``problems.py``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.bench.check import SOFT, STIFF
from deq_mpc_core.bench.problems import take
from deq_mpc_core.models.crazyflie import NU, NX, THRUST, crazyflie_model, hover_thrust, nominal_params
from deq_mpc_core.solver import CpuEngine, Data, SolverOptions, cold_state, several_starts, solve_from_several
from deq_mpc_core.tasks import load_task

Array = NDArray[np.float64]

_APPROACH = 1.0
"""[s] time constant with which the quadrotor's references decay to the origin."""
_POST_KNOTS = np.array([3, 5, 7, 9])
"""The knots beside which the Crazyflie's spheres stand."""
_POST_RADIUS = (0.05, 0.08)
"""[m]"""
_POST_SHARE = (0.30, 0.32)
"""How much of the way to the side that the free optimum takes a sphere leaves; nearly the same for all."""
_POOL, _POOL_LEAST = 4, 16
"""Scenes drawn for each that is kept, half of which press on all four spheres, and at least."""
_PULL = 0.3
"""[m] how far beside the straight way the reference lies, behind the spheres."""


def quadrotors(batch: int, seed: int = 0) -> Data:
    """The paper's quadrotor task, T = 5: starts of the task, references that approach the origin."""
    task = load_task("quadrotor")
    starts = task.random_starts(np.random.default_rng(seed), batch)
    decay = np.exp(-np.arange(task.horizon) * task.dt / _APPROACH)
    return task.problem(starts, starts[:, None] * decay[:, None])


def _pulled_aside(aside: Array, horizon: int) -> Data:
    """Crazyflies at 1 m/s along x, without obstacles, whose references lie to the side ``aside`` (B, 2), (y, z)."""
    batch, dt, hover = len(aside), 0.05, hover_thrust()
    x_init = np.zeros((batch, NX))
    x_init[:, 3], x_init[:, THRUST] = 1.0, hover
    x_ref = np.zeros((batch, horizon, NX))
    x_ref[..., 0], x_ref[..., 3], x_ref[..., THRUST] = np.arange(horizon) * dt, 1.0, hover
    x_ref[..., 1:3] = _PULL * aside[:, None]
    u_ref = np.zeros((batch, horizon, NU))
    u_ref[..., 3] = hover
    bound = np.array([np.inf] * 3 + [2.0] * 3 + [0.5, 0.5] + [np.inf] * 5 + [0.4, 0.4, 1.5, 0.43])  # config/mpc.yaml
    lower = -bound
    lower[-1] = 0.12  # [N]
    return Data(
        x_init=x_init,
        x_ref=x_ref,
        u_ref=u_ref,
        q=np.broadcast_to([10.0] * 3 + [2.0] * 3 + [0.2, 0.2, 2.0] + [0.01] * 3 + [1.0], x_ref.shape),
        r=np.broadcast_to([1.0, 1.0, 0.5, 20.0], u_ref.shape),
        lower=np.broadcast_to(lower, (batch, horizon, NX + NU)),
        upper=np.broadcast_to(bound, (batch, horizon, NX + NU)),
        centres=np.zeros((batch, horizon, 0, 3)),
        radii=np.zeros((batch, 0)),
        p=np.broadcast_to(nominal_params(), (batch, nominal_params().size)),
        dt=dt,
    )


def _corridors(batch: int, rng: np.random.Generator) -> Data:
    """Crazyflies whose way aside is narrowed by four spheres, placed by the optimum without them."""
    angle = rng.uniform(-np.pi, np.pi, (batch, 1))
    data = _pulled_aside(np.concatenate([np.cos(angle), np.sin(angle)], axis=1), horizon=10)
    way = _unhindered(data)[:, _POST_KNOTS, :3]
    spread = angle + rng.uniform(-0.1, 0.1, (batch, len(_POST_KNOTS)))
    aside = np.stack([np.zeros_like(spread), np.cos(spread), np.sin(spread)], axis=-1)
    radii = rng.uniform(*_POST_RADIUS, spread.shape)
    allowed = rng.uniform(*_POST_SHARE, spread.shape) * np.linalg.norm(way[..., 1:], axis=-1)
    centres = aside * (radii + allowed)[..., None]
    centres[..., 0] = way[..., 0]
    return data._replace(centres=np.repeat(centres[:, None], data.x_ref.shape[1], axis=1), radii=radii)


def _unhindered(data: Data) -> Array:
    """The optima (B, T, nz) without obstacles."""
    options = SolverOptions(al_iterations=60, newton_steps=3, penalty_init=100.0, tolerance=1e-6)
    engine = CpuEngine(crazyflie_model(), threads=1)
    return engine.solve(data, cold_state(data, options.penalty_init), options).state.tau


def corridor(batch: int, seed: int = 0) -> Data:
    """A Crazyflie at 1 m/s, T = 10, pulled aside against four spheres along the way; the optimum leans on all four.

    The optimum is that of `check`, from several starts, which IPOPT agrees with (`tests/core/test_bench_peers.py`):
    whether the options that are timed, or any other solver's, find it has no say in which scenes there are.
    """
    data = _corridors(_POOL * batch + _POOL_LEAST, np.random.default_rng(seed))
    model = crazyflie_model()
    solution = solve_from_several(CpuEngine(model, threads=1), data, several_starts(model, data), (SOFT, STIFF))
    leaning = (solution.state.duals.sphere > 0.0).any(axis=1).all(axis=1)
    return take(data, np.flatnonzero(leaning)[:batch])
