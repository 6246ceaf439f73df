"""A simulated Crazyflie as it was identified on hardware: attitude commands in, the motion out, nothing in between.

    p_d = v,    v_d = (k T R e3 + R D R^T v + F_ext) / m - g e3
    rpy_dd = a (rpy + trim) + b rpy_d + c (roll_cmd, pitch_cmd, heading),    heading_d = yaw_rate_cmd
    T_d = (T_cmd - T) / tau

It stands in for rigid body and on-board controller (``vehicle.Vehicle``) and is used like it. Its yaw input is an
angle, into which the yaw rate is integrated as the firmware's PID does; ``trim`` is the error of the on-board attitude.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Annotated, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from deq_mpc_controller.conversions import ThrustMap, body_rates_from_rpy_rate
from deq_mpc_controller.units import Kilogram, Number, Second
from deq_mpc_core.config import Config, in_unit, load_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.policy.interface import Command
from deq_mpc_core.rotations import quat_from_rpy
from deq_mpc_sim.parameters import DisturbanceConfig, PerSecond, PerSecond2, plant_config
from deq_mpc_sim.vehicle import Truth

Array = NDArray[np.float64]

STEP = 0.001  # s
POS, VEL, RPY, RPY_RATE = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)
THRUST, HEADING = 12, 13
STATE_SIZE = 14
"""State: pos, vel (world), rpy, their rates, thrust [N], heading to hold [rad]; yaw and heading are not wrapped."""
_NO_FORCE = (0.0, 0.0, 0.0)


class IdentifiedParameters(NamedTuple):
    """One vehicle; SI.

    Attributes:
        a, b, c: (3,) of roll, pitch, yaw.
        drag: (3,) diagonal of D, body axes, negative.
        trim: (2,) roll and pitch by which the on-board attitude is off [rad].
    """

    gravity: float
    mass: float
    a: Array
    b: Array
    c: Array
    k: float
    tau_thrust: float
    drag: Array
    trim: Array


class IdentifiedConfig(Config):
    """One set of constants, and the platform whose thrust map it flies with."""

    platform: str
    mass: Kilogram
    a_rp: PerSecond2
    a_yaw: PerSecond2
    b_rp: PerSecond
    b_yaw: PerSecond
    c_rp: PerSecond2
    c_yaw: PerSecond2
    k: Number
    tau_thrust: Second
    drag_xy: Annotated[float, in_unit("kg/s")]
    drag_z: Annotated[float, in_unit("kg/s")]

    def parameters(self) -> IdentifiedParameters:
        """The vehicle as identified."""
        return IdentifiedParameters(
            gravity=plant_config().body.gravity,
            mass=self.mass,
            a=np.array([self.a_rp, self.a_rp, self.a_yaw]),
            b=np.array([self.b_rp, self.b_rp, self.b_yaw]),
            c=np.array([self.c_rp, self.c_rp, self.c_yaw]),
            k=self.k,
            tau_thrust=self.tau_thrust,
            drag=np.array([self.drag_xy, self.drag_xy, self.drag_z]),
            trim=np.zeros(2),
        )


class _IdentifiedVehicles(Config):
    """``config/identified_vehicles.yaml``."""

    vehicles: dict[str, IdentifiedConfig]


@cache
def identified_vehicles() -> dict[str, IdentifiedConfig]:
    """The shipped sets, by name."""
    return load_config("identified_vehicles", _IdentifiedVehicles).vehicles


def perturb_identified(
    nominal: IdentifiedParameters, bounds: DisturbanceConfig, rng: np.random.Generator
) -> IdentifiedParameters:
    """A vehicle drawn around the identified one: every quantity uniform within its bound, independent of the others.

    a, b and c are what motors and inertia came to when they were identified, so those two have no bound here.
    """

    def factor(bound: float) -> float:
        return 1.0 + float(rng.uniform(-bound, bound))

    return nominal._replace(
        mass=nominal.mass * factor(bounds.mass),
        k=nominal.k * factor(bounds.thrust),
        drag=nominal.drag * factor(bounds.drag),
        tau_thrust=nominal.tau_thrust * factor(bounds.motor_time),
        trim=rng.uniform(-bounds.trim, bounds.trim, 2),
    )


@njit(cache=True)
def _derivative(s: Array, command: Array, force: Array, p: IdentifiedParameters, out: Array) -> None:
    """``out`` (STATE_SIZE,) <- time derivative of ``s``.

    Args:
        s: (STATE_SIZE,).
        command: (4,) roll, pitch [rad], yaw rate [rad/s], thrust [N].
        force: (3,) external, world frame [N].
        p: the vehicle.
        out: result.
    """
    cr, sr, cp, sp = np.cos(s[6]), np.sin(s[6]), np.cos(s[7]), np.sin(s[7])
    cy, sy = np.cos(s[8]), np.sin(s[8])
    r = np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )
    body_force = p.drag * (r.T @ s[3:6])
    body_force[2] += p.k * s[12]
    out[0:3] = s[3:6]
    out[3:6] = (r @ body_force + force) / p.mass
    out[5] -= p.gravity
    out[6:9] = s[9:12]
    out[9] = p.a[0] * (s[6] + p.trim[0]) + p.b[0] * s[9] + p.c[0] * command[0]
    out[10] = p.a[1] * (s[7] + p.trim[1]) + p.b[1] * s[10] + p.c[1] * command[1]
    out[11] = p.a[2] * s[8] + p.b[2] * s[11] + p.c[2] * s[13]
    out[12] = (command[3] - s[12]) / p.tau_thrust
    out[13] = command[2]


@njit(cache=True)
def _simulate(s: Array, command: Array, force: Array, steps: int, p: IdentifiedParameters) -> None:
    """``steps`` classical Runge-Kutta steps, in place; the floor stops a fall and holds the vehicle level."""
    k1, k2, k3, k4 = np.empty(STATE_SIZE), np.empty(STATE_SIZE), np.empty(STATE_SIZE), np.empty(STATE_SIZE)
    for _ in range(steps):
        _derivative(s, command, force, p, k1)
        _derivative(s + 0.5 * STEP * k1, command, force, p, k2)
        _derivative(s + 0.5 * STEP * k2, command, force, p, k3)
        _derivative(s + STEP * k3, command, force, p, k4)
        s += STEP / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
        if s[2] <= 0.0 and s[5] <= 0.0:
            s[2] = 0.0
            s[3:6] = 0.0
            s[6:8] = 0.0
            s[9:12] = 0.0


class IdentifiedVehicle:
    """One such vehicle; deterministic."""

    def __init__(self, parameters: IdentifiedParameters, thrust_map: ThrustMap) -> None:
        """A vehicle at the origin, which takes thrust through ``thrust_map`` as its firmware does."""
        self.parameters = parameters
        self._thrust_map = thrust_map
        self._voltage = plant_config().battery.full_voltage  # a battery is no part of the identification
        self.reset(np.zeros(3), 0.0)

    def reset(self, position: Array, yaw: float = 0.0) -> None:
        """Rest at ``position`` (3,) [m] with heading ``yaw`` [rad], which it holds; motors off, falling."""
        self._state = np.zeros(STATE_SIZE)
        self._state[POS] = position
        self._state[8] = yaw
        self._state[HEADING] = -self.parameters.a[2] / self.parameters.c[2] * yaw
        self._tick = 0
        self._pending = 0.0

    def hover(self) -> None:
        """Continue as if it had hovered here for long: the motors carry the weight."""
        p = self.parameters
        self._state[THRUST] = p.mass * p.gravity / p.k

    def step(self, dt: float, command: Command, force: ArrayLike = _NO_FORCE) -> None:
        """Fly ``dt`` [s] with an attitude command in SI and ROS signs.

        Args:
            dt: rounded to whole steps; what is left over counts in the next call.
            command: roll, pitch [rad], yaw rate [rad/s], thrust [N of the nominal vehicle, see ``ThrustMap``].
            force: (3,) external force, world frame [N].
        """
        self._pending += dt
        steps = int(self._pending / STEP + 1e-6)
        self._pending -= steps * STEP
        thrust = self._thrust_map.motor_force(self._thrust_map.integer(command.thrust))
        flown = np.array([command.roll, command.pitch, command.yaw_rate, thrust])
        _simulate(self._state, flown, np.array(force, dtype=np.float64), steps, self.parameters)
        self._tick += steps

    @property
    def truth(self) -> Truth:
        """A snapshot of what the vehicle really does; yaw in [-pi, pi]."""
        s = self._state.copy()
        rpy = s[RPY]
        rpy[2] = math.remainder(rpy[2], math.tau)
        rates = body_rates_from_rpy_rate(rpy, s[RPY_RATE])
        t = self._tick * STEP
        return Truth(t, s[POS], s[VEL], quat_from_rpy(rpy), rpy, rates, float(s[THRUST]), self._voltage)


def draw_identified(name: str, bounds: DisturbanceConfig, rng: np.random.Generator) -> tuple[IdentifiedParameters, str]:
    """A vehicle around the set ``name``, and its platform.

    Raises:
        UserError: naming the known sets.
    """
    sets = identified_vehicles()
    if name not in sets:
        raise UserError(f"unknown vehicle {name!r}; choose one of default, {', '.join(sorted(sets))}")
    return perturb_identified(sets[name].parameters(), bounds, rng), sets[name].platform
