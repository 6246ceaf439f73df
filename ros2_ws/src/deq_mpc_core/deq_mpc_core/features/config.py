"""Configuration of the features: section ``network.features`` of ``config/policy.yaml``, which states the units."""

from __future__ import annotations

from pydantic import Field

from deq_mpc_core.config import Config


class FeatureConfig(Config):
    """Scales and sampling of the network's inputs; see ``features/flight.py`` for the formulas."""

    length_scale: float = Field(gt=0)
    speed_scale: float = Field(gt=0)
    tilt_scale: float = Field(gt=0)
    rate_scale: float = Field(gt=0)
    obstacle_speed_scale: float = Field(gt=0)
    radius_scale: float = Field(gt=0)
    goal_near: float = Field(gt=0)
    surface_min: float = Field(gt=-1)
    surface_max: float = Field(gt=0)
    scan_azimuths: int = Field(ge=1)
    scan_elevations: tuple[float, ...] = Field(min_length=1, strict=False)
    scan_margin: float = Field(ge=0)
    scan_range: float = Field(gt=0)

    @property
    def scan_size(self) -> int:
        """Number of rays."""
        return self.scan_azimuths * len(self.scan_elevations)
