"""Dynamics models: written once symbolically, printed for the engines that run them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.models import cartpole, crazyflie, pendulum, quadrotor
from deq_mpc_core.models.model import Model

MODELS: Mapping[str, Callable[[], Model]] = MappingProxyType(
    {
        "pendulum": pendulum.pendulum_model,
        "cartpole": cartpole.cartpole_model,
        "quadrotor": quadrotor.quadrotor_model,
        "crazyflie": crazyflie.crazyflie_model,
    }
)
"""Every shipped robot's symbolic model by name."""

NOMINAL_PARAMS: Mapping[str, Callable[[], NDArray[np.float64]]] = MappingProxyType(
    {
        "pendulum": pendulum.nominal_params,
        "cartpole": cartpole.nominal_params,
        "quadrotor": quadrotor.nominal_params,
        "crazyflie": crazyflie.nominal_params,
    }
)
"""Parameter vector (np,) of each model's shipped constants."""

__all__ = ["MODELS", "NOMINAL_PARAMS", "Model"]
