"""Parameters of the simulated vehicle and of its world: ``config/plant.yaml`` and ``config/world.yaml``."""

from __future__ import annotations

from functools import cache
from typing import Annotated

import numpy as np

from deq_mpc_controller.conversions import load_thrust_map
from deq_mpc_controller.units import Hertz, Metre, Newton, Number, Radian, Second, Volt
from deq_mpc_core.config import Config, in_unit, load_config
from deq_mpc_core.errors import UserError
from deq_mpc_sim.firmware import FirmwareGains
from deq_mpc_sim.plant import MOTOR_COUNT, Array, PlantParameters

Inertia = Annotated[float, in_unit("kg m^2")]
PerSecond = Annotated[float, in_unit("1/s")]
PerSecond2 = Annotated[float, in_unit("1/s^2")]
DegreeSecond = Annotated[float, in_unit("deg s")]
Degree = Annotated[float, in_unit("deg")]
RateKp = Annotated[float, in_unit("count s/deg")]
RateKi = Annotated[float, in_unit("count/deg")]
RateKd = Annotated[float, in_unit("count s^2/deg")]


class BodyConfig(Config):
    """Rigid body and motors."""

    gravity: Annotated[float, in_unit("m/s^2")]
    mass: Annotated[float, in_unit("kg")]
    inertia_x: Inertia
    inertia_y: Inertia
    inertia_z: Inertia
    motor_offset: Metre
    torque_per_thrust: Metre
    thrust_max: Newton
    motor_rise: Second
    motor_fall: Second
    rotor_drag_xy: Annotated[float, in_unit("kg/s")]
    rotor_drag_z: Annotated[float, in_unit("kg/s")]
    body_drag: Annotated[float, in_unit("kg/m")]


class BatteryConfig(Config):
    """One LiPo cell: a voltage that falls linearly with the charge drawn, behind a resistance."""

    capacity: Annotated[float, in_unit("A s")]
    full_voltage: Volt
    voltage_drop: Volt
    resistance: Annotated[float, in_unit("ohm")]
    idle_current: Annotated[float, in_unit("A")]
    current_per_thrust: Annotated[float, in_unit("A/N^1.5")]
    compensated_down_to: Volt


class FirmwareConfig(Config):
    """Gains of the on-board controller in the firmware's own units: degrees and motor counts (0..65535)."""

    rate: Hertz
    roll_kp: PerSecond
    roll_ki: PerSecond2
    roll_kd: Number
    roll_integral_limit: DegreeSecond
    yaw_kp: PerSecond
    yaw_ki: PerSecond2
    yaw_kd: Number
    yaw_integral_limit: DegreeSecond
    roll_rate_kp: RateKp
    roll_rate_ki: RateKi
    roll_rate_kd: RateKd
    roll_rate_integral_limit: Degree
    yaw_rate_kp: RateKp
    yaw_rate_ki: RateKi
    yaw_rate_kd: RateKd
    yaw_rate_integral_limit: Degree

    def gains(self) -> FirmwareGains:
        """The PID gains, one row per axis roll, pitch, yaw."""
        roll = [self.roll_kp, self.roll_ki, self.roll_kd, self.roll_integral_limit]
        yaw = [self.yaw_kp, self.yaw_ki, self.yaw_kd, self.yaw_integral_limit]
        roll_rate = [self.roll_rate_kp, self.roll_rate_ki, self.roll_rate_kd, self.roll_rate_integral_limit]
        yaw_rate = [self.yaw_rate_kp, self.yaw_rate_ki, self.yaw_rate_kd, self.yaw_rate_integral_limit]
        return FirmwareGains(1.0 / self.rate, np.array([roll, roll, yaw]), np.array([roll_rate, roll_rate, yaw_rate]))


class PlantConfig(Config):
    """``config/plant.yaml``."""

    body: BodyConfig
    battery: BatteryConfig
    firmware: FirmwareConfig

    def parameters(self) -> PlantParameters:
        """The nominal vehicle: equal motors, no trim error."""
        b, cell = self.body, self.battery
        return PlantParameters(
            gravity=b.gravity,
            mass=b.mass,
            inertia=np.array([b.inertia_x, b.inertia_y, b.inertia_z]),
            motor_offset=b.motor_offset,
            torque_per_thrust=b.torque_per_thrust,
            thrust_max=np.full(MOTOR_COUNT, b.thrust_max),
            motor_rise=b.motor_rise,
            motor_fall=b.motor_fall,
            rotor_drag=np.array([b.rotor_drag_xy, b.rotor_drag_xy, b.rotor_drag_z]),
            body_drag=b.body_drag,
            capacity=cell.capacity,
            full_voltage=cell.full_voltage,
            voltage_drop=cell.voltage_drop,
            resistance=cell.resistance,
            idle_current=cell.idle_current,
            current_per_thrust=cell.current_per_thrust,
            compensated_down_to=cell.compensated_down_to,
            trim=np.zeros(2),
        )


class DisturbanceConfig(Config):
    """How a flight's vehicle differs from the nominal one, and the gusts it meets."""

    mass: Number
    thrust: Number
    motor: Number
    inertia: Number
    drag: Number
    motor_time: Number
    trim: Radian
    gust_force: Newton
    gust_time: Second


class MocapConfig(Config):
    """Motion capture."""

    rate: Hertz
    position_noise: Metre
    rotation_noise: Radian
    delay: Second
    dropout_rate: PerSecond
    dropout_max: Second


class RadioConfig(Config):
    """The radio of flights in lockstep."""

    packet_loss: Number


class ObstacleConfig(Config):
    """Virtual obstacles."""

    speed: Annotated[float, in_unit("m/s")]


class WorldConfig(Config):
    """One set of disturbances of ``config/world.yaml``."""

    disturbances: DisturbanceConfig
    mocap: MocapConfig
    radio: RadioConfig
    obstacles: ObstacleConfig


class _WorldSets(Config):
    """``config/world.yaml``."""

    sets: dict[str, WorldConfig]


@cache
def plant_config() -> PlantConfig:
    """The shipped ``config/plant.yaml``."""
    return load_config("plant", PlantConfig)


@cache
def world_config(name: str = "default") -> WorldConfig:
    """A set of the shipped ``config/world.yaml``.

    Raises:
        UserError: naming the known ones.
    """
    sets = load_config("world", _WorldSets).sets
    if name not in sets:
        raise UserError(f"unknown disturbances {name!r}; choose one of {', '.join(sorted(sets))}")
    return sets[name]


def perturb(nominal: PlantParameters, bounds: DisturbanceConfig, rng: np.random.Generator) -> PlantParameters:
    """A vehicle drawn around the nominal one: every quantity uniform within its bound, independent of the others."""

    def factor(bound: float, size: int = 1) -> Array:
        return 1.0 + rng.uniform(-bound, bound, size)

    lag = float(factor(bounds.motor_time)[0])
    return nominal._replace(
        mass=nominal.mass * float(factor(bounds.mass)[0]),
        inertia=nominal.inertia * factor(bounds.inertia, 3),
        thrust_max=nominal.thrust_max * factor(bounds.thrust) * factor(bounds.motor, MOTOR_COUNT),
        motor_rise=nominal.motor_rise * lag,
        motor_fall=nominal.motor_fall * lag,
        rotor_drag=nominal.rotor_drag * factor(bounds.drag),
        body_drag=nominal.body_drag * float(factor(bounds.drag)[0]),
        trim=rng.uniform(-bounds.trim, bounds.trim, 2),
    )


HEADING = 0.1
"""Largest heading of a vehicle put down by hand [rad]."""


def draw_vehicle(
    rng: np.random.Generator, bounds: DisturbanceConfig | None = None, nominal: PlantParameters | None = None
) -> PlantParameters:
    """A vehicle around ``nominal``, default the shipped plant; ``bounds``: default the shipped default ones."""
    return perturb(nominal or plant_config().parameters(), bounds or world_config().disturbances, rng)


def platform_parameters(platform: str, firmware: str, mass: float) -> PlantParameters:
    """The shipped plant made as heavy and as strong as another platform, see ``load_thrust_map``.

    Inertia grows with the mass, and the battery carries any weight for as long; geometry, drag and motors stay.
    """
    nominal, thrust_map = plant_config().parameters(), load_thrust_map(platform, firmware, mass)
    return nominal._replace(
        mass=nominal.mass * thrust_map.load,
        inertia=nominal.inertia * thrust_map.load,
        thrust_max=np.full(MOTOR_COUNT, thrust_map.force_at_full / MOTOR_COUNT),
        current_per_thrust=nominal.current_per_thrust * float(thrust_map.load**-1.5),
    )
