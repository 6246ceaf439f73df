"""Configuration of the networks; the flight's is section ``network`` of ``config/policy.yaml``, with the units."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from deq_mpc_core.config import Config
from deq_mpc_core.features.config import FeatureConfig


class FixedPointConfig(Config):
    """Anderson acceleration and the gradient through its result; see ``networks/fixed_point.py``.

    gradient: phantom, implicit or last, see ``networks/cores.py``.
    phantom_steps: of the phantom gradient.
    engine: what computes with the block, see ``networks/cores.py`` and ``networks/compiled_block.py``.
    """

    memory: int = Field(ge=1)
    mixing: float = Field(gt=0, le=1)
    max_steps: int = Field(ge=1)
    tolerance: float = Field(ge=0)
    regularisation: float = Field(gt=0)
    gradient: Literal["phantom", "implicit", "last"]
    phantom_steps: int = Field(default=1, ge=1)
    engine: Literal["torch", "compiled"] = "torch"


class CoreConfig(Config):
    """Core of a network; see ``networks/cores.py``."""

    kind: Literal["nn", "deq"]
    hidden: int = Field(ge=8, le=1024)
    groups: int = Field(ge=1)
    blocks: int = Field(ge=1)
    fixed_point: FixedPointConfig

    @model_validator(mode="after")
    def _check_groups(self) -> CoreConfig:
        if self.hidden % self.groups:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of groups ({self.groups})")
        return self


class NetworkConfig(CoreConfig):
    """Architecture of the waypoint network; see ``networks/waypoints.py``."""

    heads: int = Field(ge=1)
    token_layers: int = Field(ge=0)
    query_layers: int = Field(ge=1)
    reference_speed: float = Field(gt=0)
    approach_rate: float = Field(gt=0)
    position_scale: float = Field(gt=0)
    velocity_scale: float = Field(gt=0)
    goal_authority: float = Field(default=1.0, gt=0)
    features: FeatureConfig

    @model_validator(mode="after")
    def _check_heads(self) -> NetworkConfig:
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        return self
