"""The network's inputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.networks.config import FeatureConfig

Array = NDArray[np.float64]


def scan_directions(config: FeatureConfig) -> Array:
    """(rays, 3) unit vectors of the range scan, yaw frame: for each elevation around from straight ahead."""
    azimuth = 2.0 * np.pi * np.arange(config.scan_azimuths) / config.scan_azimuths
    elevation = np.repeat(np.asarray(config.scan_elevations), config.scan_azimuths)
    azimuth = np.tile(azimuth, len(config.scan_elevations))
    horizontal = np.cos(elevation)
    return np.stack([horizontal * np.cos(azimuth), horizontal * np.sin(azimuth), np.sin(elevation)], axis=1)
