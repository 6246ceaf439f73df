"""A model over one knot, on torch tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deq_mpc_core.models.model import Model
from deq_mpc_core.models.printing import print_torch


@dataclass(frozen=True)
class System:
    """A model's dimensions, its scale (nz,) and its x_dot = f(x, u, p) on tensors."""

    nx: int
    nu: int
    position: tuple[int, ...]
    scale: Tensor
    f: Callable[[Tensor, Tensor, Tensor], Tensor]

    @property
    def x_scale(self) -> Tensor:
        """Natural magnitude (nx,) of the states."""
        return self.scale[: self.nx]

    def step(self, z: Tensor, p: Tensor, dt: float) -> Tensor:
        """F(z): one Runge-Kutta 4 step from z (..., nz) to the next state (..., nx)."""
        x, u = z[..., : self.nx], z[..., self.nx :]
        k1 = self.f(x, u, p)
        k2 = self.f(x + 0.5 * dt * k1, u, p)
        k3 = self.f(x + 0.5 * dt * k2, u, p)
        k4 = self.f(x + dt * k3, u, p)
        return x + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)

    def step_and_jacobian(self, z: Tensor, p: Tensor, dt: float) -> tuple[Tensor, Tensor]:
        """F(z) (B, T, nx) and dF/dz (B, T, nx, nz) at z (B, T, nz), p (B, np): one backward pass over a copy a row."""
        unrolled = torch.is_grad_enabled()
        with torch.enable_grad():
            copies = z[..., None, :].expand(*z.shape[:-1], self.nx, z.shape[-1])
            copies = copies if copies.requires_grad else copies.detach().requires_grad_()
            value = self.step(copies, p[:, None, None], dt).diagonal(dim1=-2, dim2=-1)
            (jac,) = torch.autograd.grad(value.sum(), copies, create_graph=unrolled)
        return value if unrolled else value.detach(), jac


def system(model: Model, device: torch.device) -> System:
    """Print a model for torch."""
    namespace: dict[str, Any] = {}
    exec(compile(print_torch(model), f"<{model.name} printed for torch>", "exec"), namespace)
    scale = torch.tensor((*model.x_scale, *model.u_scale), dtype=torch.float64, device=device)
    return System(model.nx, model.nu, model.position, scale, namespace["f"])
