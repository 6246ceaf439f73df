"""Numbers among the controller's diagnostics."""

from __future__ import annotations

import pytest

from deq_mpc_sim.diagnostics import number, policy_times
from deq_mpc_sim.referee import PolicyTimes


@pytest.mark.parametrize(
    ("values", "expected"), [({"a": "1.5"}, 1.5), ({"a": "nan"}, None), ({"a": ""}, None), ({}, None), ({"a": "7"}, 7)]
)
def test_a_number_or_none(values: dict[str, str], expected: float | None) -> None:
    assert number(values, "a") == expected


def test_the_policys_times() -> None:
    values = {"policy_ms_p50": "0.5", "policy_ms_p99": "nan", "policy_ms_max": "2.000"}
    assert policy_times(values) == PolicyTimes(0.5, None, 2.0)
