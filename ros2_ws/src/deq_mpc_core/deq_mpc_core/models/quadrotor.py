"""The paper's quadrotor: a rigid body in modified Rodrigues parameters, with its velocity in the BODY frame.

    pos_d   = R(sigma) v                                            v: velocity in the body frame, pos: world, z up
    sigma_d = ((1 - |sigma|^2) I + 2 [sigma]x + 2 sigma sigma^T) w / 4
    v_d     = e_3 sum F_i / m - R(sigma)^T g e_3 - w x v
    w_d     = J^{-1} (tau - w x J w)
    R(sigma) = I + (8 [sigma]x^2 + 4 (1 - |sigma|^2) [sigma]x) / (1 + |sigma|^2)^2        body to world

sigma = tan(angle / 4) axis; its norm passes 1 at half a turn, where `to_shadow_set` goes on with the other parameters
of the same attitude (Schaub & Junkins, Analytical Mechanics of Space Systems, section 3.5).

Motors stand at the corners of a square, at 45 deg to the body axes: front left, front right, back right, back left.
Motor i pushes with F_i = k_f u_i + b_f and turns the body about z with +-k_m u_i, alternating. The paper states no
layout; this is ours. The command that hovers, (m g / 4 - b_f) / k_f = 14.50, lies inside the paper's range 11.5..18.3,
which spans -2.4..14.2 N a motor: the affine fit goes below zero near the lower end, and we take it as it stands.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deq_mpc_core.models.constants import model_constants
from deq_mpc_core.models.model import Model

if TYPE_CHECKING:
    import sympy as sp

POS, MRP, BODY_VEL, BODY_RATE = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)
NX, NU = 12, 4
MOTOR_DIRECTIONS = ((1, 1), (1, -1), (-1, -1), (-1, 1))
"""Signs of x and y of each motor's place, body frame."""
SPIN = (1, -1, 1, -1)
"""Sign of each motor's torque about the body's z."""


def nominal_params() -> NDArray[np.float64]:
    """Parameter vector (9,) of the paper's quadrotor, in the order of ``quadrotor_model().p``."""
    c = model_constants().quadrotor
    inertia = (c.inertia_x, c.inertia_y, c.inertia_z)
    return np.array([c.mass, *inertia, c.arm, c.force_gain, c.force_offset, c.torque_gain, c.gravity])


def hover_command(params: NDArray[np.float64] | None = None) -> float:
    """Command of each motor that carries the weight."""
    mass, _, _, _, _, gain, offset, _, gravity = nominal_params() if params is None else params
    return float((mass * gravity / 4.0 - offset) / gain)


def mrp_from_quat(quat: ArrayLike) -> NDArray[np.float64]:
    """Modified Rodrigues parameters (..., 3), |sigma| <= 1, of unit quaternions (..., 4) xyzw: sigma = v / (1 + w)."""
    q = np.asarray(quat, dtype=np.float64)
    q = np.where(q[..., 3:] < 0.0, -q, q)
    return q[..., :3] / (1.0 + q[..., 3:])


def to_shadow_set(x: ArrayLike) -> NDArray[np.float64]:
    """States (..., 12) with sigma replaced by -sigma / |sigma|^2, the same attitude, wherever |sigma| > 1."""
    switched = np.array(x, dtype=np.float64)
    sigma = switched[..., MRP]
    norm2 = (sigma * sigma).sum(-1, keepdims=True)
    switched[..., MRP] = np.where(norm2 > 1.0, -sigma / np.where(norm2 > 1.0, norm2, 1.0), sigma)
    return switched


def _cross_matrix(a: sp.Matrix) -> sp.Matrix:
    """[a]x, so that [a]x b = a x b."""
    import sympy as sp

    return sp.Matrix([[0, -a[2], a[1]], [a[2], 0, -a[0]], [-a[1], a[0], 0]])


def rotation_from_mrp(sigma: sp.Matrix) -> sp.Matrix:
    """R(sigma), body to world; symbols or numbers."""
    import sympy as sp

    norm2, cross = sigma.dot(sigma), _cross_matrix(sigma)
    return sp.eye(3) + (8 * cross * cross + 4 * (1 - norm2) * cross) / (1 + norm2) ** 2


@cache
def quadrotor_model() -> Model:
    """The symbolic model, nx = 12, nu = 4."""
    import sympy as sp

    x = sp.symbols("px py pz s1 s2 s3 vx vy vz wx wy wz", real=True)
    u = sp.symbols("u1:5", real=True)
    p = sp.symbols("m Jx Jy Jz arm k_f b_f k_m g", real=True)
    sigma, vel, rate = sp.Matrix(x[MRP]), sp.Matrix(x[BODY_VEL]), sp.Matrix(x[BODY_RATE])
    mass, jx, jy, jz, arm, force_gain, force_offset, torque_gain, gravity = p
    inertia = sp.diag(jx, jy, jz)
    forces = [force_gain * command + force_offset for command in u]
    lever = arm / sp.sqrt(2)
    torque = sp.Matrix(
        [
            lever * sum(y * f for (_, y), f in zip(MOTOR_DIRECTIONS, forces, strict=True)),
            -lever * sum(x * f for (x, _), f in zip(MOTOR_DIRECTIONS, forces, strict=True)),
            torque_gain * sum(s * command for s, command in zip(SPIN, u, strict=True)),
        ]
    )
    rotation = rotation_from_mrp(sigma)
    pos_d = rotation * vel
    sigma_d = ((1 - sigma.dot(sigma)) * rate + 2 * sigma.cross(rate) + 2 * sigma * sigma.dot(rate)) / 4
    vel_d = sp.Matrix([0, 0, sum(forces) / mass]) - rotation.T * sp.Matrix([0, 0, gravity]) - rate.cross(vel)
    rate_d = inertia.inv() * (torque - rate.cross(inertia * rate))
    return Model(
        name="quadrotor",
        x=x,
        u=u,
        p=p,
        xdot=(*pos_d, *sigma_d, *vel_d, *rate_d),
        x_scale=(1.0,) * 3 + (0.25,) * 3 + (1.0,) * 3 + (5.0,) * 3,
        u_scale=(5.0,) * 4,
        position=(0, 1, 2),
    )
