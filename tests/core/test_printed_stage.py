"""The straight-line code of ``solver/unrolled.py`` against dense linear algebra and autograd, for any model.

The printed functions are plain Python under their decorator, so that a model that hypothesis makes needs no compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deq_mpc_core.models import MODELS, NOMINAL_PARAMS, Model
from deq_mpc_core.models.printing import print_numba
from deq_mpc_core.solver.batched.system import System, system
from deq_mpc_core.solver.unrolled import print_stage

Array = NDArray[np.float64]

UNTOUCHED = -7.0
"""In every entry that the code under test must not write."""


@cache
def printed(model: Model) -> Mapping[str, Callable[..., Any]]:
    """The functions of a model's slot, interpreted."""
    namespace: dict[str, Any] = {"math": math, "FASTMATH": set(), "njit": lambda **_: lambda function: function}
    exec(compile(print_numba(model), f"<{model.name}>", "exec"), namespace)
    exec(compile(print_stage(model), f"<stage of {model.name}>", "exec"), namespace)
    return namespace


@cache
def on_torch(model: Model) -> System:
    return system(model, torch.device("cpu"))


class Stage:
    """A model, its printed code, and random numbers of its dimensions."""

    def __init__(self, model: Model, params: Array, seed: int) -> None:
        self.model, self.code, self.p = model, printed(model), params
        self.rng = np.random.default_rng(seed)
        self.nx, self.nu, self.nz = model.nx, model.nu, model.nx + model.nu
        self.dt = float(self.rng.uniform(0.01, 0.2))
        self.x = self.rng.normal(size=self.nx) * 0.3
        self.u = self.rng.normal(size=self.nu)
        self.weight = 10.0 ** self.rng.uniform(-1.0, 4.0, self.nx)

    def step(self, z: torch.Tensor) -> torch.Tensor:
        return on_torch(self.model).step(z, torch.tensor(self.p), self.dt)

    def jacobian(self) -> Array:
        """dF/dz of the printed code; zero where it writes nothing."""
        jac = np.zeros((self.nx, self.nz))
        self.code["rk4_tangent"](self.x, self.u, self.p, self.dt, np.empty(self.nx), jac)
        return jac

    def symmetric(self, n: int, least: float) -> Array:
        """A random symmetric matrix whose smallest eigenvalue is `least`."""
        a = self.rng.normal(size=(n, n))
        a = a @ a.T
        return a + (least - np.linalg.eigvalsh(a)[0]) * np.eye(n)

    def envelope(self, cost_to_go: Array) -> Array:
        """M (P + M)^{-1} M."""
        m = np.diag(self.weight)
        return m @ np.linalg.solve(cost_to_go + m, m)


def lower_only(a: Array) -> Array:
    """The lower triangle; above it numbers that must not be read."""
    return np.where(np.tri(*a.shape, dtype=bool), a, np.nan)


@st.composite
def polynomial_models(draw: st.DrawFn) -> Model:
    """Sparse polynomials of states, inputs and a parameter, some of them under a sine; rows may be constant or zero."""
    nx, nu = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    x, u, p = sp.symbols(f"x0:{nx}", real=True), sp.symbols(f"u0:{nu}", real=True), sp.symbols("p0:1", real=True)
    symbols = st.sampled_from([*x, *u, *p])
    factor = st.tuples(symbols, st.integers(0, 2)).map(lambda term: term[0] ** term[1])
    wrapped = st.tuples(factor, st.booleans()).map(lambda term: sp.sin(term[0]) if term[1] else term[0])
    monomial = st.tuples(st.integers(-3, 3), st.lists(wrapped, max_size=3)).map(lambda t: sp.Mul(t[0], *t[1]))
    row = st.lists(monomial, max_size=3).map(lambda terms: sp.Add(*terms))
    scale = st.sampled_from([0.1, 1.0, 5.0])
    return Model(
        name="polynomials",
        x=x,
        u=u,
        p=p,
        xdot=tuple(draw(row) for _ in x),
        x_scale=tuple(draw(scale) for _ in x),
        u_scale=tuple(draw(scale) for _ in u),
    )


def check_jacobian(stage: Stage) -> None:
    z = torch.tensor(np.concatenate([stage.x, stage.u]))
    out, jac = np.empty(stage.nx), np.full((stage.nx, stage.nz), UNTOUCHED)
    stage.code["rk4_tangent"](stage.x, stage.u, stage.p, stage.dt, out, jac)
    expected = torch.autograd.functional.jacobian(stage.step, z).numpy()
    np.testing.assert_allclose(out, stage.step(z).numpy(), rtol=1e-12, atol=1e-12)
    written = jac != UNTOUCHED
    np.testing.assert_allclose(jac[written], expected[written], rtol=1e-10, atol=1e-12)
    assert (expected[~written] == 0.0).all()


def check_curvature(stage: Stage) -> None:
    """Hessian of w^T f."""
    w, z = stage.rng.normal(size=stage.nx), torch.tensor(np.concatenate([stage.x, stage.u]))
    f, p, hess = on_torch(stage.model).f, torch.tensor(stage.p), np.full((stage.nz, stage.nz), np.nan)
    expected = torch.autograd.functional.hessian(lambda z: f(z[: stage.nx], z[stage.nx :], p) @ torch.tensor(w), z)
    stage.code["f_hessian"](stage.x, stage.u, stage.p, w, hess)
    np.testing.assert_allclose(hess, expected.numpy(), rtol=1e-10, atol=1e-11)


def check_envelope(stage: Stage) -> None:
    cost_to_go = stage.symmetric(stage.nx, least=0.0)
    found = np.empty((stage.nx, stage.nx))
    assert stage.code["envelope"](lower_only(cost_to_go), stage.weight, found)
    expected = stage.envelope(cost_to_go)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_array_equal(found, found.T)
    indefinite = stage.symmetric(stage.nx, least=-2.0 * stage.weight.max())
    assert not stage.code["envelope"](indefinite, stage.weight, found)
    assert not stage.code["envelope"](np.full_like(found, np.nan), stage.weight, found)


def check_congruence(stage: Stage) -> None:
    jac, envelope = stage.jacobian(), stage.envelope(stage.symmetric(stage.nx, least=0.1))
    before = stage.symmetric(stage.nz, least=1.0)
    found = lower_only(before)
    stage.code["add_congruence"](lower_only(envelope), stage.weight, jac, found)
    expected = before + jac.T @ (np.diag(stage.weight) - envelope) @ jac
    lower = np.tri(stage.nz, dtype=bool)
    np.testing.assert_allclose(found[lower], expected[lower], rtol=1e-9, atol=1e-12 * np.abs(expected).max())
    assert np.isnan(found[~lower]).all()


def check_elimination(stage: Stage) -> None:
    nx, nu, h = stage.nx, stage.nu, stage.symmetric(stage.nz, least=0.5)
    factor, gain, cost_to_go = np.zeros((nu, nu)), np.empty((nu, nx)), np.full((nx, nx), UNTOUCHED)
    assert stage.code["eliminate"](lower_only(h), factor, gain, cost_to_go)
    chol = np.linalg.cholesky(h[nx:, nx:])
    np.testing.assert_allclose(np.tril(factor, -1), np.tril(chol, -1), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(np.diag(factor), 1.0 / np.diag(chol), rtol=1e-10)
    np.testing.assert_allclose(gain, np.linalg.solve(chol, h[nx:, :nx]), rtol=1e-9, atol=1e-11)
    expected = h[:nx, :nx] - h[:nx, nx:] @ np.linalg.solve(h[nx:, nx:], h[nx:, :nx])
    lower = np.tri(nx, dtype=bool)
    np.testing.assert_allclose(cost_to_go[lower], expected[lower], rtol=1e-8, atol=1e-10)
    assert (cost_to_go[~lower] == UNTOUCHED).all()
    h[nx:, nx:] -= 2.0 * np.linalg.eigvalsh(h[nx:, nx:])[-1] * np.eye(nu)
    assert not stage.code["eliminate"](h, factor, gain, cost_to_go)


def check_products(stage: Stage) -> None:
    jac, y, z = stage.jacobian(), stage.rng.normal(size=stage.nx), stage.rng.normal(size=stage.nz)
    before = stage.rng.normal(size=stage.nz)
    g, forward = before.copy(), np.empty(stage.nx)
    stage.code["add_pulled_back"](jac, y, g)
    stage.code["push_forward"](jac, z, forward)
    np.testing.assert_allclose(g, before + jac.T @ y, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(forward, jac @ z, rtol=1e-10, atol=1e-11)


CHECKS = [check_jacobian, check_curvature, check_envelope, check_congruence, check_elimination, check_products]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", MODELS)
def test_the_printed_code_of_a_shipped_model(name: str, check: Callable[[Stage], None]) -> None:
    for seed in range(3):
        check(Stage(MODELS[name](), NOMINAL_PARAMS[name](), seed))


@settings(max_examples=25, deadline=None)
@given(model=polynomial_models(), seed=st.integers(0, 2**31))
def test_the_printed_code_of_any_model(model: Model, seed: int) -> None:
    stage = Stage(model, np.array([0.7]), seed)
    assume(np.isfinite(stage.jacobian()).all() and np.abs(stage.jacobian()).max() < 1e6)
    for check in CHECKS:
        check(stage)


def test_a_function_of_a_constant_is_printed_for_torch() -> None:
    x, u = sp.symbols("x u", real=True)
    stage = Stage(Model("tilted", (x,), (u,), (), (u + sp.sin(1) * x + sp.exp(-2),), (1.0,), (1.0,)), np.zeros(0), 0)
    check_jacobian(stage)
