"""Collective thrust against the setpoint's integer, of each platform and generation of the firmware.

Policy, estimate and safety know one vehicle, that of the nominal model, m0 = 0.0318 kg. One of mass m moves alike when
all its forces are m / m0 times as large, so this is where its mass ends: in front of the map thrust is in newtons of
the nominal vehicle, f = F m0 / m; behind it are the F newtons that the motors give.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from deq_mpc_controller.units import Kilogram, Newton, Number
from deq_mpc_core.config import Config, load_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.models.crazyflie import attitude_models

THRUST_FULL = 65535
"""Largest integer that the packet holds."""
THRUST_CLIP = 60000
"""Above it the firmware's RPYT decoder clips."""
THRUST_DEAD_ZONE = 1000
"""Below it the firmware's RPYT decoder takes the thrust as zero."""
_RELEASE = re.compile(r"(\d{4})\.(\d{2})(?:\.(\d+))?")


@dataclass(frozen=True)
class ThrustMap:
    """Collective thrust over the setpoint's integer: F = force_at_full u / 65535.

    Attributes:
        force_at_full: of the motors at 65535 [N].
        load: m / m0, the vehicle's mass over that of the nominal model.
        arms_itself: whether the platform's firmware does, which its supervisor reports; None: not known.
    """

    force_at_full: float
    load: float = 1.0
    arms_itself: bool | None = None

    @property
    def force_max(self) -> float:
        """Largest thrust that the firmware applies [N of the nominal vehicle]."""
        return self.force(THRUST_CLIP)

    def motor_force(self, integer: int) -> float:
        """Collective thrust F [N] that the motors give for a setpoint's integer."""
        effective = 0 if integer < THRUST_DEAD_ZONE else min(integer, THRUST_CLIP)
        return self.force_at_full * effective / THRUST_FULL

    def force(self, integer: int) -> float:
        """The same as thrust of the nominal vehicle [N]: f = F m0 / m."""
        return self.motor_force(integer) / self.load

    def integer(self, force: float) -> int:
        """Setpoint's integer for a thrust of the nominal vehicle [N]; saturates at 0 and at the firmware's clip."""
        return round(min(max(force * self.load / self.force_at_full * THRUST_FULL, 0.0), float(THRUST_CLIP)))


class _ThrustEntry(Config):
    force_at_full: Newton


class _Platform(Config):
    """Mass ready to fly, whether it arms by itself, and the thrust map of each generation, by its first release."""

    mass: Kilogram
    arms_itself: bool
    generations: dict[str, _ThrustEntry]


class _ThrustMaps(Config):
    """``config/thrust_maps.yaml``."""

    mass_min: Kilogram
    hover_share_max: Number
    platforms: dict[str, _Platform]


def load_thrust_map(platform: str, firmware: str, mass: float = 0.0) -> ThrustMap:
    """Thrust map of a platform (``cf21_legacy_props``) under a firmware release (``2026.04``).

    A release belongs to the newest generation that is not newer than itself. ``mass`` [kg] is the vehicle's, ready to
    fly; 0: the platform's.

    Raises:
        UserError: naming the known platforms or generations, or the masses that it can fly with.
    """
    config = load_config("thrust_maps", _ThrustMaps)
    if platform not in config.platforms:
        raise UserError(f"unknown platform {platform!r}; choose one of {', '.join(sorted(config.platforms))}")
    release = _release(firmware)
    entry = config.platforms[platform]
    generations = sorted(entry.generations, key=_release)
    known = [name for name in generations if _release(name) <= release]
    if not known:
        raise UserError(
            f"no thrust map of {platform} for firmware {firmware}; known from {generations[0]} on: update it or add one"
        )
    models = attitude_models()
    force_at_full = entry.generations[known[-1]].force_at_full
    thrust_map = ThrustMap(force_at_full, (mass or entry.mass) / models.nominal.mass, entry.arms_itself)
    heaviest = config.hover_share_max * thrust_map.motor_force(THRUST_CLIP) / models.gravity
    if mass != 0.0 and not config.mass_min <= mass <= heaviest:
        raise UserError(
            f"a {platform} of {mass:g} kg cannot be flown; give its mass in kg, {config.mass_min:g} to {heaviest:.4f},"
            " or 0 for the platform's"
        )
    return thrust_map


def _release(firmware: str) -> tuple[int, int, int]:
    """Year, month and patch of a release's name."""
    match = _RELEASE.fullmatch(firmware)
    if match is None:
        raise UserError(f"{firmware!r} is no firmware release; write it as 2026.04 or 2025.12.1")
    year, month, patch = match.groups(default="0")
    return int(year), int(month), int(patch)
