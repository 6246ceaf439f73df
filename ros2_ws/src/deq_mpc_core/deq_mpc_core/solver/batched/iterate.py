"""The iteration: Newton steps with line search inside augmented-Lagrangian iterations, each sample at its own pace."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from deq_mpc_core.solver.arrays import Data, Duals
from deq_mpc_core.solver.batched.lagrangian import (
    QuadraticModel,
    Residuals,
    lagrangian,
    linearise,
    update_multipliers,
)
from deq_mpc_core.solver.batched.riccati import factor, substitute
from deq_mpc_core.solver.batched.system import System
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
from deq_mpc_core.solver.solution import SolverOptions, Status


class Iterate(NamedTuple):
    """Where a solve stands: tau (B, T, nz), multipliers, penalty (B,)."""

    tau: Tensor
    duals: Duals
    penalty: Tensor


class Outcome(NamedTuple):
    """The tensors of a `Solution`."""

    state: Iterate
    status: Tensor
    dynamics: Tensor
    violation: Tensor
    complementarity: Tensor
    decrement: Tensor
    al_iterations: Tensor
    newton_steps: Tensor
    penalty: Tensor


class Minimisation(NamedTuple):
    """Result of `newton`: tau, the last decrement, the steps done and whether all factorisations succeeded, (B,)."""

    tau: Tensor
    decrement: Tensor
    steps: Tensor
    ok: Tensor


def _where(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a for the samples in the mask (B,), b for the others."""
    return torch.where(mask.reshape(-1, *(1,) * (a.ndim - 1)), a, b)


def _slope(system: System, model: QuadraticModel, mu: Tensor, step: Tensor) -> Tensor:
    """Directional derivative (B,) of L along step."""
    change = step[:, 1:, : system.nx] - (model.jac @ step[:, :-1, :, None])[..., 0]
    pull = mu[:, None, None] / system.x_scale**2 * model.shift  # -(eta + mu k) / s
    return (model.grad * step).sum((1, 2)) - (pull * change).sum((1, 2))


def _search(
    system: System, data: Data, start: Iterate, value: Tensor, step: Tensor, slope: Tensor, searching: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Backtracking for the samples in the mask: plan, L there and length, 0 where every length was refused."""
    tau, duals, mu = start
    found, length = torch.zeros_like(mu), 1.0
    for _ in range(LENGTHS_TRIED):
        if not searching.any():
            break
        trial = start.tau + length * step
        new = lagrangian(system, data, trial, duals, mu)
        accepted = searching & (new <= value + ARMIJO * length * slope)
        tau = _where(accepted, trial, tau)
        found = torch.where(accepted, length, found)
        searching = searching & ~accepted
        value = torch.where(accepted, new, value)
        length *= 0.5
    return tau, value, found


def newton(system: System, data: Data, start: Iterate, options: SolverOptions, active: Tensor) -> Minimisation:
    """At most `options.newton_steps` Gauss-Newton steps on L for the samples in the mask, see ``kernels/solve.py``."""
    tau, duals, mu = start
    value = lagrangian(system, data, tau, duals, mu)
    decrement, damping = torch.full_like(mu, torch.inf), torch.zeros_like(mu)
    steps = torch.zeros_like(mu, dtype=torch.int64)
    ok, running = torch.ones_like(active), active
    for _ in range(options.newton_steps):
        model = linearise(system, data, tau, duals, mu)
        hess = model.hess + torch.diag_embed(damping[:, None, None] / system.scale**2)
        factors, factored = factor(system, hess, model.jac, mu)
        step = substitute(system, factors, model.grad, model.shift, model.jac, mu)
        slope = _slope(system, model, mu, step)
        sound = factored & torch.isfinite(slope)
        ok = ok & (sound | ~running)
        running = running & sound
        decrement = torch.where(running, torch.where(damping > 0.0, torch.inf, -slope), decrement)
        steps = steps + running
        running = running & (decrement > options.newton_tolerance * options.newton_tolerance)
        tau, value, length = _search(system, data, Iterate(tau, duals, mu), value, step, slope, running)
        rounded = (length == 0.0) & (decrement <= ROUNDING * value.abs().clamp(min=1.0))
        running = running & ~rounded
        less = torch.where(damping > LEAST_DAMPING, LESS_DAMPING * damping, 0.0)
        more = (MORE_DAMPING * damping).clamp(min=LEAST_DAMPING)
        damping = torch.where(length == 1.0, less, torch.where(length < SHORT, more, damping))
        if not running.any():
            break
    return Minimisation(tau, decrement, steps, ok)


def _sound(data: Data, start: Iterate) -> Tensor:
    """Mask (B,) of the samples whose numbers can be computed with; a bound may be infinite on its own side."""
    arrays = [a for name, a in data._asdict().items() if name not in ("lower", "upper", "dt")]
    arrays += [start.tau, *start.duals]
    sound = (start.penalty > 0.0) & math.isfinite(data.dt)
    sound = sound & torch.stack([torch.isfinite(a).flatten(1).all(1) for a in arrays]).all(0)
    return sound & (data.lower < torch.inf).flatten(1).all(1) & (data.upper > -torch.inf).flatten(1).all(1)


def _bounds_cross(system: System, data: Data) -> Tensor:
    """Mask (B,): a lower bound lies above its upper one; bounds on x_0 do not count."""
    crossed = data.lower > data.upper
    return crossed[:, 0, system.nx :].any(1) | crossed[:, 1:].flatten(1).any(1)


def iterate(system: System, data: Data, start: Iterate, options: SolverOptions) -> Outcome:
    """Augmented-Lagrangian iterations on a batch; every operation is differentiable, decisions are constants."""
    active = _sound(data, start)
    tau = torch.cat([torch.cat([data.x_init, start.tau[:, 0, system.nx :]], -1)[:, None], start.tau[:, 1:]], 1)
    tau = _where(active, tau, start.tau.nan_to_num(0.0, 0.0, 0.0))
    duals = Duals._make(a.nan_to_num(0.0, 0.0, 0.0) for a in start.duals)
    mu = start.penalty.clamp(max=options.penalty_max)
    status = torch.full_like(mu, Status.NUMERICAL_FAILURE, dtype=torch.int64)
    decrement = torch.full_like(mu, torch.inf)
    residuals = Residuals(decrement, decrement, decrement)
    al_iterations, newton_steps = torch.zeros_like(status), torch.zeros_like(status)
    last_mu = mu
    for _ in range(options.al_iterations):
        if not active.any():
            break
        result = newton(system, data, Iterate(tau, duals, mu), options, active)
        tau = result.tau
        newton_steps = newton_steps + result.steps
        active = active & result.ok
        updated, new = update_multipliers(system, data, tau, duals, mu)
        duals = Duals._make(_where(active, a, b) for a, b in zip(updated, duals, strict=True))
        residuals = Residuals._make(torch.where(active, a, b) for a, b in zip(new, residuals, strict=True))
        decrement = torch.where(active, result.decrement, decrement)
        al_iterations = al_iterations + active
        last_mu = torch.where(active, mu, last_mu)
        mu = torch.where(active, (mu * options.penalty_growth).clamp(max=options.penalty_max), mu)
        small = (torch.stack(residuals).amax(0) < options.tolerance) & (
            decrement < options.tolerance * options.tolerance
        )
        status = torch.where(active & small, Status.CONVERGED, status)
        active = active & ~small
    status = torch.where(active, Status.ITERATING, status)
    minimised = (decrement < options.tolerance * options.tolerance) | decrement.isinf()
    residual = torch.maximum(residuals.dynamics, residuals.violation)
    stuck = minimised & (last_mu >= options.penalty_max) & (residual > INFEASIBLE_AT * options.tolerance)
    crossed, start = _bounds_cross(system, data), Iterate(tau, duals, mu)
    tau, residuals, infeasible = _restore(system, data, start, residuals, options, active & stuck & ~crossed)
    status = torch.where(infeasible | (active & crossed), Status.INFEASIBLE, status)
    return Outcome(Iterate(tau, duals, mu), status, *residuals, decrement, al_iterations, newton_steps, last_mu)


def _restore(
    system: System, data: Data, start: Iterate, residuals: Residuals, options: SolverOptions, stuck: Tensor
) -> tuple[Tensor, Residuals, Tensor]:
    """Plans of least violation for those in the mask that are infeasible, and who they are; ``kernels/solve.py``."""
    plan, searching = start.tau, stuck
    infeasible, before = torch.zeros_like(stuck), torch.full_like(residuals.dynamics, torch.inf)
    found = residuals
    for _ in range(RESTORING_ROUNDS):
        if not searching.any():
            break
        plan, new, reached = _lessen_violation(system, data, start._replace(tau=plan), options, searching)
        residual = torch.maximum(new.dynamics, new.violation)
        searching = searching & reached & (residual > INFEASIBLE_AT * options.tolerance)
        done = searching & (residual > NO_PROGRESS * before)
        found = Residuals._make(torch.where(done, a, b) for a, b in zip(new, found, strict=True))
        infeasible, searching, before = infeasible | done, searching & ~done, residual
    found = found._replace(complementarity=residuals.complementarity)
    return _where(infeasible, plan, start.tau), found, infeasible


def _lessen_violation(
    system: System, data: Data, start: Iterate, options: SolverOptions, active: Tensor
) -> tuple[Tensor, Residuals, Tensor]:
    """One round for the samples in the mask: plan, residuals, and where the minimum was reached."""
    x, u = start.tau.detach().split([system.nx, system.nu], dim=-1)
    q, r = (STAY / system.scale**2).expand_as(start.tau).split([system.nx, system.nu], dim=-1)
    near = data._replace(x_ref=x, u_ref=u, q=q, r=r)
    none, mu = Duals._make(torch.zeros_like(a) for a in start.duals), torch.ones_like(start.penalty)
    alone = options.model_copy(update={"newton_steps": RESTORING_STEPS, "newton_tolerance": options.tolerance})
    result = newton(system, near, Iterate(start.tau, none, mu), alone, active)
    _, residuals = update_multipliers(system, near, result.tau, none, mu)
    return result.tau, residuals, result.ok & (result.decrement <= options.tolerance * options.tolerance)
