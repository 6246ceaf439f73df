"""Constants of take-off, flight and landing; ``config/controller.yaml`` has them with their sources."""

from __future__ import annotations

from deq_mpc_controller.units import Metre, Number, PerSecond, Second, Speed
from deq_mpc_core.config import Config


class FlightConfig(Config):
    """``flight`` in ``config/controller.yaml``."""

    arm_time: Second
    takeoff_height: Metre
    takeoff_speed: Speed
    slowest: Speed
    lowest_hover: Metre
    lift_off_height: Metre
    lift_off_time: Second
    takeoff_time: Second
    start_radius: Metre
    arrive_distance: Metre
    arrive_speed: Speed
    settle_time: Second
    fly_time: Second
    stopping_time: Second
    land_speed: Speed
    land_depth: Metre
    touch_down_height: Metre
    touch_down_speed: Speed
    land_time: Second
    drop_height: Metre
    land_time_max: Second
    floor_margin: Metre
    descend_speed: Speed
    descend_gain: PerSecond
    descend_less: Number
    descend_more: Number
