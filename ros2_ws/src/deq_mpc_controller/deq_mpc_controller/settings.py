"""``config/controller.yaml`` as one object."""

from __future__ import annotations

from functools import cache

from deq_mpc_controller.command_filter import FilterConfig
from deq_mpc_controller.estimate import EstimatorConfig
from deq_mpc_controller.flight_config import FlightConfig
from deq_mpc_controller.hover_thrust import HoverThrustConfig
from deq_mpc_controller.preflight import PreflightConfig
from deq_mpc_controller.safety import SafetyConfig
from deq_mpc_controller.vehicle_io import LinkConfig
from deq_mpc_core.config import Config, load_config


class ControllerConfig(Config):
    """Constants of the flight side; each section belongs to the module that uses it."""

    estimator: EstimatorConfig
    hover_thrust: HoverThrustConfig
    safety: SafetyConfig
    preflight: PreflightConfig
    filter: FilterConfig
    flight: FlightConfig
    link: LinkConfig


@cache
def controller_config() -> ControllerConfig:
    """The shipped constants."""
    return load_config("controller", ControllerConfig)


@cache
def unfiltered_config() -> ControllerConfig:
    """The shipped constants without the last-resort filter: what the policy says is what leaves."""
    config = controller_config()
    return config.model_copy(update={"filter": config.filter.model_copy(update={"enabled": False})})
