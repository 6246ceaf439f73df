"""The simulated Crazyflie as one object: body and on-board controller, stepped together at 1 kHz and 500 Hz.

vehicle = Vehicle(seeded_parameters)
vehicle.reset(position, yaw)
vehicle.step(0.01, Command(roll, pitch, yaw_rate, thrust), force)
vehicle.truth.pos
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from deq_mpc_controller.conversions import THRUST_CLIP, THRUST_DEAD_ZONE, rpy_rate_from_body_rates
from deq_mpc_core.policy.interface import Command
from deq_mpc_core.rotations import rpy_from_quat
from deq_mpc_sim import firmware, plant
from deq_mpc_sim.firmware import FirmwareGains, Setpoint
from deq_mpc_sim.parameters import PlantConfig, plant_config
from deq_mpc_sim.plant import PlantParameters, advance_body

Array = NDArray[np.float64]

STEP = 0.001  # s: of the physics
STOP = Setpoint(0.0, 0.0, 0.0, 0.0)
_NO_FORCE = (0.0, 0.0, 0.0)


class Truth(NamedTuple):
    """What the vehicle really does; world frame, SI, ROS signs.

    Attributes:
        t: time since reset [s].
        pos, vel: (3,) [m, m/s].
        quat: (4,) xyzw.
        rpy: (3,) [rad].
        ang_vel: (3,) body rates [rad/s].
        thrust: collective [N].
        voltage: of the battery, under load [V].
    """

    t: float
    pos: Array
    vel: Array
    quat: Array
    rpy: Array
    ang_vel: Array
    thrust: float
    voltage: float

    @property
    def rpy_rate(self) -> Array:
        """(3,) rates of the Euler angles [rad/s]."""
        return rpy_rate_from_body_rates(self.rpy, self.ang_vel)

    @property
    def x(self) -> Array:
        """(13,) state of the MPC's model: pos, vel, rpy, rpy_rate, thrust."""
        return np.concatenate([self.pos, self.vel, self.rpy, self.rpy_rate, [self.thrust]])


@njit(cache=True)
def _estimate(s: Array, trim: Array, attitude: Array, gyro: Array) -> None:
    """On-board attitude [deg] and rates [deg/s], pitch positive nose up, off by ``trim``."""
    x, y, z, w = s[6], s[7], s[8], s[9]
    to_deg = 180.0 / np.pi
    attitude[0] = to_deg * (np.arctan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y)) + trim[0])
    attitude[1] = -to_deg * (np.arcsin(min(max(2.0 * (w * y - z * x), -1.0), 1.0)) + trim[1])
    attitude[2] = to_deg * np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
    gyro[0], gyro[1], gyro[2] = to_deg * s[10], -to_deg * s[11], to_deg * s[12]


@njit(cache=True)
def _simulate(
    body: Array,
    controller: Array,
    counts: Array,
    setpoint: Setpoint,
    force: Array,
    ticks: tuple[int, int],
    p: PlantParameters,
    gains: FirmwareGains,
) -> None:
    """Physics steps ``ticks[0]`` to ``ticks[1]``, in place; the controller runs at every multiple of its own period."""
    attitude, gyro = np.empty(3), np.empty(3)
    every = max(round(gains.dt / STEP), 1)
    for tick in range(ticks[0], ticks[1]):
        if tick % every == 0:
            _estimate(body, p.trim, attitude, gyro)
            firmware.control(controller, setpoint, attitude, gyro, gains, counts)
        advance_body(body, counts, force, STEP, p)


class Vehicle:
    """Body and controller of one Crazyflie; deterministic."""

    def __init__(self, parameters: PlantParameters | None = None, config: PlantConfig | None = None) -> None:
        """A vehicle at the origin.

        Args:
            parameters: the vehicle (see ``parameters.perturb``); default: the nominal one of ``config``.
            config: default: ``config/plant.yaml``. Its thrust map converts commands, whatever the motors really do.
        """
        config = config or plant_config()
        self.parameters = parameters or config.parameters()
        self._gains = config.firmware.gains()
        self._newtons_per_count = plant.MOTOR_COUNT * config.body.thrust_max / plant.FULL_COUNT
        self.reset(np.zeros(3), 0.0)

    def reset(self, position: Array, yaw: float = 0.0, parameters: PlantParameters | None = None) -> None:
        """Stand still at ``position`` (3,) [m] with heading ``yaw`` [rad], motors off; optionally as another vehicle.

        A position above the floor means: held there, and falling from the first step on.
        """
        self.parameters = parameters or self.parameters
        self._body = plant.initial_body(np.asarray(position, dtype=np.float64), yaw, self.parameters)
        self._controller = firmware.initial_controller(float(np.rad2deg(yaw)))
        self._counts = np.zeros(plant.MOTOR_COUNT)
        self._tick = 0
        self._pending = 0.0

    def hover(self) -> None:
        """Continue as if it had hovered here for long: the motors carry the weight."""
        p = self.parameters
        weight = p.mass * p.gravity
        self._body[plant.MOTORS] = weight / plant.MOTOR_COUNT
        self._counts[:] = weight / self._newtons_per_count

    def step(self, dt: float, command: Command, force: ArrayLike = _NO_FORCE) -> None:
        """Fly ``dt`` [s] with an attitude command in SI and ROS signs, through the nominal thrust map.

        Args:
            dt: rounded to whole physics steps; what is left over counts in the next call.
            command: roll, pitch [rad], yaw rate [rad/s], collective thrust [N].
            force: (3,) external force, world frame [N].
        """
        self.step_setpoint(dt, self.setpoint(command), force)

    def setpoint(self, command: Command) -> Setpoint:
        """The command in the firmware's convention, quantised and clipped as its decoder does."""
        count = float(round(command.thrust / self._newtons_per_count))
        count = 0.0 if count < THRUST_DEAD_ZONE else min(count, float(THRUST_CLIP))
        roll, pitch, yaw_rate = (float(np.rad2deg(value)) for value in command[:3])
        return Setpoint(roll, -pitch, yaw_rate, count)

    def step_setpoint(self, dt: float, setpoint: Setpoint, force: ArrayLike = _NO_FORCE) -> None:
        """Fly ``dt`` [s] with a setpoint of the firmware; see ``step``."""
        self._pending += dt
        steps = int(self._pending / STEP + 1e-6)
        self._pending -= steps * STEP
        ticks = (self._tick, self._tick + steps)
        push = np.array(force, dtype=np.float64)
        _simulate(self._body, self._controller, self._counts, setpoint, push, ticks, self.parameters, self._gains)
        self._tick += steps

    def knock(self, rates: ArrayLike) -> None:
        """Something hits it: body rates (3,) [rad/s] on top of its own."""
        self._body[plant.RATES] += np.asarray(rates, dtype=np.float64)

    @property
    def t(self) -> float:
        """Time since reset [s]."""
        return self._tick * STEP

    @property
    def tilt(self) -> float:
        """Angle between the body's and the world's z axis [rad]."""
        x, y = float(self._body[6]), float(self._body[7])
        return math.acos(min(max(1.0 - 2.0 * (x * x + y * y), -1.0), 1.0))

    @property
    def motor_counts(self) -> Array:
        """(4,) last motor commands, 0..65535."""
        return self._counts.copy()

    @property
    def truth(self) -> Truth:
        """A snapshot of what the vehicle really does."""
        s = self._body.copy()
        quat = s[plant.QUAT]
        return Truth(
            self.t,
            s[plant.POS],
            s[plant.VEL],
            quat,
            rpy_from_quat(quat),
            s[plant.RATES],
            float(s[plant.MOTORS].sum()),
            float(s[plant.VOLTAGE]),
        )
