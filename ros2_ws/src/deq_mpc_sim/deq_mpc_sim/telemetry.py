"""What the virtual Crazyflie logs: the firmware's variables, in its units and signs (degrees, pitch nose up).

``SOURCES`` has those that the simulation knows; every other variable of ``config/toc.yaml`` is always 0. The
accelerometer feels the rotors' thrust alone, or the floor; there is no drag, no noise and no bias in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller.conversions import log_from_body_rates, log_from_rpy
from deq_mpc_core.rotations import quat_from_rpy, rotate
from deq_mpc_sim.battery_gauge import BatteryState, battery_level
from deq_mpc_sim.firmware import Setpoint
from deq_mpc_sim.log_blocks import LogVariable
from deq_mpc_sim.position_control import Motion
from deq_mpc_sim.supervisor import Bit
from deq_mpc_sim.targets import Target
from deq_mpc_sim.toc import CHARACTERS, TocSize, toc_config
from deq_mpc_sim.vehicle import Truth

Array = NDArray[np.float64]

_MILLI = 1000.0
_RSSI = 40  # -dBm: a radio nearby


@dataclass(frozen=True)
class Telemetry:
    """A snapshot.

    Attributes:
        truth: of the vehicle.
        motion: the on-board estimate of position, velocity and heading.
        rpy: (3,) the on-board estimate of the attitude [rad], ROS signs.
        lift: the rotors' thrust by the vehicle's weight; 1 on the floor.
        target: what the supervisor lets the controller follow.
        setpoint: what its inner loops follow.
        wanted_velocity: (3,) of the position controller, in the heading's frame [m/s].
        external: (7,) the last external pose: position [m], quaternion xyzw.
        motors: (4,) counts.
        bits: the supervisor's.
        battery: its state.
    """

    truth: Truth
    motion: Motion
    rpy: Array
    lift: float
    target: Target
    setpoint: Setpoint
    wanted_velocity: Array
    external: Array
    motors: Array
    bits: Bit
    battery: BatteryState

    @property
    def attitude(self) -> tuple[float, float, float]:
        """Roll, pitch (nose up), yaw [deg]."""
        return log_from_rpy(self.rpy)

    @property
    def gyro(self) -> tuple[float, float, float]:
        """Body rates [deg/s]: x forward, y left, z up."""
        return log_from_body_rates(self.truth.ang_vel)

    @property
    def quat(self) -> Array:
        """(4,) attitude, xyzw."""
        return quat_from_rpy(self.rpy)

    @property
    def acceleration(self) -> Array:
        """(3,) in the estimate's world, without gravity [g]."""
        return np.asarray(rotate(self.quat, np.array([0.0, 0.0, self.lift])) - np.array([0.0, 0.0, 1.0]))

    @property
    def body_velocity(self) -> Array:
        """(3,) in the body's frame [m/s]."""
        x, y, z, w = self.quat
        return np.asarray(rotate(np.array([-x, -y, -z, w]), self.motion.vel))


Source = Callable[[Telemetry], float]


def _vector(
    names: str, read: Callable[[Telemetry], Array | tuple[float, ...]], factor: float = 1.0
) -> dict[str, Source]:
    """Sources of the components of a vector, by their names."""

    def component(index: int) -> Source:
        return lambda snapshot: factor * float(read(snapshot)[index])

    return {name: component(index) for index, name in enumerate(names.split())}


def _bit(bit: Bit) -> Source:
    return lambda snapshot: bool(snapshot.bits & bit)


SOURCES: dict[str, Source] = {
    "acc.z": lambda s: s.lift,
    "baro.asl": lambda s: float(s.truth.pos[2]),
    "controller.accelz": lambda s: s.lift,
    "controller.actuatorThrust": lambda s: s.setpoint.thrust,
    "controller.cmd_thrust": lambda s: s.setpoint.thrust,
    "controller.pitch": lambda s: s.setpoint.pitch,
    "controller.roll": lambda s: s.setpoint.roll,
    "ctrltarget.mode_pitch": lambda s: s.target.tilt,
    "ctrltarget.mode_roll": lambda s: s.target.tilt,
    "ctrltarget.mode_x": lambda s: s.target.xy,
    "ctrltarget.mode_y": lambda s: s.target.xy,
    "ctrltarget.mode_yaw": lambda s: s.target.heading,
    "ctrltarget.mode_z": lambda s: s.target.z,
    "ctrltarget.pitch": lambda s: s.target.pitch,
    "ctrltarget.roll": lambda s: s.target.roll,
    "ctrltarget.thrust": lambda s: s.target.thrust,
    "ctrltarget.yaw": lambda s: s.setpoint.yaw_rate,
    "pm.batteryLevel": lambda s: battery_level(s.truth.voltage),
    "pm.state": lambda s: s.battery,
    "pm.vbat": lambda s: s.truth.voltage,
    "pm.vbatMV": lambda s: _MILLI * s.truth.voltage,
    "radio.isConnected": lambda s: 1,
    "radio.rssi": lambda s: _RSSI,
    "stabilizer.rtStab": lambda s: _MILLI,  # its loop runs at 1 kHz
    "stabilizer.thrust": lambda s: s.setpoint.thrust,
    "supervisor.accNorm": lambda s: s.lift,
    "supervisor.info": lambda s: s.bits,
    "sys.canfly": _bit(Bit.CAN_FLY),
    "sys.isFlying": _bit(Bit.FLYING),
    "sys.isTumbled": _bit(Bit.TUMBLED),
    "controller.r_pitch": lambda s: -float(s.truth.ang_vel[1]),
    "controller.r_roll": lambda s: float(s.truth.ang_vel[0]),
    "controller.r_yaw": lambda s: float(s.truth.ang_vel[2]),
    **_vector("ctrltarget.vx ctrltarget.vy ctrltarget.vz", lambda s: s.target.velocity),
    **_vector("ctrltarget.x ctrltarget.y ctrltarget.z", lambda s: s.target.position),
    **_vector("ctrltargetZ.vx ctrltargetZ.vy ctrltargetZ.vz", lambda s: s.target.velocity, _MILLI),
    **_vector("ctrltargetZ.x ctrltargetZ.y ctrltargetZ.z", lambda s: s.target.position, _MILLI),
    **_vector("ext_pos.X ext_pos.Y ext_pos.Z", lambda s: s.external),
    **_vector("gyro.x gyro.y gyro.z", lambda s: s.gyro),
    **_vector("kalman.q1 kalman.q2 kalman.q3 kalman.q0", lambda s: s.quat),
    **_vector("kalman.statePX kalman.statePY kalman.statePZ", lambda s: s.body_velocity),
    **_vector("kalman.stateX kalman.stateY kalman.stateZ", lambda s: s.motion.pos),
    **_vector("locSrv.x locSrv.y locSrv.z locSrv.qx locSrv.qy locSrv.qz locSrv.qw", lambda s: s.external),
    **_vector("motor.m1 motor.m2 motor.m3 motor.m4", lambda s: s.motors),
    **_vector("motor.m1req motor.m2req motor.m3req motor.m4req", lambda s: s.motors),
    **_vector("posCtl.targetVX posCtl.targetVY posCtl.targetVZ", lambda s: s.wanted_velocity),
    **_vector("stabilizer.roll stabilizer.pitch stabilizer.yaw", lambda s: s.attitude),
    **_vector("stateEstimate.ax stateEstimate.ay stateEstimate.az", lambda s: s.acceleration),
    **_vector("stateEstimate.qx stateEstimate.qy stateEstimate.qz stateEstimate.qw", lambda s: s.quat),
    **_vector("stateEstimate.roll stateEstimate.pitch stateEstimate.yaw", lambda s: s.attitude),
    **_vector("stateEstimate.vx stateEstimate.vy stateEstimate.vz", lambda s: s.motion.vel),
    **_vector("stateEstimate.x stateEstimate.y stateEstimate.z", lambda s: s.motion.pos),
    **_vector("stateEstimateZ.vx stateEstimateZ.vy stateEstimateZ.vz", lambda s: s.motion.vel, _MILLI),
    **_vector("stateEstimateZ.x stateEstimateZ.y stateEstimateZ.z", lambda s: s.motion.pos, _MILLI),
}
"""How to read the variables that are simulated."""


@cache
def log_variables(size: TocSize) -> dict[str, LogVariable[Telemetry]]:
    """The log variables of ``config/toc.yaml``."""
    kinds = {f"{group}.{name}": kind for group, names in toc_config().log.items() for name, kind in names.items()}
    if size == "small":
        kinds = {name: kinds[name] for name in toc_config().small.log}
    return {name: LogVariable(CHARACTERS[kind], SOURCES.get(name, _always_zero)) for name, kind in kinds.items()}


def _always_zero(_: Telemetry) -> float:
    return 0.0
