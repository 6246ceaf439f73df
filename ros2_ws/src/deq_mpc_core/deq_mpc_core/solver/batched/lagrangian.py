"""The augmented Lagrangian L: its value, its Gauss-Newton model, its multiplier update."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from deq_mpc_core.solver.arrays import Data, Duals
from deq_mpc_core.solver.batched.system import System

_CENTRE_EPS = 1e-12
"""[m^2] Keeps the normal finite when a knot sits on a centre."""


class Inequalities(NamedTuple):
    """Something for every inequality: lower, upper (B, T, nz) of the bounds, sphere (B, T, K)."""

    lower: Tensor
    upper: Tensor
    sphere: Tensor


def inequality_multipliers(duals: Duals) -> Inequalities:
    """The multipliers of the inequalities among all."""
    return Inequalities(duals.lower, duals.upper, duals.sphere)


class QuadraticModel(NamedTuple):
    """Gauss-Newton model of L: hess (B, T, nz, nz) and grad (B, T, nz) without the dynamics terms; jac = dF/dz
    (B, T-1, nx, nz); shift (B, T-1, nx), the change of x_{t+1} that the dynamics terms of L ask for."""

    hess: Tensor
    grad: Tensor
    jac: Tensor
    shift: Tensor


def to_centres(system: System, data: Data, tau: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (B, T, K, 3) from the centres to the knots' positions, and their lengths (B, T, K)."""
    position = tau[..., list(system.position)] if system.position else tau.new_zeros(*tau.shape[:2], 3)
    d = position[:, :, None] - data.centres
    return d, torch.sqrt((d * d).sum(-1) + _CENTRE_EPS)


def inequalities(system: System, data: Data, tau: Tensor) -> Inequalities:
    """h in scaled units; -inf where there is no constraint: on x_0, which is given, and for spheres switched off."""
    given = torch.zeros(tau.shape[1:], dtype=torch.bool, device=tau.device)
    given[0, : system.nx] = True
    none = tau.new_full((), -torch.inf)
    _, distance = to_centres(system, data, tau)
    on = (data.radii > 0.0)[:, None] & (torch.arange(tau.shape[1], device=tau.device) > 0)[:, None]
    return Inequalities(
        torch.where(given, none, (data.lower - tau) / system.scale),
        torch.where(given, none, (tau - data.upper) / system.scale),
        torch.where(on, data.radii[:, None] - distance, none),
    )


def forces(h: Inequalities, duals: Duals, mu: Tensor) -> Inequalities:
    """max(0, lambda + mu h)."""
    pairs = zip(inequality_multipliers(duals), h, strict=True)
    return Inequalities._make((m + mu[:, None, None] * a).clamp(min=0.0) for m, a in pairs)


def dynamics_residual(system: System, data: Data, tau: Tensor) -> Tensor:
    """k (B, T-1, nx) in scaled units."""
    following = system.step(tau[:, :-1], data.p[:, None], data.dt)
    return (tau[:, 1:, : system.nx] - following) / system.x_scale


def cost(system: System, data: Data, tau: Tensor) -> Tensor:
    """1/2 sum |x - x_ref|^2_q + |u - u_ref|^2_r, (B,)."""
    x, u = tau[..., : system.nx], tau[..., system.nx :]
    tracking = (data.q * (x - data.x_ref) ** 2).sum((1, 2)) + (data.r * (u - data.u_ref) ** 2).sum((1, 2))
    return 0.5 * tracking


def hinges(system: System, data: Data, tau: Tensor, duals: Duals, mu: Tensor) -> Tensor:
    """The inequalities' part (B,) of L: 1 / (2 mu) sum max(0, lambda + mu h)^2 - lambda^2."""
    pairs = zip(forces(inequalities(system, data, tau), duals, mu), inequality_multipliers(duals), strict=True)
    return sum(((f * f - m * m).sum((1, 2)) for f, m in pairs), torch.zeros_like(mu)) / (2.0 * mu)


def lagrangian(system: System, data: Data, tau: Tensor, duals: Duals, mu: Tensor) -> Tensor:
    """Value (B,) of L."""
    k = dynamics_residual(system, data, tau)
    dynamics = (duals.eta * k + 0.5 * mu[:, None, None] * k * k).sum((1, 2))
    return cost(system, data, tau) + dynamics + hinges(system, data, tau, duals, mu)


def linearise(system: System, data: Data, tau: Tensor, duals: Duals, mu: Tensor) -> QuadraticModel:
    """Gauss-Newton model of L at tau."""
    force = forces(inequalities(system, data, tau), duals, mu)
    stiffness = mu[:, None, None] / system.scale**2
    weight = torch.cat([data.q, data.r], dim=-1)
    active = (force.upper > 0.0).to(tau) + (force.lower > 0.0).to(tau)
    hess = torch.diag_embed(weight + active * stiffness)
    grad = weight * (tau - torch.cat([data.x_ref, data.u_ref], dim=-1)) + (force.upper - force.lower) / system.scale
    if system.position:
        d, distance = to_centres(system, data, tau)
        normal = d / distance[..., None]
        place = torch.eye(tau.shape[-1], dtype=tau.dtype, device=tau.device)[list(system.position)]
        touching = (force.sphere > 0.0).to(tau) * mu[:, None, None]
        curvature = torch.einsum("btk,btki,btkj->btij", touching, normal, normal)
        hess = hess + place.T @ curvature @ place
        grad = grad - torch.einsum("btk,btki->bti", force.sphere, normal) @ place
    following, jac = system.step_and_jacobian(tau[:, :-1], data.p, data.dt)
    shift = following - tau[:, 1:, : system.nx] - system.x_scale * duals.eta / mu[:, None, None]
    return QuadraticModel(hess, grad, jac, shift)


class Residuals(NamedTuple):
    """max |k|, max h^+ and max min(lambda / mu, -h), (B,), in scaled units."""

    dynamics: Tensor
    violation: Tensor
    complementarity: Tensor


def update_multipliers(system: System, data: Data, tau: Tensor, duals: Duals, mu: Tensor) -> tuple[Duals, Residuals]:
    """lambda <- max(0, lambda + mu h), eta <- eta + mu k, and the residuals before that."""
    h = inequalities(system, data, tau)
    k = dynamics_residual(system, data, tau)
    zero = tau.new_zeros(tau.shape[0], 1)
    dynamics = torch.cat([zero, k.abs().flatten(1)], dim=1).amax(1)
    violation = torch.cat([zero, *(a.flatten(1) for a in h)], dim=1).amax(1)
    pairs = zip(inequality_multipliers(duals), h, strict=True)
    slacks = (torch.where(a > -torch.inf, torch.minimum(m / mu[:, None, None], -a), 0.0).flatten(1) for m, a in pairs)
    slack = torch.cat([zero, *slacks], dim=1).amax(1)
    updated = Duals(duals.eta + mu[:, None, None] * k, **forces(h, duals, mu)._asdict())
    return updated, Residuals(dynamics, violation, slack)
