"""Stage-wise minimisation of the Gauss-Newton model of L; the recursion is derived in ``kernels/riccati.py``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import cholesky_ex, solve_triangular

from deq_mpc_core.solver.batched.system import System


class Factors(NamedTuple):
    """Of one stage: L_u (B, nu, nu) of H_uu, gain L_u^{-1} H_ux (B, nu, nx) and, with a stage after it, L (B, nx, nx)
    of P + M and the envelope P~ (B, nx, nx)."""

    u_chol: Tensor
    gain: Tensor
    chol: Tensor | None = None
    envelope: Tensor | None = None


def _t(a: Tensor) -> Tensor:
    return a.transpose(-1, -2)


def _times(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b[..., None])[..., 0]


def _solve(chol: Tensor, b: Tensor) -> Tensor:
    return torch.cholesky_solve(b[..., None], chol)[..., 0]


def _forward(chol: Tensor, b: Tensor) -> Tensor:
    return solve_triangular(chol, b[..., None], upper=False)[..., 0]


def factor(system: System, hess: Tensor, jac: Tensor, mu: Tensor) -> tuple[list[Factors], Tensor]:
    """Eliminate the stages of hess (B, T, nz, nz) from the end. Returns the factors of each stage and (B,) success."""
    nx, horizon = system.nx, hess.shape[1]
    penalty = torch.diag_embed(mu[:, None] / system.x_scale**2)
    stages: list[Factors] = []
    ok = torch.ones_like(mu, dtype=torch.bool)
    cost_to_go = torch.zeros_like(penalty)
    for t in reversed(range(horizon)):
        h, chol, envelope = hess[:, t], None, None
        if t + 1 < horizon:
            chol, info = cholesky_ex(cost_to_go + penalty)
            ok = ok & (info == 0)
            y = solve_triangular(chol, cost_to_go, upper=False)
            envelope = cost_to_go - _t(y) @ y
            h = h + _t(jac[:, t]) @ envelope @ jac[:, t]
        u_chol, info = cholesky_ex(h[:, nx:, nx:])
        ok = ok & (info == 0)
        gain = solve_triangular(u_chol, h[:, nx:, :nx], upper=False)
        cost_to_go = h[:, :nx, :nx] - _t(gain) @ gain
        stages.append(Factors(u_chol, gain, chol, envelope))
    return stages[::-1], ok


def substitute(system: System, stages: list[Factors], grad: Tensor, shift: Tensor, jac: Tensor, mu: Tensor) -> Tensor:
    """Minimise the model with the factors of `factor`: the step (B, T, nz), zero in x_0."""
    nx = system.nx
    penalty = mu[:, None] / system.x_scale**2
    linear = torch.zeros_like(grad[:, 0, :nx])
    linears, forwards = [], []
    for t in reversed(range(grad.shape[1])):
        g, stage = grad[:, t], stages[t]
        if stage.chol is not None and stage.envelope is not None:
            change = _times(stage.envelope, shift[:, t]) + penalty * _solve(stage.chol, linear)
            g = g + _times(_t(jac[:, t]), change)
        forward = _forward(stage.u_chol, g[:, nx:])
        linear = g[:, :nx] - _times(_t(stage.gain), forward)
        linears.append(linear)
        forwards.append(forward)
    linears, forwards = linears[::-1], forwards[::-1]
    x = torch.zeros_like(linear)
    steps = []
    for t, stage in enumerate(stages):
        rhs = -(forwards[t] + _times(stage.gain, x))
        u = solve_triangular(_t(stage.u_chol), rhs[..., None], upper=True)[..., 0]
        z = torch.cat([x, u], dim=-1)
        steps.append(z)
        if stage.chol is not None:
            x = _solve(stage.chol, penalty * (shift[:, t] + _times(jac[:, t], z)) - linears[t + 1])
    return torch.stack(steps, dim=1)
