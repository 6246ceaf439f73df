"""The virtual Crazyflie's guardian: what it does with setpoints, and when it stops the motors.

As the firmware: thrust is locked until a setpoint with zero thrust arrives; a setpoint older than 0.5 s levels out, one
older than 2 s stops the motors, which in flight locks the vehicle until it is rebooted. Time is always an argument [s].
"""

from __future__ import annotations

import math
import struct
from enum import IntFlag

from deq_mpc_controller.conversions import SETPOINT_PACKET, THRUST_CLIP, THRUST_DEAD_ZONE
from deq_mpc_sim.firmware import Setpoint
from deq_mpc_sim.vehicle import STOP

LEVEL_AFTER, STOP_AFTER = 0.5, 2.0  # s: ages of the setpoint
WATCHDOG_PERIOD = 1.0  # s: the emergency-stop watchdog, once fed
FLYING_MEMORY = 2.0  # s: it counts as flying this long after the motors last turned
TUMBLE_ANGLE, TUMBLE_TIME = math.radians(60.0), 1.0  # tilted more than this for so long [s]
DISARM_LANDED, DISARM_IDLE = 3.0, 30.0  # s: a vehicle that does not arm itself, after landing and before flying

_MANUAL = struct.Struct("<fffHB")


class Bit(IntFlag):
    """``supervisor.info``."""

    CAN_ARM = 1
    ARMED = 2
    AUTO_ARM = 4
    CAN_FLY = 8
    FLYING = 16
    TUMBLED = 32
    LOCKED = 64
    CRASHED = 128
    HIGH_LEVEL_OFF = 1024


class Supervisor:
    """Arming, locks and timeouts of one vehicle."""

    def __init__(self, auto_arm: bool) -> None:
        """A vehicle at rest.

        Args:
            auto_arm: whether it arms itself (brushed Crazyflies do, the Brushless does not).
        """
        self._auto_arm = auto_arm
        self._armed_by_user = False
        self._armed_at = -math.inf
        self._thrust_locked = True
        self._setpoint = STOP
        self._received = -math.inf
        self._last_thrust = -math.inf
        self._watchdog_fed: float | None = None
        self._tilted_since: float | None = None
        self.tumbled = False
        self.crashed = False
        self.locked = False

    @property
    def _sound(self) -> bool:
        return not (self.tumbled or self.crashed or self.locked)

    @property
    def armed(self) -> bool:
        """Whether the motors may turn."""
        return self._sound and (self._auto_arm or self._armed_by_user)

    def flying(self, t: float) -> bool:
        """Whether the motors turn or did so a moment ago."""
        return t - self._last_thrust < FLYING_MEMORY

    def bits(self, t: float) -> int:
        """``supervisor.info``."""
        bits = Bit.HIGH_LEVEL_OFF
        bits |= Bit.CAN_ARM if self._sound else Bit(0)
        bits |= Bit.ARMED | Bit.CAN_FLY if self.armed else Bit(0)
        bits |= Bit.AUTO_ARM if self._auto_arm else Bit(0)
        bits |= Bit.FLYING if self.flying(t) else Bit(0)
        bits |= Bit.TUMBLED if self.tumbled else Bit(0)
        bits |= Bit.LOCKED if self.locked else Bit(0)
        bits |= Bit.CRASHED if self.crashed else Bit(0)
        return int(bits)

    def receive_rpyt(self, payload: bytes, t: float) -> None:
        """A roll-pitch-yawrate-thrust setpoint: degrees, pitch nose up, yaw rate clockwise, motor count."""
        if len(payload) < SETPOINT_PACKET.size:
            return
        roll, pitch, clockwise, thrust = SETPOINT_PACKET.unpack_from(payload)
        if thrust == 0:
            self._thrust_locked = False
        self._accept(roll, pitch, -clockwise, 0 if self._thrust_locked else thrust, t)

    def receive_manual(self, payload: bytes, t: float) -> None:
        """A manual setpoint: as above, but yaw rate counter-clockwise and no thrust lock. Rate mode is refused."""
        if len(payload) < _MANUAL.size:
            return
        roll, pitch, yaw_rate, thrust, rate_mode = _MANUAL.unpack_from(payload)
        if not rate_mode:
            self._accept(roll, pitch, yaw_rate, thrust, t)

    def receive_stop(self, t: float) -> None:
        """A stop setpoint: motors off."""
        self._setpoint, self._received = STOP, t

    def _accept(self, roll: float, pitch: float, yaw_rate: float, thrust: int, t: float) -> None:
        """Follow a setpoint; one that is not finite stops the motors (the real controller would lose its mind)."""
        finite = all(math.isfinite(value) for value in (roll, pitch, yaw_rate))
        count = float(min(thrust, THRUST_CLIP)) if finite and thrust >= THRUST_DEAD_ZONE else 0.0
        self._setpoint = Setpoint(roll, pitch, yaw_rate, count) if count > 0.0 else STOP
        self._received = t

    def arm(self, on: bool, t: float) -> bool:
        """Arm or disarm on request; says whether it is as requested now."""
        self._armed_by_user = on and self._sound
        self._armed_at = t
        return self._armed_by_user == on

    def recover(self) -> bool:
        """Forget a crash, if the vehicle stands upright; says whether it may fly again."""
        self.crashed = self.crashed and self.tumbled
        return self._sound

    def emergency_stop(self) -> None:
        """Motors off until a reboot."""
        self.locked = True

    def feed_watchdog(self, t: float) -> None:
        """From the first call on, a pause of more than a second is an emergency stop."""
        self._watchdog_fed = t

    def decide(self, t: float, tilt: float) -> Setpoint:
        """The setpoint to follow now; ``tilt`` is the angle between the vehicle's and the world's z axis [rad]."""
        self._watch(t, tilt)
        age = t - self._received
        if age > STOP_AFTER:
            self._thrust_locked = True
            self.locked = self.locked or self.flying(t)
        if age > STOP_AFTER or not self.armed:
            return STOP
        if self._setpoint.thrust > 0.0:
            self._last_thrust = t
        return self._setpoint if age <= LEVEL_AFTER else Setpoint(0.0, 0.0, 0.0, self._setpoint.thrust)

    def _watch(self, t: float, tilt: float) -> None:
        """Watchdog, tumbling and the time-outs of the arming."""
        if self._watchdog_fed is not None and t - self._watchdog_fed > WATCHDOG_PERIOD:
            self.locked = True
        if tilt <= TUMBLE_ANGLE:
            self._tilted_since = None
        elif self._tilted_since is None:
            self._tilted_since = t
        self.tumbled = self._tilted_since is not None and t - self._tilted_since >= TUMBLE_TIME
        self.crashed = self.crashed or (self.tumbled and self.flying(t))
        flown = self._last_thrust > self._armed_at
        idle = t - self._last_thrust if flown else t - self._armed_at
        if idle > (DISARM_LANDED if flown else DISARM_IDLE):
            self._armed_by_user = False
