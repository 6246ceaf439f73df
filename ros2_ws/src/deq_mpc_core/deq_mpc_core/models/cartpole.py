"""The paper's cartpole: a pole that turns freely about a pivot on a cart, which a horizontal force F pushes.

With the pole's centre of mass at (s + l sin theta, l cos theta), theta = 0 upright and theta > 0 leaning to +s,

    Lagrangian = M s_d^2 / 2 + m |velocity of the centre of mass|^2 / 2 + I theta_d^2 / 2 - m g l cos theta
    (M + m) s_dd + m l cos(theta) theta_dd = F + m l sin(theta) theta_d^2
    m l cos(theta) s_dd + (I + m l^2) theta_dd = m g l sin theta

which the model solves for the two accelerations.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.models.constants import model_constants
from deq_mpc_core.models.model import Model

POSITION, ANGLE, SPEED, RATE = range(4)
NX, NU = 4, 1


def nominal_params() -> NDArray[np.float64]:
    """Parameter vector (5,) of the paper's cartpole, in the order of ``cartpole_model().p``."""
    c = model_constants().cartpole
    return np.array([c.cart_mass, c.pole_mass, c.half_length, c.pole_inertia, c.gravity])


@cache
def cartpole_model() -> Model:
    """The symbolic model: x = (s, theta, s_d, theta_d), u = F [N]."""
    import sympy as sp

    x = sp.symbols("s theta s_d theta_d", real=True)
    force = sp.Symbol("F", real=True)
    p = sp.symbols("M m l I g", positive=True)
    _, theta, s_d, theta_d = x
    cart, pole, length, inertia, gravity = p
    coupling = pole * length * sp.cos(theta)
    total, about_pivot = cart + pole, inertia + pole * length**2
    push = force + pole * length * sp.sin(theta) * theta_d**2
    weight = pole * gravity * length * sp.sin(theta)
    det = total * about_pivot - coupling**2
    s_dd = (push * about_pivot - weight * coupling) / det
    theta_dd = (weight * total - push * coupling) / det
    return Model(
        name="cartpole",
        x=x,
        u=(force,),
        p=p,
        xdot=(s_d, theta_d, s_dd, theta_dd),
        x_scale=(1.0, 1.0, 5.0, 5.0),
        u_scale=(100.0,),
    )
