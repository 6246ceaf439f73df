"""Fixed points z* = d(z*) by Anderson acceleration, and ways to take gradients through them.

    x_{k+1} = beta sum_i a_i f(x_i) + (1 - beta) sum_i a_i x_i,
    a = argmin |sum_i a_i g_i|^2 + lambda |a|^2  s.t.  sum_i a_i = 1,    g_i = f(x_i) - x_i,

over the last ``memory`` iterates (Walker and Ni 2011, "Anderson acceleration for fixed-point iterations", eq. 2.2).

torchdeq 0.1.0 is not used: its solver goes on with every sample until the worst of the batch has converged, so a
sample's answer depends on its batch mates, and it always begins with three evaluations, which wastes a warm start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from deq_mpc_core.networks.config import FixedPointConfig

Map = Callable[[Tensor], Tensor]


class FixedPoint(NamedTuple):
    """Result of a fixed-point solve, batched.

    Attributes:
        z: the image f(x) with the smallest residual, shaped as the start.
        residual: (B,) |f(x) - x| / |f(x)| at that x.
        steps: (B,) evaluations of f that the sample used.
        argument: that x, shaped as z.
    """

    z: Tensor
    residual: Tensor
    steps: Tensor
    argument: Tensor


def _mixing_weights(gram: Tensor, regularisation: float) -> Tensor:
    """a (B, n) for the scalar products g_i^T g_j (B, n, n)."""
    smallest = gram.diagonal(dim1=1, dim2=2).amin(dim=1)
    ridge = regularisation * smallest + torch.finfo(torch.float32).tiny
    factor = torch.linalg.cholesky_ex(gram + torch.diag_embed(ridge[:, None].expand(gram.shape[:2]))).L
    ones = torch.ones(*gram.shape[:2], 1, dtype=gram.dtype, device=gram.device)
    weights = torch.cholesky_solve(ones, factor)[..., 0]
    return weights / weights.sum(dim=1, keepdim=True)


@torch.no_grad()
def solve_anderson(f: Map, start: Tensor, config: FixedPointConfig) -> FixedPoint:
    """Solve z = f(z) for each sample of the batch on its own.

    Args:
        f: maps (B, ...) to the same shape, samples independently.
        start: (B, ...) first iterate.
        config: memory, mixing, max_steps and the relative tolerance at which a sample stops.
    """
    batch = start.shape[0]
    iterates = start.new_empty(batch, config.memory, start[0].numel())
    residuals = torch.empty_like(iterates)
    gram = torch.empty(batch, config.memory, config.memory, dtype=torch.float64, device=start.device)
    x = start.flatten(1)
    best = argument = x
    best_residual = x.new_full((batch,), torch.inf)
    steps = torch.zeros(batch, dtype=torch.int64, device=start.device)
    active = torch.ones(batch, dtype=torch.bool, device=start.device)
    for k in range(config.max_steps):
        image = f(x.view_as(start)).flatten(1)
        step = image - x
        residual = step.norm(dim=1) / image.norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny)
        better = active & ~(residual >= best_residual)  # also where it is NaN, which is not to be hidden
        best = torch.where(better[:, None], image, best)
        argument = torch.where(better[:, None], x, argument)
        best_residual = torch.where(better, residual, best_residual)
        steps += active
        active = active & (residual >= config.tolerance)
        if k + 1 == config.max_steps or not active.any():
            break
        slot, stored = k % config.memory, min(k + 1, config.memory)
        iterates[:, slot], residuals[:, slot] = x, step
        products = (residuals[:, :stored] @ step[..., None])[..., 0].double()
        gram[:, slot, :stored] = products
        gram[:, :stored, slot] = products
        weights = _mixing_weights(gram[:, :stored, :stored], config.regularisation).to(x.dtype)[:, None]
        x = (weights @ iterates[:, :stored] + config.mixing * (weights @ residuals[:, :stored]))[:, 0]
    return FixedPoint(best.view_as(start), best_residual, steps, argument.view_as(start))


def attach_phantom_gradient(f: Map, z_star: Tensor, steps: int) -> Tensor:
    """Apply f ``steps`` times to the detached fixed point: backprop sees the first terms of the Neumann series.

    Geng et al. 2021, "On training implicit models", eq. 9, without damping.
    """
    z = z_star.detach()
    for _ in range(steps):
        z = f(z)
    return z


def attach_implicit_gradient(f: Map, z_star: Tensor, config: FixedPointConfig) -> Tensor:
    """Give the fixed point its exact gradient: dL/dtheta = v^T df/dtheta with v = (df/dz)^T v + dL/dz*.

    Bai et al. 2019, "Deep equilibrium models", theorem 1; v is found by the same Anderson iteration.

    Raises:
        RuntimeError: during backward, if v has not converged within ``config.max_steps``.
    """
    z = f(z_star.detach())
    if not z.requires_grad:
        return z
    at = z_star.detach().requires_grad_()
    with torch.enable_grad():
        image = f(at)

    def solve_adjoint(gradient: Tensor) -> Tensor:
        def adjoint_map(v: Tensor) -> Tensor:
            return torch.autograd.grad(image, at, v, retain_graph=True)[0] + gradient

        solution = solve_anderson(adjoint_map, torch.zeros_like(gradient), config)
        if bool((solution.residual >= config.tolerance).any()):
            worst = float(solution.residual.max())
            raise RuntimeError(
                f"implicit gradient: the adjoint's residual is {worst:.1e} after {config.max_steps} steps"
            )
        return solution.z

    z.register_hook(solve_adjoint)
    return z
