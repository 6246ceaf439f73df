"""Attitude-command model of the Crazyflie: what ``send_setpoint`` takes goes in, the motion comes out.

    pos_d = vel
    vel_d = k T e / m + (0, 0, -g) + R D R^T vel / m + dist,      e = R e_3,  D = diag(d_xy, d_xy, d_z)
    rpy_dd = a rpy + b rpy_d + c rpy_cmd                          (roll and pitch)
    yaw_dd = (yaw_rate_cmd - yaw_d) / tau_yaw
    T_d = (T_cmd - T) / tau_thrust

Structure and constants: the drone-models identification, see ``config/attitude_models.yaml``. World frame z up,
R = Rz Ry Rx.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.config import Config, in_unit, load_config
from deq_mpc_core.models.model import Model

POS, VEL, RPY, RPY_RATE, THRUST = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12), 12
YAW = 8
NX, NU = 13, 4
ROLL_CMD, PITCH_CMD, YAW_RATE_CMD, THRUST_CMD = range(4)
DISTURBANCE = slice(10, 13)
"""Where the disturbance acceleration (3,) [m/s^2] stands in the parameter vector."""


class AttitudeModelConfig(Config):
    """Constants of the attitude-command model."""

    mass: Annotated[float, in_unit("kg")]
    a_rp: Annotated[float, in_unit("1/s^2")]
    b_rp: Annotated[float, in_unit("1/s")]
    c_rp: Annotated[float, in_unit("1/s^2")]
    tau_yaw: Annotated[float, in_unit("s")]
    k: Annotated[float, in_unit("1")]
    tau_thrust: Annotated[float, in_unit("s")]
    drag_xy: Annotated[float, in_unit("kg/s")]
    drag_z: Annotated[float, in_unit("kg/s")]


class AttitudeModels(Config):
    """``config/attitude_models.yaml``."""

    gravity: Annotated[float, in_unit("m/s^2")]
    nominal: AttitudeModelConfig


@cache
def attitude_models() -> AttitudeModels:
    """The shipped constants."""
    return load_config("attitude_models", AttitudeModels)


def nominal_params() -> NDArray[np.float64]:
    """Parameter vector (13,) of the nominal model with zero disturbance, in the order of ``crazyflie_model().p``."""
    models = attitude_models()
    c = models.nominal
    constants = [c.mass, c.k, c.a_rp, c.b_rp, c.c_rp, c.tau_yaw, c.tau_thrust, c.drag_xy, c.drag_z, models.gravity]
    return np.array([*constants, 0.0, 0.0, 0.0])


def hover_thrust(params: NDArray[np.float64] | None = None) -> float:
    """Collective thrust [N] that carries the weight (and the vertical disturbance)."""
    p = nominal_params() if params is None else params
    return float(p[0] * (p[9] - p[12]) / p[1])


@cache
def crazyflie_model() -> Model:
    """The symbolic model, nx = 13, nu = 4."""
    import sympy as sp

    x = sp.symbols("px py pz vx vy vz roll pitch yaw roll_d pitch_d yaw_d T", real=True)
    u = sp.symbols("roll_cmd pitch_cmd yaw_rate_cmd T_cmd", real=True)
    p = sp.symbols("m k a b c tau_yaw tau_T d_xy d_z g dist_x dist_y dist_z", real=True)
    vel = sp.Matrix(x[3:6])
    roll, pitch, yaw, roll_d, pitch_d, yaw_d, thrust = x[6:13]
    m, k, a, b, c, tau_yaw, tau_thrust, d_xy, d_z, g = p[:10]
    e = sp.Matrix(
        [
            sp.cos(yaw) * sp.sin(pitch) * sp.cos(roll) + sp.sin(yaw) * sp.sin(roll),
            sp.sin(yaw) * sp.sin(pitch) * sp.cos(roll) - sp.cos(yaw) * sp.sin(roll),
            sp.cos(pitch) * sp.cos(roll),
        ]
    )
    drag = d_xy * vel + (d_z - d_xy) * e.dot(vel) * e  # R D R^T v for an axisymmetric D
    acc = (k * thrust * e + drag) / m + sp.Matrix([0, 0, -g]) + sp.Matrix(p[10:13])
    rpy_rate_d = [
        a * roll + b * roll_d + c * u[0],
        a * pitch + b * pitch_d + c * u[1],
        (u[2] - yaw_d) / tau_yaw,
    ]
    xdot = (*vel, *acc, roll_d, pitch_d, yaw_d, *rpy_rate_d, (u[3] - thrust) / tau_thrust)
    return Model(
        name="crazyflie",
        x=x,
        u=u,
        p=p,
        xdot=xdot,
        x_scale=(1.0,) * 6 + (1.0,) * 3 + (5.0,) * 3 + (0.1,),
        u_scale=(1.0, 1.0, 1.0, 0.1),
        position=(0, 1, 2),
    )
