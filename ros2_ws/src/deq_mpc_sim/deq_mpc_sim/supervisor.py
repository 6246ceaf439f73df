"""The virtual Crazyflie's guardian: whether the motors may turn, and what becomes of an old setpoint.

As the firmware: a setpoint older than 0.5 s levels out, one older than 2 s stops the motors, which in flight locks the
vehicle until it is rebooted. Time is always an argument [s].
"""

from __future__ import annotations

import math
from enum import IntFlag

from deq_mpc_sim.targets import STOP, Target

LEVEL_AFTER, STOP_AFTER = 0.5, 2.0  # s: ages of the setpoint
WATCHDOG_PERIOD = 1.0  # s: the emergency-stop watchdog, once fed
FLYING_MEMORY = 2.0  # s: it counts as flying this long after the motors last turned
TUMBLE_ANGLE, TUMBLE_TIME = math.radians(60.0), 1.0  # tilted more than this for so long [s]
DISARM_LANDED, DISARM_IDLE = 3.0, 30.0  # s: a vehicle that does not arm itself, after landing and before flying


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
    HIGH_LEVEL_ACTIVE = 256
    HIGH_LEVEL_DONE = 512
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

    def bits(self, t: float) -> Bit:
        """``supervisor.info``, but for the high-level commander's bits."""
        bits = Bit.CAN_ARM if self._sound and not self.armed else Bit(0)
        bits |= Bit.ARMED | Bit.CAN_FLY if self.armed else Bit(0)
        bits |= Bit.AUTO_ARM if self._auto_arm else Bit(0)
        bits |= Bit.FLYING if self.flying(t) else Bit(0)
        bits |= Bit.TUMBLED if self.tumbled else Bit(0)
        bits |= Bit.LOCKED if self.locked else Bit(0)
        return bits | (Bit.CRASHED if self.crashed else Bit(0))

    def arm(self, on: bool, t: float) -> bool:
        """Arm or disarm on request; says whether it is as requested now."""
        if on and self._sound and self._armed_by_user:
            return True
        self._armed_by_user = on and self._sound
        self._armed_at = t
        return self._armed_by_user == on

    def recover(self) -> bool:
        """Forget a crash, if the vehicle stands upright; says whether none is left."""
        self.crashed = self.crashed and self.tumbled
        return not self.crashed

    def emergency_stop(self) -> None:
        """Motors off until a reboot."""
        self.locked = True

    def feed_watchdog(self, t: float) -> None:
        """From the first call on, a pause of more than a second is an emergency stop."""
        self._watchdog_fed = t

    def decide(self, t: float, target: Target, age: float, tilt: float, turning: bool) -> Target:
        """What to do instead of ``target``, or that.

        Args:
            t: now [s].
            target: what the commander asks for.
            age: of it [s].
            tilt: angle between the vehicle's and the world's z axis [rad].
            turning: whether the motors turn.
        """
        if turning:
            self._last_thrust = t
        self._watch(t, tilt)
        if age > STOP_AFTER or (age > LEVEL_AFTER and self.tumbled):
            self.locked = self.locked or self.flying(t)
        if age > STOP_AFTER or not self.armed:
            return STOP
        return target if age <= LEVEL_AFTER else target.levelled

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
