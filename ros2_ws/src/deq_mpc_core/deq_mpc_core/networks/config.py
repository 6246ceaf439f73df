"""Configuration of the policy network: section ``network`` of ``config/policy.yaml``, which states the units."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from deq_mpc_core.config import Config


class FeatureConfig(Config):
    """Scales and sampling of the network's inputs; see ``policy/features.py`` for the formulas."""

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


class FixedPointConfig(Config):
    """Anderson acceleration and the gradient through its result; see ``networks/fixed_point.py``."""

    memory: int = Field(ge=1)
    mixing: float = Field(gt=0, le=1)
    max_steps: int = Field(ge=1)
    tolerance: float = Field(ge=0)
    regularisation: float = Field(gt=0)
    gradient: Literal["phantom", "implicit"]
    phantom_steps: int = Field(ge=1)


class NetworkConfig(Config):
    """Architecture of the waypoint network; see ``networks/waypoints.py``."""

    kind: Literal["nn", "deq"]
    hidden: int = Field(ge=8, le=512)
    heads: int = Field(ge=1)
    groups: int = Field(ge=1)
    token_layers: int = Field(ge=0)
    query_layers: int = Field(ge=1)
    blocks: int = Field(ge=1)
    reference_speed: float = Field(gt=0)
    approach_rate: float = Field(gt=0)
    position_scale: float = Field(gt=0)
    velocity_scale: float = Field(gt=0)
    goal_authority: float = Field(default=1.0, gt=0)
    fixed_point: FixedPointConfig
    features: FeatureConfig

    @model_validator(mode="after")
    def _check_divisible(self) -> NetworkConfig:
        for name in ("heads", "groups"):
            if self.hidden % getattr(self, name):
                raise ValueError(f"hidden ({self.hidden}) must be a multiple of {name} ({getattr(self, name)})")
        return self
