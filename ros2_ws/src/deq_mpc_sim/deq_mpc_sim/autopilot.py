"""The firmware's chain from setpoints to motors: commander, high-level commander, supervisor, position controller.

The commander holds the setpoint of the highest priority, the supervisor overrides it, the position controller turns it
into attitude and thrust, which the vehicle's inner loops follow. What needs the position runs at 100 Hz.
"""

from __future__ import annotations

import math

from deq_mpc_sim.battery_gauge import BatteryGauge
from deq_mpc_sim.commander import Commander, Priority
from deq_mpc_sim.firmware import Setpoint
from deq_mpc_sim.high_level import HighLevelCommander
from deq_mpc_sim.onboard_estimate import OnboardEstimate
from deq_mpc_sim.parameter_store import ParameterStore
from deq_mpc_sim.planner import Phase
from deq_mpc_sim.position_control import PERIOD, Motion, PositionController, position_gains
from deq_mpc_sim.supervisor import Bit, Supervisor
from deq_mpc_sim.targets import STOP, Mode, Target, generic_target
from deq_mpc_sim.vehicle import Vehicle

_ROUNDING = 1e-9  # s


class Autopilot:
    """All of it for one vehicle, from one boot to the next. Times are the vehicle's [s]."""

    def __init__(self, vehicle: Vehicle, parameters: ParameterStore, auto_arm: bool) -> None:
        """The state after a boot; see ``VirtualCrazyflie``."""
        self.supervisor = Supervisor(auto_arm)
        self.high_level = HighLevelCommander(parameters)
        self.estimate = OnboardEstimate(vehicle.truth)
        self.gauge = BatteryGauge(vehicle.t)
        self.target = STOP
        self.controller = PositionController(position_gains(parameters.value))
        self._vehicle = vehicle
        self._parameters = parameters
        self._commander = Commander()
        self._due = vehicle.t
        self._follow(STOP)

    @property
    def motion(self) -> Motion:
        """The estimate now."""
        return self.estimate.motion(self._vehicle.truth)

    def bits(self, t: float) -> Bit:
        """``supervisor.info``."""
        planner = self.high_level.planner
        bits = self.supervisor.bits(t)
        bits |= Bit(0) if planner.phase is Phase.IDLE else Bit.HIGH_LEVEL_ACTIVE
        return bits | (Bit.HIGH_LEVEL_DONE if planner.done(t) else Bit(0))

    def decide(self, t: float) -> Setpoint:
        """What the inner loops follow from now on."""
        slow = t >= self._due - _ROUNDING
        if slow:
            self._due = t + PERIOD
            self._plan(t)
        turning = bool(self._vehicle.motor_counts.any())
        age = self._commander.age(t)
        target = self.supervisor.decide(t, self._commander.target, age, self._vehicle.tilt, turning)
        if slow or target.modes != self.target.modes or (target.xy is Mode.OFF and target.z is Mode.OFF):
            self._follow(target)
        return self.setpoint

    def receive_rpyt(self, payload: bytes, t: float) -> None:
        """A packet of port 3."""
        if self._commander.receive_rpyt(payload, t):
            self.high_level.planner.stop()

    def receive_generic(self, packet: bytes, t: float) -> None:
        """A setpoint of port 7."""
        target = generic_target(packet)
        if target is not None and self._commander.submit(target, Priority.PACKETS, t):
            self.high_level.planner.stop()

    def relax(self) -> None:
        """Let the high-level commander take over, from where the vehicle is."""
        self.high_level.planner.tell(self.motion)
        self._commander.relax()

    def receive_high_level(self, packet: bytes, t: float) -> bytes:
        """A command of port 8; the reply."""
        if self.high_level.planner.phase is Phase.IDLE:
            self.high_level.planner.tell(self.motion)  # the estimate may have been reset since the last plan
        return self.high_level.receive(packet, t, blocked=not self.supervisor.armed)

    def apply_parameters(self) -> None:
        """What written parameters set off."""
        self.controller.gains = position_gains(self._parameters.value)
        if self._parameters.value("kalman.resetEstimation"):
            x, y, z, yaw = (self._parameters.value(f"kalman.initial{name}") for name in ("X", "Y", "Z", "Yaw"))
            if math.isfinite(x + y + z + yaw):
                self.estimate.reset(self._vehicle.truth, (x, y, z), yaw)
            self._parameters.set("kalman.resetEstimation", 0)
        if self._parameters.value("stabilizer.stop"):
            self.supervisor.emergency_stop()

    def _plan(self, t: float) -> None:
        """Ask the high-level commander, unless the supervisor forbids to fly; look at the battery."""
        planner = self.high_level.planner
        if self.supervisor.armed:
            self._commander.submit(planner.target(t, self.motion), Priority.HIGH_LEVEL, t)
        else:
            planner.stop()
        self.gauge.watch(t, float(self._vehicle.truth.voltage), self._parameters.value("pm.lowVoltage"))

    def _follow(self, target: Target) -> None:
        self.target = target
        setpoint = self.controller.update(target, self.motion)
        self.setpoint = setpoint._replace(yaw=setpoint.yaw - math.degrees(self.estimate.turn))
