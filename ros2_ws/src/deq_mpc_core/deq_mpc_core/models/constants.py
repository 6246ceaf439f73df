"""Constants of the paper's systems: ``config/models.yaml``."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from deq_mpc_core.config import Config, in_unit, load_config


class PendulumConstants(Config):
    """Gravity over length of a pendulum whose input is an angular acceleration."""

    stiffness: Annotated[float, in_unit("1/s^2")]


class CartpoleConstants(Config):
    """A cart and a pole that turns about a pivot on it."""

    cart_mass: Annotated[float, in_unit("kg")]
    pole_mass: Annotated[float, in_unit("kg")]
    half_length: Annotated[float, in_unit("m")]
    pole_inertia: Annotated[float, in_unit("kg*m^2")]
    gravity: Annotated[float, in_unit("m/s^2")]


class QuadrotorConstants(Config):
    """A rigid body with four motors; a motor's force and torque are affine in its command."""

    mass: Annotated[float, in_unit("kg")]
    inertia_x: Annotated[float, in_unit("kg*m^2")]
    inertia_y: Annotated[float, in_unit("kg*m^2")]
    inertia_z: Annotated[float, in_unit("kg*m^2")]
    arm: Annotated[float, in_unit("m")]
    force_gain: Annotated[float, in_unit("N")]
    force_offset: Annotated[float, in_unit("N")]
    torque_gain: Annotated[float, in_unit("N*m")]
    gravity: Annotated[float, in_unit("m/s^2")]


class ModelConstants(Config):
    """``config/models.yaml``."""

    pendulum: PendulumConstants
    cartpole: CartpoleConstants
    quadrotor: QuadrotorConstants


@cache
def model_constants() -> ModelConstants:
    """The shipped constants."""
    return load_config("models", ModelConstants)
