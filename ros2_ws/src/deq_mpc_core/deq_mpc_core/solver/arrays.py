"""Arrays that the kernels pass around; named tuples, because numba takes them as they are."""

from __future__ import annotations

from typing import Any, NamedTuple

STATUS, DYNAMICS, VIOLATION, COMPLEMENTARITY, DECREMENT, AL_ITERATIONS, NEWTON_STEPS, PENALTY, NEXT_PENALTY = range(9)
"""Columns of what a kernel reports of a solve; see `Solution`."""
REPORTED = 9


class Data(NamedTuple):
    """A problem; a leading batch dimension B on each array but dt, T knots, K spheres, nz = nx + nu.

    Attributes:
        x_init: (B, nx) state at knot 0, fixed.
        x_ref, u_ref: (B, T, nx), (B, T, nu) references.
        q, r: (B, T, nx), (B, T, nu) diagonal weights of 1/2 |x - x_ref|^2_q + 1/2 |u - u_ref|^2_r; r > 0, q >= 0.
        lower, upper: (B, T, nz) bounds on (x, u), +-inf for none; those on x_0 are ignored.
        centres, radii: (B, T, K, 3) and (B, K) [m] spheres with a centre of their own at every knot; a radius <= 0
            switches one off.
        p: (B, np) model parameters.
        dt: knot spacing [s].
    """

    x_init: Any
    x_ref: Any
    u_ref: Any
    q: Any
    r: Any
    lower: Any
    upper: Any
    centres: Any
    radii: Any
    p: Any
    dt: Any


class Duals(NamedTuple):
    """Multipliers: eta (B, T-1, nx) of the dynamics; lower, upper (B, T, nz) of the bounds; sphere (B, T, K)."""

    eta: Any
    lower: Any
    upper: Any
    sphere: Any


class Gradients(NamedTuple):
    """Gradients of a loss with respect to the fields of `Data` of the same names."""

    x_init: Any
    x_ref: Any
    u_ref: Any
    q: Any
    r: Any
    lower: Any
    upper: Any
    centres: Any
    radii: Any


class Linearisation(NamedTuple):
    """Gauss-Newton model of L: hess (T, nz, nz) and grad (T, nz) without the dynamics terms, jac = dF/dz (T, nx, nz),
    shift (T, nx); vectors (6, nx) is scratch. Of hess the lower triangle counts, of jac the model's non-zeros."""

    hess: Any
    grad: Any
    jac: Any
    shift: Any
    vectors: Any


class Riccati(NamedTuple):
    """Factors of the stage-wise elimination, see ``kernels/riccati.py``: weight (nx,), envelope (T, nx, nx),
    u_chol (T, nu, nu), gain (T, nu, nx), linear (T, nx), forward (T, nu); cost_to_go (nx, nx) is scratch."""

    weight: Any
    envelope: Any
    u_chol: Any
    gain: Any
    linear: Any
    forward: Any
    cost_to_go: Any


class Workspace(NamedTuple):
    """All that one sample's solve or adjoint writes besides its results; step and trial are (T, nz)."""

    model: Linearisation
    riccati: Riccati
    step: Any
    trial: Any


class Options(NamedTuple):
    """Scalars that steer one solve; see ``SolverOptions``."""

    al_iterations: Any
    newton_steps: Any
    penalty_growth: Any
    penalty_max: Any
    tolerance: Any
    newton_tolerance: Any
