"""What the virtual Crazyflie logs: the firmware's variables, in its units and signs (degrees, pitch nose up)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller.conversions import log_from_body_rates, log_from_rpy
from deq_mpc_sim.firmware import Setpoint
from deq_mpc_sim.log_blocks import LogVariable
from deq_mpc_sim.supervisor import Bit
from deq_mpc_sim.vehicle import Truth

Array = NDArray[np.float64]

_EMPTY, _FULL = 3.0, 4.2  # V: of the battery gauge


@dataclass(frozen=True)
class Telemetry:
    """A snapshot.

    Attributes:
        truth: of the vehicle.
        pos: (3,) the on-board estimate of the position [m].
        rpy: (3,) the on-board estimate of the attitude [rad], ROS signs.
        setpoint: what the controller follows.
        motors: (4,) counts.
        bits: the supervisor's.
        low_voltage: below it the battery counts as low [V].
    """

    truth: Truth
    pos: Array
    rpy: Array
    setpoint: Setpoint
    motors: Array
    bits: int
    low_voltage: float

    @property
    def attitude(self) -> tuple[float, float, float]:
        """Roll, pitch (nose up), yaw [deg]."""
        return log_from_rpy(self.rpy)

    @property
    def gyro(self) -> tuple[float, float, float]:
        """Body rates [deg/s]: x forward, y left, z up."""
        return log_from_body_rates(self.truth.ang_vel)


def _has(bit: Bit) -> LogVariable[Telemetry]:
    return LogVariable("B", lambda s: bool(s.bits & bit))


def _battery_level(s: Telemetry) -> float:
    return float(np.clip(100.0 * (s.truth.voltage - _EMPTY) / (_FULL - _EMPTY), 0.0, 100.0))


VARIABLES: dict[str, LogVariable[Telemetry]] = {
    "controller.cmd_thrust": LogVariable("f", lambda s: s.setpoint.thrust),
    "ctrltarget.pitch": LogVariable("f", lambda s: s.setpoint.pitch),
    "ctrltarget.roll": LogVariable("f", lambda s: s.setpoint.roll),
    "ctrltarget.yaw": LogVariable("f", lambda s: s.setpoint.yaw_rate),
    "gyro.x": LogVariable("f", lambda s: s.gyro[0]),
    "gyro.y": LogVariable("f", lambda s: s.gyro[1]),
    "gyro.z": LogVariable("f", lambda s: s.gyro[2]),
    "motor.m1": LogVariable("H", lambda s: s.motors[0]),
    "motor.m2": LogVariable("H", lambda s: s.motors[1]),
    "motor.m3": LogVariable("H", lambda s: s.motors[2]),
    "motor.m4": LogVariable("H", lambda s: s.motors[3]),
    "pm.batteryLevel": LogVariable("B", _battery_level),
    "pm.state": LogVariable("b", lambda s: 3 if s.truth.voltage < s.low_voltage else 0),
    "pm.vbat": LogVariable("f", lambda s: s.truth.voltage),
    "pm.vbatMV": LogVariable("H", lambda s: 1000.0 * s.truth.voltage),
    "radio.rssi": LogVariable("B", lambda s: 40),
    "stabilizer.pitch": LogVariable("f", lambda s: s.attitude[1]),
    "stabilizer.roll": LogVariable("f", lambda s: s.attitude[0]),
    "stabilizer.thrust": LogVariable("f", lambda s: s.setpoint.thrust),
    "stabilizer.yaw": LogVariable("f", lambda s: s.attitude[2]),
    "stateEstimate.pitch": LogVariable("f", lambda s: s.attitude[1]),
    "stateEstimate.roll": LogVariable("f", lambda s: s.attitude[0]),
    "stateEstimate.vx": LogVariable("f", lambda s: s.truth.vel[0]),
    "stateEstimate.vy": LogVariable("f", lambda s: s.truth.vel[1]),
    "stateEstimate.vz": LogVariable("f", lambda s: s.truth.vel[2]),
    "stateEstimate.x": LogVariable("f", lambda s: s.pos[0]),
    "stateEstimate.y": LogVariable("f", lambda s: s.pos[1]),
    "stateEstimate.yaw": LogVariable("f", lambda s: s.attitude[2]),
    "stateEstimate.z": LogVariable("f", lambda s: s.pos[2]),
    "supervisor.info": LogVariable("H", lambda s: s.bits),
    "sys.canfly": _has(Bit.CAN_FLY),
    "sys.isFlying": _has(Bit.FLYING),
    "sys.isTumbled": _has(Bit.TUMBLED),
}
