"""The paper's pendulum, driven at its pivot:

    theta_dd = u + c sin theta,      theta = 0 upright, u [rad/s^2] the torque over the moment of inertia

With u = 0 the energy theta_d^2 / 2 + c cos theta is constant.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.models.constants import model_constants
from deq_mpc_core.models.model import Model

ANGLE, RATE = 0, 1
NX, NU = 2, 1


def nominal_params() -> NDArray[np.float64]:
    """Parameter vector (1,) of the paper's pendulum, in the order of ``pendulum_model().p``."""
    return np.array([model_constants().pendulum.stiffness])


@cache
def pendulum_model() -> Model:
    """The symbolic model, nx = 2, nu = 1."""
    import sympy as sp

    angle, rate, u, stiffness = sp.symbols("theta theta_d u c", real=True)
    return Model(
        name="pendulum",
        x=(angle, rate),
        u=(u,),
        p=(stiffness,),
        xdot=(rate, u + stiffness * sp.sin(angle)),
        x_scale=(1.0, 5.0),
        u_scale=(5.0,),
    )
