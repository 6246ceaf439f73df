"""Where a control step starts from: cold, or at the last plan, read later by the time that has passed."""

from __future__ import annotations

from deq_mpc_core.solver.arrays import Data
from deq_mpc_core.solver.solution import Array, SolverState, cold_state, shift_trajectory


def usable_age(elapsed: float, dt: float, horizon: int) -> float | None:
    """Age in knots of a plan made ``elapsed`` [s] ago; None for one of the future or past its end: start cold."""
    knots = elapsed / dt
    return knots if 0.0 <= knots <= horizon else None


def read_now(tau: Array, elapsed: float, dt: float) -> Array | None:
    """A plan (B, T, nz) made ``elapsed`` [s] ago from now on, its last knot repeated; None if it is not usable."""
    knots = usable_age(elapsed, dt, tau.shape[1])
    return None if knots is None else shift_trajectory(tau, knots)


def first_iterate(problem: Data, penalty: float, last: Array | None) -> SolverState:
    """At the plan ``last`` (B, T, nz), multipliers zero as in the paper; without one at tau^0, see `cold_state`."""
    state = cold_state(problem, penalty)
    return state if last is None else state.with_tau(last)
