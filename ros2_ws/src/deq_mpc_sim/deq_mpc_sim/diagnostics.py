"""What the controller's diagnostics say, as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from deq_mpc_sim.referee import PolicyTimes


def number(values: Mapping[str, str], key: str) -> float | None:
    """A value; None if it is not there or not a number yet."""
    value = float(values.get(key) or "nan")
    return value if math.isfinite(value) else None


def policy_times(values: Mapping[str, str]) -> PolicyTimes:
    """Running percentiles of the policy's computing time."""
    return PolicyTimes(*(number(values, f"policy_ms_{name}") for name in ("p50", "p99", "max")))
