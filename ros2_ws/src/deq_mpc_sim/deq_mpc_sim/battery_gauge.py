"""What the firmware makes of the battery's voltage: a charge level, and the state ``low``."""

from __future__ import annotations

from bisect import bisect_left
from enum import IntEnum

LOW_TIME = 5.0  # s: the voltage has to be below the limit for so long
_LEVELS = (3.00, 3.78, 3.83, 3.87, 3.89, 3.92, 3.96, 4.00, 4.04, 4.10)  # V: of 0, 10, .. 90 % in the firmware


class BatteryState(IntEnum):
    """``pm.state``; there is no charger."""

    DISCHARGING = 0
    LOW = 3


class BatteryGauge:
    """Remembers since when the voltage is low."""

    def __init__(self, t: float) -> None:
        """A gauge that begins at ``t`` [s]."""
        self._sound_at = t

    def watch(self, t: float, voltage: float, limit: float) -> None:
        """The loaded voltage [V] at ``t`` [s]; at or below ``limit`` it is low."""
        if voltage > limit:
            self._sound_at = t

    def state(self, t: float) -> BatteryState:
        """``pm.state`` at ``t`` [s]."""
        return BatteryState.LOW if t - self._sound_at > LOW_TIME else BatteryState.DISCHARGING


def battery_level(voltage: float) -> int:
    """``pm.batteryLevel`` [%], 0 to 90 in steps of 10."""
    return 10 * min(bisect_left(_LEVELS, voltage), len(_LEVELS) - 1)
