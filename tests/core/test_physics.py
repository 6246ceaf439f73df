"""The paper's systems obey mechanics: equilibria, conserved quantities, rotations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from sympy.physics.mechanics import dynamicsymbols

from deq_mpc_core.models import MODELS, NOMINAL_PARAMS
from deq_mpc_core.models.cartpole import cartpole_model
from deq_mpc_core.models.quadrotor import (
    BODY_RATE,
    BODY_VEL,
    MRP,
    POS,
    hover_command,
    mrp_from_quat,
    nominal_params,
    rotation_from_mrp,
    to_shadow_set,
)
from deq_mpc_core.rotations import quat_from_rpy, rotate

Array = NDArray[np.float64]


def dynamics(name: str) -> Callable[[Array, Array], Array]:
    """x_dot of a model with its nominal parameters."""
    model, p = MODELS[name](), NOMINAL_PARAMS[name]()
    f = sp.lambdify((model.x, model.u, model.p), list(model.xdot), "math")
    return lambda x, u: np.array(f(x, u, p), dtype=np.float64)


def motion(name: str, x: Array, u: Array, duration: float) -> Array:
    """States (nx, 21) on the way."""
    f = dynamics(name)
    t = np.linspace(0.0, duration, 21)
    return solve_ivp(lambda _, x: f(x, u), (0.0, duration), x, t_eval=t, rtol=1e-11, atol=1e-12).y


def rotation(sigma: Array) -> Array:
    return np.array(rotation_from_mrp(sp.Matrix(sigma)), dtype=np.float64)


def eigenvalues(name: str, x: Array, u: Array) -> Array:
    f, h = dynamics(name), 1e-6
    columns = [(f(x + h * e, u) - f(x - h * e, u)) / (2 * h) for e in np.eye(len(x))]
    return np.linalg.eigvals(np.stack(columns, axis=1))


@pytest.mark.parametrize("name", MODELS)
def test_parameters_fit_the_model(name: str) -> None:
    assert NOMINAL_PARAMS[name]().shape == (len(MODELS[name]().p),)
    assert MODELS[name]().name == name


def test_pendulum_keeps_its_energy_and_falls_from_upright() -> None:
    angle, rate = motion("pendulum", np.array([0.4, -1.0]), np.zeros(1), 3.0)
    np.testing.assert_allclose(0.5 * rate**2 + 10.0 * np.cos(angle), 0.5 + 10.0 * np.cos(0.4), rtol=1e-9)
    np.testing.assert_array_equal(dynamics("pendulum")(np.zeros(2), np.zeros(1)), np.zeros(2))
    np.testing.assert_allclose(
        sorted(eigenvalues("pendulum", np.zeros(2), np.zeros(1))), [-(10**0.5), 10**0.5], rtol=1e-6
    )
    np.testing.assert_allclose(dynamics("pendulum")(np.array([np.pi / 2, 0.0]), np.array([3.0])), [0.0, 13.0])


def test_cartpole_is_what_its_lagrangian_says() -> None:
    t = sp.Symbol("t")
    s, theta = dynamicsymbols("s_of_t theta_of_t")
    model = cartpole_model()
    cart, pole, length, inertia, gravity = model.p
    centre = sp.Matrix([s + length * sp.sin(theta), length * sp.cos(theta)])
    velocity = centre.diff(t)
    kinetic = cart * s.diff(t) ** 2 / 2 + pole * velocity.dot(velocity) / 2 + inertia * theta.diff(t) ** 2 / 2
    lagrangian = kinetic - pole * gravity * centre[1]
    values = dict(zip((s, theta, s.diff(t), theta.diff(t)), model.x, strict=True))
    accelerations = {s.diff(t, 2): model.xdot[2], theta.diff(t, 2): model.xdot[3]}
    for coordinate, force in ((s, model.u[0]), (theta, 0)):
        equation = lagrangian.diff(coordinate.diff(t)).diff(t) - lagrangian.diff(coordinate) - force
        in_symbols = equation.subs({a: sp.Symbol(str(i)) for i, a in enumerate(accelerations)}).subs(values)
        in_symbols = in_symbols.subs({sp.Symbol(str(i)): e for i, e in enumerate(accelerations.values())})
        assert sp.simplify(in_symbols) == 0


def test_cartpole_keeps_energy_and_momentum_and_falls_from_upright() -> None:
    cart, pole, length, inertia, gravity = NOMINAL_PARAMS["cartpole"]()
    s, theta, s_d, theta_d = motion("cartpole", np.array([0.5, 0.3, 0.7, -1.0]), np.zeros(1), 4.0)
    vx, vy = s_d + length * np.cos(theta) * theta_d, -length * np.sin(theta) * theta_d
    energy = cart * s_d**2 / 2 + pole * (vx**2 + vy**2) / 2 + inertia * theta_d**2 / 2
    energy += pole * gravity * length * np.cos(theta)
    np.testing.assert_allclose(energy, energy[0], rtol=1e-9)
    np.testing.assert_allclose(cart * s_d + pole * vx, cart * s_d[0] + pole * vx[0], rtol=1e-8)
    assert s[-1] != s[0]
    np.testing.assert_array_equal(dynamics("cartpole")(np.zeros(4), np.zeros(1)), np.zeros(4))
    fall = np.sqrt(pole * gravity * length * (cart + pole) / ((cart + pole) * (inertia + pole * length**2) - pole**2))
    assert max(eigenvalues("cartpole", np.zeros(4), np.zeros(1)).real) == pytest.approx(fall, rel=1e-6)


def test_quadrotor_hovers_inside_the_papers_range() -> None:
    command = hover_command()
    assert 11.5 < command < 18.3
    at_rest = np.zeros(12)
    at_rest[POS] = 3.0, -2.0, 1.0
    np.testing.assert_allclose(dynamics("quadrotor")(at_rest, np.full(4, command)), np.zeros(12), atol=1e-12)


def test_quadrotor_in_free_fall_keeps_energy_and_momenta() -> None:
    mass, *inertia, _, gain, offset, _, gravity = nominal_params()
    x = np.array([1.0, -2.0, 3.0, 0.2, -0.1, 0.3, 1.0, -0.5, 0.7, 3.0, -2.0, 1.5])
    states = motion("quadrotor", x, np.full(4, -offset / gain), 0.6).T  # commands without thrust
    assert (np.linalg.norm(states[:, MRP], axis=1) < 3.0).all()
    vel, rate = states[:, BODY_VEL], states[:, BODY_RATE]
    energy = mass * (vel**2).sum(1) / 2 + (rate**2 @ inertia) / 2 + mass * gravity * states[:, 2]
    np.testing.assert_allclose(energy, energy[0], rtol=1e-9)
    turns = [rotation(s[MRP]) for s in states]
    angular = np.array([turn @ (inertia * w) for turn, w in zip(turns, rate, strict=True)])
    np.testing.assert_allclose(angular, np.broadcast_to(angular[0], angular.shape), rtol=1e-8, atol=1e-10)
    world = np.array([turn @ v for turn, v in zip(turns, vel, strict=True)])
    t = np.linspace(0.0, 0.6, len(states))
    np.testing.assert_allclose(world - world[0], np.outer(t, [0.0, 0.0, -gravity]), atol=1e-8)
    fallen = states[0, POS] + np.outer(t, world[0]) + np.outer(t**2 / 2, [0.0, 0.0, -gravity])
    np.testing.assert_allclose(states[:, POS], fallen, atol=1e-8)


@pytest.mark.parametrize(
    ("raised", "axis", "sign"),
    [((0, 3), 0, +1.0), ((2, 3), 1, +1.0), ((0, 2), 2, +1.0)],
    ids=["left motors roll right", "back motors pitch the nose down", "motors 1 and 3 yaw to the left"],
)
def test_quadrotor_motors_turn_the_body_as_documented(raised: tuple[int, int], axis: int, sign: float) -> None:
    u = np.full(4, hover_command())
    u[list(raised)] += 0.5
    rate_d = dynamics("quadrotor")(np.zeros(12), u)[BODY_RATE]
    assert sign * rate_d[axis] > 0.1
    np.testing.assert_allclose(np.delete(rate_d, axis), 0.0, atol=1e-9)


sigmas = st.tuples(*[st.floats(-1.5, 1.5)] * 3).map(np.array)
vectors = st.tuples(*[st.floats(-5.0, 5.0)] * 3).map(np.array)


@settings(max_examples=25, deadline=None)
@given(sigmas, vectors, vectors)
def test_mrp_kinematics_are_those_of_rotation_matrices(sigma: Array, vel: Array, rate: Array) -> None:
    x = np.concatenate([np.zeros(3), sigma, vel, rate])
    x_dot, h = dynamics("quadrotor")(x, np.full(4, 14.0)), 1e-6
    turn = rotation(sigma)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(x_dot[POS], turn @ vel, atol=1e-12)  # the velocity is the body's
    turn_d = (rotation(sigma + h * x_dot[MRP]) - rotation(sigma - h * x_dot[MRP])) / (2 * h)
    np.testing.assert_allclose(turn_d, turn @ np.cross(rate, np.eye(3)).T, atol=1e-6)  # R_d = R [w]x


@settings(max_examples=25, deadline=None)
@given(sigmas)
def test_the_shadow_set_is_the_same_attitude_closer_to_zero(sigma: Array) -> None:
    x = np.arange(12.0)
    x[MRP] = sigma
    switched = to_shadow_set(x)
    assert np.linalg.norm(switched[MRP]) <= 1.0 + 1e-12
    np.testing.assert_allclose(rotation(switched[MRP]), rotation(sigma), atol=1e-12)
    np.testing.assert_array_equal(np.delete(switched, range(3, 6)), np.delete(x, range(3, 6)))
    if np.linalg.norm(sigma) <= 1.0:
        np.testing.assert_array_equal(switched, x)
    np.testing.assert_array_equal(to_shadow_set(np.stack([x, np.zeros(12)]))[0], switched)


def test_the_motion_goes_on_through_the_switch() -> None:
    x = np.zeros(12)
    x[MRP], x[BODY_RATE] = [0.0, 0.95, 0.0], [0.3, 4.0, -0.2]
    straight = motion("quadrotor", x, np.full(4, 14.0), 0.2)[:, -1]
    assert np.linalg.norm(straight[MRP]) > 1.0
    switched = motion(
        "quadrotor", to_shadow_set(motion("quadrotor", x, np.full(4, 14.0), 0.1)[:, -1]), np.full(4, 14.0), 0.1
    )
    np.testing.assert_allclose(to_shadow_set(switched[:, -1]), to_shadow_set(straight), atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(-3.1, 3.1)] * 3), vectors)
def test_mrp_of_a_quaternion_turns_vectors_as_the_quaternion_does(rpy: tuple[float, float, float], v: Array) -> None:
    quat = quat_from_rpy(rpy)
    for q in (quat, -quat):
        sigma = mrp_from_quat(q)
        assert np.linalg.norm(sigma) <= 1.0 + 1e-12
        np.testing.assert_allclose(rotation(sigma) @ v, rotate(quat, v), atol=1e-9)
