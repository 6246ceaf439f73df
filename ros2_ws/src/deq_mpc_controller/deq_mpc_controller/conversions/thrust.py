"""Collective thrust against the setpoint's integer, of each platform and generation of the firmware."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deq_mpc_controller.units import Newton
from deq_mpc_core.config import Config, load_config
from deq_mpc_core.errors import UserError

THRUST_FULL = 65535
"""Largest integer that the packet holds."""
THRUST_CLIP = 60000
"""Above it the firmware's RPYT decoder clips."""
THRUST_DEAD_ZONE = 1000
"""Below it the firmware's RPYT decoder takes the thrust as zero."""
_RELEASE = re.compile(r"(\d{4})\.(\d{2})(?:\.(\d+))?")


@dataclass(frozen=True)
class ThrustMap:
    """Collective thrust over the setpoint's integer: F = force_at_full u / 65535."""

    force_at_full: float

    @property
    def force_max(self) -> float:
        """Largest thrust that the firmware applies [N]."""
        return self.force(THRUST_CLIP)

    def force(self, integer: int) -> float:
        """Collective thrust [N] that the firmware applies for a setpoint's integer."""
        effective = 0 if integer < THRUST_DEAD_ZONE else min(integer, THRUST_CLIP)
        return self.force_at_full * effective / THRUST_FULL

    def integer(self, force: float) -> int:
        """Setpoint's integer for a collective thrust [N]; saturates at 0 and at the firmware's clip."""
        return round(min(max(force / self.force_at_full * THRUST_FULL, 0.0), float(THRUST_CLIP)))


class _ThrustEntry(Config):
    force_at_full: Newton


class _ThrustMaps(Config):
    """``config/thrust_maps.yaml``: platform, then the first firmware release of the generation."""

    platforms: dict[str, dict[str, _ThrustEntry]]


def load_thrust_map(platform: str, firmware: str) -> ThrustMap:
    """Thrust map of a platform (``cf21_legacy_props``) under a firmware release (``2026.04``).

    A release belongs to the newest generation that is not newer than itself.

    Raises:
        UserError: naming the known platforms or generations.
    """
    platforms = load_config("thrust_maps", _ThrustMaps).platforms
    if platform not in platforms:
        raise UserError(f"unknown platform {platform!r}; choose one of {', '.join(sorted(platforms))}")
    release = _release(firmware)
    generations = sorted(platforms[platform], key=_release)
    known = [name for name in generations if _release(name) <= release]
    if not known:
        raise UserError(
            f"no thrust map of {platform} for firmware {firmware}; known from {generations[0]} on: update it or add one"
        )
    return ThrustMap(platforms[platform][known[-1]].force_at_full)


def _release(firmware: str) -> tuple[int, int, int]:
    """Year, month and patch of a release's name."""
    match = _RELEASE.fullmatch(firmware)
    if match is None:
        raise UserError(f"{firmware!r} is no firmware release; write it as 2026.04 or 2025.12.1")
    year, month, patch = match.groups(default="0")
    return int(year), int(month), int(patch)
