# mypy: ignore-errors
"""The iteration: Newton steps with line search inside augmented-Lagrangian iterations."""

import math

import numpy as np
from numba import njit

from deq_mpc_core.solver.arrays import (
    AL_ITERATIONS,
    COMPLEMENTARITY,
    DECREMENT,
    DYNAMICS,
    NEWTON_STEPS,
    NEXT_PENALTY,
    PENALTY,
    STATUS,
    VIOLATION,
    Data,
    Duals,
)
from deq_mpc_core.solver.globalisation import (
    ARMIJO,
    INFEASIBLE_AT,
    LEAST_DAMPING,
    LENGTHS_TRIED,
    LESS_DAMPING,
    MORE_DAMPING,
    NO_PROGRESS,
    RESTORING_ROUNDS,
    RESTORING_STEPS,
    ROUNDING,
    SHORT,
    STAY,
)

from .lagrangian import SCALE, lagrangian, linearise, update_multipliers
from .riccati import factor, substitute, workspace
from .rk4 import jit
from .slot import FASTMATH, NU, NX, NZ

CONVERGED, ITERATING, INFEASIBLE, NUMERICAL_FAILURE = 0, 1, 2, 3
"""Values of ``solver.Status``."""


@jit
def all_finite(a):
    """Whether no entry is NaN or infinite."""
    for value in a.flat:
        if not math.isfinite(value):
            return False
    return True


@jit
def _slope(model, mu, step):
    """Directional derivative of L along step at the point of linearisation."""
    horizon = step.shape[0]
    slope = 0.0
    for t in range(horizon):
        for i in range(NZ):
            slope += model.grad[t, i] * step[t, i]
        if t + 1 < horizon:
            for i in range(NX):
                change = step[t + 1, i]
                for j in range(NZ):
                    change -= model.jac[t, i, j] * step[t, j]
                slope -= mu / (SCALE[i] * SCALE[i]) * model.shift[t, i] * change  # (eta + mu k) / s = -M shift
    return slope


@jit
def _search(data, tau, duals, mu, value, slope, work):
    """Backtracking along work.step into work.trial: (length, L there), or (0, L at tau) if every length is refused."""
    length = 1.0
    for _ in range(LENGTHS_TRIED):
        for t in range(tau.shape[0]):
            for i in range(NZ):
                work.trial[t, i] = tau[t, i] + length * work.step[t, i]
        new = lagrangian(data, work.trial, duals, mu, work.model.vectors)
        if new <= value + ARMIJO * length * slope:  # False for NaN
            return length, new
        length *= 0.5
    return 0.0, value


@jit
def newton(data, tau, duals, mu, steps, tolerance, work):
    """At most `steps` Gauss-Newton steps on L with backtracking, in place.

    Where the valley bends more than a step can follow, the next step is damped (Levenberg-Marquardt). Returns the last
    decrement, infinite after a damped step, the steps done, and whether all factorisations succeeded.
    """
    model, riccati, step, trial = work
    decrement, damping = np.inf, 0.0
    value = lagrangian(data, tau, duals, mu, model.vectors)
    for done in range(1, steps + 1):
        linearise(data, tau, duals, mu, model)
        for t in range(tau.shape[0]):
            for i in range(NZ):
                model.hess[t, i, i] += damping / (SCALE[i] * SCALE[i])
        if not factor(model.hess, model.jac, mu, riccati):
            return decrement, done - 1, False
        substitute(model.grad, model.shift, model.jac, riccati, model.vectors, step)
        slope = _slope(model, mu, step)
        if not math.isfinite(slope):
            return decrement, done - 1, False
        decrement = np.inf if damping > 0.0 else -slope
        if decrement <= tolerance * tolerance:
            return decrement, done, True
        length, value = _search(data, tau, duals, mu, value, slope, work)
        if length > 0.0:
            tau[:, :] = trial
        elif decrement <= ROUNDING * max(1.0, abs(value)):
            return decrement, done, True
        if length == 1.0:
            damping = LESS_DAMPING * damping if damping > LEAST_DAMPING else 0.0
        elif length < SHORT:
            damping = max(LEAST_DAMPING, MORE_DAMPING * damping)
    return decrement, steps, True


@jit
def _sound(data, tau, duals, penalty):
    """Whether every number can be computed with; a bound may be infinite on its own side."""
    for value in data.lower.flat:
        if not value < np.inf:
            return False
    for value in data.upper.flat:
        if not value > -np.inf:
            return False
    return (
        penalty > 0.0
        and math.isfinite(data.dt)
        and all_finite(data.x_init)
        and all_finite(data.x_ref)
        and all_finite(data.u_ref)
        and all_finite(data.q)
        and all_finite(data.r)
        and all_finite(data.centres)
        and all_finite(data.radii)
        and all_finite(data.p)
        and all_finite(tau)
        and all_finite(duals.eta)
        and all_finite(duals.lower)
        and all_finite(duals.upper)
        and all_finite(duals.sphere)
    )


@jit
def _bounds_cross(data):
    """Whether a lower bound lies above its upper one; bounds on x_0 do not count."""
    horizon = data.lower.shape[0]
    for t in range(horizon):
        for i in range(NX if t == 0 else 0, NZ):
            if data.lower[t, i] > data.upper[t, i]:
                return True
    return False


@jit
def _replace_nonfinite(a):
    """Zero in place of NaN and infinity."""
    flat = a.reshape(-1)
    for i in range(flat.size):
        if not math.isfinite(flat[i]):
            flat[i] = 0.0


@jit
def _lessen_violation(data, tau, tolerance, work):
    """Lessen the sum of squares of the violations alone, staying near tau, in place.

    Returns max |k|, max h^+ and whether the minimum was reached.
    """
    horizon = tau.shape[0]
    q, r = np.empty((horizon, NX)), np.empty((horizon, NU))
    for t in range(horizon):
        for i in range(NX):
            q[t, i] = STAY / (SCALE[i] * SCALE[i])
        for i in range(NU):
            r[t, i] = STAY / (SCALE[NX + i] * SCALE[NX + i])
    x_ref, u_ref = tau[:, :NX].copy(), tau[:, NX:].copy()
    near = Data(data.x_init, x_ref, u_ref, q, r, data.lower, data.upper, data.centres, data.radii, data.p, data.dt)
    none = Duals(
        np.zeros((horizon - 1, NX)),
        np.zeros((horizon, NZ)),
        np.zeros((horizon, NZ)),
        np.zeros((horizon, data.radii.shape[0])),
    )
    decrement, _, ok = newton(near, tau, none, 1.0, RESTORING_STEPS, tolerance, work)
    dynamics, violation, _ = update_multipliers(near, tau, none, 1.0, work.model.vectors)
    return dynamics, violation, ok and decrement <= tolerance * tolerance


@jit
def _is_infeasible(data, tau, options, out, work):
    """Whether violations remain at a minimum of their own near tau; then tau becomes that plan of least violation."""
    plan = tau.copy()
    before = np.inf
    for _ in range(RESTORING_ROUNDS):
        dynamics, violation, reached = _lessen_violation(data, plan, options.tolerance, work)
        residual = max(dynamics, violation)
        if not (reached and residual > INFEASIBLE_AT * options.tolerance):
            return False
        if residual > NO_PROGRESS * before:
            tau[:, :] = plan
            out[DYNAMICS], out[VIOLATION] = dynamics, violation
            return True
        before = residual
    return False


@jit
def solve_one(data, tau, duals, penalty, options, out, work):
    """Augmented-Lagrangian iterations on one sample; tau and duals are updated in place.

    out (REPORTED,): the columns that ``solver/arrays.py`` names.
    """
    mu = min(penalty, options.penalty_max)
    out[STATUS], out[AL_ITERATIONS], out[NEWTON_STEPS] = NUMERICAL_FAILURE, 0.0, 0.0
    out[DYNAMICS], out[VIOLATION], out[COMPLEMENTARITY], out[DECREMENT] = np.inf, np.inf, np.inf, np.inf
    out[PENALTY], out[NEXT_PENALTY] = mu, mu
    if not _sound(data, tau, duals, penalty):
        _replace_nonfinite(tau)
        _replace_nonfinite(duals.eta)
        _replace_nonfinite(duals.lower)
        _replace_nonfinite(duals.upper)
        _replace_nonfinite(duals.sphere)
        return
    for i in range(NX):
        tau[0, i] = data.x_init[i]
    residual = np.inf
    for iteration in range(options.al_iterations):
        decrement, done, ok = newton(data, tau, duals, mu, options.newton_steps, options.newton_tolerance, work)
        out[NEWTON_STEPS] += done
        if not ok:
            return
        dynamics, violation, slack = update_multipliers(data, tau, duals, mu, work.model.vectors)
        out[DYNAMICS], out[VIOLATION], out[COMPLEMENTARITY] = dynamics, violation, slack
        out[DECREMENT], out[AL_ITERATIONS], out[PENALTY] = decrement, iteration + 1, mu
        mu = min(mu * options.penalty_growth, options.penalty_max)
        out[NEXT_PENALTY] = mu
        residual = max(dynamics, violation)
        if max(residual, slack) < options.tolerance and decrement < options.tolerance**2:
            out[STATUS] = CONVERGED
            return
    out[STATUS] = ITERATING
    minimised = out[DECREMENT] < options.tolerance**2 or not math.isfinite(out[DECREMENT])  # as far as can be known
    stuck = minimised and out[PENALTY] >= options.penalty_max and residual > INFEASIBLE_AT * options.tolerance
    if _bounds_cross(data) or (stuck and _is_infeasible(data, tau, options, out, work)):
        out[STATUS] = INFEASIBLE


@jit
def sample(data, b):
    """The b-th problem of a batch."""
    return Data(
        data.x_init[b],
        data.x_ref[b],
        data.u_ref[b],
        data.q[b],
        data.r[b],
        data.lower[b],
        data.upper[b],
        data.centres[b],
        data.radii[b],
        data.p[b],
        data.dt,
    )


@jit
def sample_duals(duals, b):
    """The b-th multipliers of a batch."""
    return Duals(duals.eta[b], duals.lower[b], duals.upper[b], duals.sphere[b])


@njit(cache=True, fastmath=FASTMATH, error_model="numpy", nogil=True)
def solve_range(data, tau, duals, penalty, options, out, first, last):
    """`solve_one` on the samples first..last-1 of a batch; samples do not see each other. Releases the GIL."""
    work = workspace(tau.shape[1])
    for b in range(first, last):
        solve_one(sample(data, b), tau[b], sample_duals(duals, b), penalty[b], options, out[b], work)
