"""The gradient rule of ``kernels/adjoint.py``, with the derivatives of L taken by autograd.

H v = tau_bar,   data_bar = -(d grad L / d data)^T v
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import grad

from deq_mpc_core.solver.arrays import Data, Duals, Gradients
from deq_mpc_core.solver.batched.lagrangian import (
    Inequalities,
    cost,
    dynamics_residual,
    hinges,
    inequalities,
    inequality_multipliers,
    lagrangian,
    linearise,
)
from deq_mpc_core.solver.batched.riccati import factor, substitute
from deq_mpc_core.solver.batched.system import System
from deq_mpc_core.solver.solution import AdjointKind


def multipliers_before(system: System, data: Data, tau: Tensor, duals: Duals, mu: Tensor) -> Duals:
    """Multipliers that the last update turned into `duals` at tau; -inf for what was inactive, which keeps it so."""
    mu = mu[:, None, None]
    h = inequalities(system, data, tau)
    pairs = zip(inequality_multipliers(duals), h, strict=True)
    before = Inequalities._make(torch.where(after > 0.0, after - mu * a, -torch.inf) for after, a in pairs)
    return Duals(duals.eta - mu * dynamics_residual(system, data, tau), **before._asdict())


def stage_hessians(system: System, data: Data, tau: Tensor, eta: Tensor, before: Duals, mu: Tensor) -> Tensor:
    """Exact Hessian of L without the dynamics' Gauss-Newton part (B, T, nz, nz), a column of all stages at a time.

    eta (B, T-1, nx): the forces of the dynamics, multipliers after the update.
    """
    with torch.enable_grad():
        tau = tau.detach().requires_grad_()
        following = system.step(tau[:, :-1], data.p[:, None], data.dt)
        curved = cost(system, data, tau) + hinges(system, data, tau, before, mu)
        total = curved.sum() - (eta / system.x_scale * following).sum()
        (gradient,) = grad(total, tau, create_graph=True)
        columns = [grad(gradient[..., i].sum(), tau, retain_graph=True)[0] for i in range(tau.shape[-1])]
    return torch.stack(columns, dim=-1)


def data_gradients(system: System, data: Data, tau: Tensor, before: Duals, mu: Tensor, v: Tensor) -> Gradients:
    """-(d grad L / d data)^T v, zero for x_init."""
    fields = Gradients._fields
    with torch.enable_grad():
        leaves = {name: getattr(data, name).detach().requires_grad_() for name in fields}
        tau = tau.detach().requires_grad_()
        total = lagrangian(system, data._replace(**leaves), tau, before, mu).sum()
        (gradient,) = grad(total, tau, create_graph=True)
        found = grad(-(gradient * v).sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
    return Gradients._make(found)


def adjoint(
    system: System, data: Data, tau: Tensor, duals: Duals, mu: Tensor, g: Tensor, *, exact: bool
) -> tuple[Gradients, Tensor]:
    """Gradients of a loss with gradient g (B, T, nz) at the plan, and (B,) values of `AdjointKind`."""
    nx = system.nx
    before = multipliers_before(system, data, tau, duals, mu)
    gauss_newton = linearise(system, data, tau, before, mu)
    jac, v = gauss_newton.jac, torch.zeros_like(tau)
    hess = torch.zeros_like(gauss_newton.hess)
    kinds = torch.full_like(mu, AdjointKind.FAILED, dtype=torch.int64)
    for kind in (AdjointKind.EXACT, AdjointKind.GAUSS_NEWTON) if exact else (AdjointKind.GAUSS_NEWTON,):
        curved = kind == AdjointKind.EXACT
        trial = stage_hessians(system, data, tau, duals.eta, before, mu) if curved else gauss_newton.hess
        factors, ok = factor(system, trial, jac, mu)
        solved = substitute(system, factors, -g, torch.zeros_like(gauss_newton.shift), jac, mu)
        found = (kinds == AdjointKind.FAILED) & ok & torch.isfinite(solved).flatten(1).all(1)
        v = torch.where(found[:, None, None], solved, v)
        hess = torch.where(found[:, None, None, None], trial, hess)
        kinds = torch.where(found, kind, kinds)
    x_init = g[:, 0, :nx] - (hess[:, 0, :nx] @ v[:, 0, :, None])[..., 0]
    if tau.shape[1] > 1:
        change = v[:, 1, :nx] - (jac[:, 0] @ v[:, 0, :, None])[..., 0]
        pull = mu[:, None] / system.x_scale**2 * change
        x_init = x_init + (jac[:, 0, :, :nx].transpose(1, 2) @ pull[..., None])[..., 0]
    return data_gradients(system, data, tau, before, mu, v)._replace(x_init=x_init), kinds
