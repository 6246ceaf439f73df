"""The printed dynamics, numba's and torch's, against each other and against autograd."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sympy as sp
import torch
from numpy.typing import NDArray
from solver_problems import DT

from deq_mpc_core.models import MODELS, Model
from deq_mpc_core.models.crazyflie import DISTURBANCE, THRUST, VEL, crazyflie_model, hover_thrust, nominal_params
from deq_mpc_core.models.printing import print_torch
from deq_mpc_core.solver.batched.system import System, system
from deq_mpc_core.solver.generate import load_kernels

Array = NDArray[np.float64]


def torch_function(model: Model) -> Callable[..., torch.Tensor]:
    namespace: dict[str, Any] = {}
    exec(print_torch(model), namespace)
    return namespace["f"]


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]()


@pytest.fixture
def kernels(model: Model) -> ModuleType:
    return load_kernels(model)


@pytest.fixture
def on_torch(model: Model) -> System:
    return system(model, torch.device("cpu"))


@pytest.fixture
def point(model: Model) -> tuple[Array, Array, Array, Array]:
    """State, input, parameters and weights in general position."""
    rng = np.random.default_rng(3)
    return tuple(rng.normal(size=n) + 0.3 for n in (model.nx, model.nu, len(model.p), model.nx))


def test_numba_values_and_partials_are_autograds(model: Model, kernels: ModuleType, point: tuple[Array, ...]) -> None:
    x, u, p, _ = point
    nx, nz = model.nx, model.nx + model.nu
    f = torch_function(model)
    xt, ut, pt = (torch.tensor(a) for a in (x, u, p))
    f_x, f_u = torch.autograd.functional.jacobian(lambda a, b: f(a, b, pt), (xt, ut))
    dx, tangent, tangent_d = np.empty(nx), np.random.default_rng(0).normal(size=(nx, nz)), np.empty((nx, nz))

    kernels.slot.f(x, u, p, dx)
    np.testing.assert_allclose(dx, f(xt, ut, pt).numpy(), rtol=1e-13, atol=1e-13)

    kernels.slot.f_tangent(x, u, p, tangent, dx, tangent_d)
    expected = f_x.numpy() @ tangent
    expected[:, nx:] += f_u.numpy()
    np.testing.assert_allclose(tangent_d, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dx, f(xt, ut, pt).numpy(), rtol=1e-13, atol=1e-13)


def test_numba_hessian_is_autograds(model: Model, kernels: ModuleType, point: tuple[Array, ...]) -> None:
    x, u, p, w = point
    f = torch_function(model)
    pt, wt = torch.tensor(p), torch.tensor(w)
    z = torch.tensor(np.concatenate([x, u]))
    expected = torch.autograd.functional.hessian(lambda z: (f(z[: model.nx], z[model.nx :], pt) * wt).sum(), z)
    h = np.full((len(z), len(z)), np.nan)
    kernels.slot.f_hessian(x, u, p, w, h)
    np.testing.assert_allclose(h, expected.numpy(), rtol=1e-12, atol=1e-12)


def test_runge_kutta_and_its_derivatives(
    model: Model, kernels: ModuleType, on_torch: System, point: tuple[Array, ...]
) -> None:
    x, u, p, w = point
    nx, nz = model.nx, model.nx + model.nu
    z, pt, wt = torch.tensor(np.concatenate([x, u])), torch.tensor(p), torch.tensor(w)
    value = on_torch.step(z, pt, DT)
    jacobian = torch.autograd.functional.jacobian(lambda z: on_torch.step(z, pt, DT), z)
    hessian = torch.autograd.functional.hessian(lambda z: (on_torch.step(z, pt, DT) * wt).sum(), z)
    work, out, jac = np.empty((5, nx)), np.empty(nx), np.zeros((nx, nz))

    kernels.rk4.rk4(x, u, p, DT, work, out)
    np.testing.assert_allclose(out, value, rtol=1e-13, atol=1e-13)

    kernels.slot.rk4_tangent(x, u, p, DT, out, jac)
    np.testing.assert_allclose(out, value, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(jac, jacobian, rtol=1e-12, atol=1e-12)

    h = np.ones((nz, nz))
    kernels.rk4.rk4_hessian(x, u, p, DT, w, h)
    np.testing.assert_allclose(h - 1.0, hessian, rtol=1e-11, atol=1e-12)

    with torch.no_grad():
        batched, jacobians = on_torch.step_and_jacobian(z.expand(2, 3, nz), pt.expand(2, -1), DT)
    np.testing.assert_allclose(batched[1, 2], value, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(jacobians[1, 2], jacobian, rtol=1e-12, atol=1e-12)


def test_torch_broadcasts_over_leading_dimensions() -> None:
    model, rng = crazyflie_model(), np.random.default_rng(0)
    f = torch_function(model)
    x, u = torch.tensor(rng.normal(size=(4, 5, 13))), torch.tensor(rng.normal(size=(4, 5, 4)))
    p = torch.tensor(rng.normal(size=(4, 1, 13)) + 2.0)
    together = f(x, u, p)
    assert together.shape == (4, 5, 13)
    torch.testing.assert_close(together[2, 3], f(x[2, 3], u[2, 3], p[2, 0]), rtol=1e-14, atol=1e-14)


def awkward_model() -> Model:
    """Names that clash with the printed code, a constant derivative, pi, roots, a state that drives nothing."""
    s, dx, u, math = sp.symbols("s dx u math", positive=True)
    second = sp.sqrt(2 * s) * sp.pi + sp.exp(-dx) / 3 + sp.tanh(u) * math**2 / sp.sqrt(dx + 1) + sp.tan(s)
    xdot = (sp.Integer(1), second)
    return Model("awkward", x=(s, dx), u=(u,), p=(math,), xdot=xdot, x_scale=(1.0, 1.0), u_scale=(1.0,))


def test_awkward_models_print() -> None:
    model = awkward_model()
    x, u, p = np.array([0.5, 0.7]), np.array([0.2]), np.array([1.5])
    expected = [float(e.subs(zip((*model.x, *model.u, *model.p), [*x, *u, *p], strict=True))) for e in model.xdot]
    value = torch_function(model)(*(torch.tensor(a) for a in (x, u, p)))
    np.testing.assert_allclose(value, expected, rtol=1e-14)


def test_models_refuse_what_does_not_fit_together() -> None:
    x, u, stranger = sp.symbols("x u stranger")
    with pytest.raises(ValueError, match="stranger"):
        Model("m", x=(x,), u=(u,), p=(), xdot=(x * stranger,), x_scale=(1.0,), u_scale=(1.0,))
    with pytest.raises(ValueError, match="xdot and x_scale need 1"):
        Model("m", x=(x,), u=(u,), p=(), xdot=(x, u), x_scale=(1.0,), u_scale=(1.0,))
    with pytest.raises(ValueError, match="position"):
        Model("m", x=(x,), u=(u,), p=(), xdot=(u,), x_scale=(1.0,), u_scale=(1.0,), position=(0,))


def xdot_of_crazyflie(x: Array, u: Array, p: Array | None = None) -> Array:
    f = torch_function(crazyflie_model())
    return f(*(torch.tensor(a) for a in (x, u, nominal_params() if p is None else p))).numpy()


def hovering(**changes: tuple[int, float]) -> tuple[Array, Array]:
    x, u = np.zeros(13), np.zeros(4)
    x[THRUST] = u[3] = hover_thrust()
    for index, value in changes.values():
        x[index] = value
    return x, u


def test_crazyflie_hovers_at_hover_thrust() -> None:
    np.testing.assert_allclose(xdot_of_crazyflie(*hovering()), np.zeros(13), atol=1e-12)


@pytest.mark.parametrize(
    ("state", "axis", "sign"),
    [(7, 0, +1.0), (6, 1, -1.0)],
    ids=["nose down accelerates +x", "roll right accelerates -y"],
)
def test_crazyflie_signs(state: int, axis: int, sign: float) -> None:
    acceleration = xdot_of_crazyflie(*hovering(tilt=(state, 0.2)))[VEL]
    assert sign * acceleration[axis] > 1.0
    assert abs(acceleration[1 - axis]) < 1e-9


def test_crazyflie_disturbance_is_an_acceleration_and_drag_opposes_motion() -> None:
    p = nominal_params()
    p[DISTURBANCE] = 0.3, -0.2, 0.1
    np.testing.assert_allclose(xdot_of_crazyflie(*hovering(), p)[VEL], [0.3, -0.2, 0.1], atol=1e-12)
    assert xdot_of_crazyflie(*hovering(speed=(3, 1.0)))[3] < -0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../x"}, "identifier"),
        ({"name": 'a"""\nimport os'}, "identifier"),
        ({"name": "class"}, "identifier"),
        ({"position": (0, 1, 7)}, "three different states"),
        ({"position": (-1, 0, 1)}, "three different states"),
        ({"position": (0, 0, 1)}, "three different states"),
        ({"x_scale": (1.0, 0.0, 1.0)}, "positive and finite"),
        ({"u_scale": (np.nan,)}, "positive and finite"),
        ({"x": (sp.Symbol("a"), sp.Symbol("a"), sp.Symbol("c"))}, "stands for two"),
        ({"u": (sp.Symbol("a"),)}, "stands for two"),
        ({"xdot": (sp.nan, sp.Integer(0), sp.Integer(0))}, "real and finite"),
        ({"xdot": (sp.I * sp.Symbol("a"), sp.Integer(0), sp.Integer(0))}, "real and finite"),
        ({"x": (), "xdot": (), "x_scale": ()}, "no state"),
    ],
)
def test_a_model_that_cannot_be_printed_is_refused(changes: dict[str, object], message: str) -> None:
    a, b, c, force = sp.symbols("a b c force")
    sound = {"name": "m", "x": (a, b, c), "u": (force,), "p": (), "xdot": (b, c, force), "position": (0, 1, 2)}
    sound |= {"x_scale": (1.0, 1.0, 1.0), "u_scale": (1.0,)}
    Model(**sound)
    with pytest.raises(ValueError, match=message):
        Model(**sound | changes)
