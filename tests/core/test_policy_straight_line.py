"""The baseline without learning, and the parts of the MPC that all policies share."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from flight_scenes import hover, observation
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deq_mpc_core.policy import load_policy
from deq_mpc_core.policy.mpc import bounds, load_mpc_config
from deq_mpc_core.policy.straight_line import StraightLinePolicy, straight_waypoints
from deq_mpc_core.solver.solution import Status

Array = NDArray[np.float64]
points = st.tuples(*[st.floats(-2.0, 2.0)] * 3).map(np.array)


@given(pos=points, goal=points, speed=st.floats(0.1, 2.0), rate=st.floats(0.5, 5.0), horizon=st.integers(2, 60))
@settings(max_examples=60, deadline=None)
def test_waypoints_go_straight_to_the_goal_and_not_beyond(
    pos: Array, goal: Array, speed: float, rate: float, horizon: int
) -> None:
    dt = 0.05
    way, vel = straight_waypoints(pos, goal, horizon, dt, speed, rate)
    np.testing.assert_allclose(way[0], pos, atol=1e-12)
    left = np.linalg.norm(goal - way, axis=1)
    travelled = np.linalg.norm(way - pos, axis=1)
    np.testing.assert_allclose(travelled + left, np.linalg.norm(goal - pos), atol=1e-9)  # on the segment
    assert (np.diff(left) <= 1e-12).all()
    assert (np.diff(travelled) <= speed * dt + 1e-9).all()
    np.testing.assert_allclose(np.linalg.norm(vel, axis=1), np.minimum(speed, rate * left), atol=1e-8)


def test_waypoints_at_the_goal_rest() -> None:
    way, vel = straight_waypoints(np.ones(3), np.ones(3), 5, 0.05, 1.0, 2.0)
    np.testing.assert_array_equal(way, np.ones((5, 3)))
    np.testing.assert_array_equal(vel, np.zeros((5, 3)))


def test_bounds_are_the_configured_ones_within_the_fence_given() -> None:
    config = load_mpc_config()
    lower, upper = bounds(config)
    np.testing.assert_array_equal(lower[:3], config.fence_low)
    assert (upper[3:6] == config.speed_max).all()
    assert np.isinf(upper[8:13]).all()  # yaw, rates and the state of the motors are free
    np.testing.assert_array_equal(upper[13:], [config.tilt_command_max] * 2 + [config.yaw_rate_max, config.thrust_max])
    assert (lower <= upper).all()
    assert (bounds(config, np.array([[-1.0] * 3, [1.0] * 3]))[1][:3] == 1.0).all()


def test_the_baseline_avoids_a_sphere_beside_its_way_and_says_how_well() -> None:
    policy = load_policy("straight-line")
    assert isinstance(policy, StraightLinePolicy)
    sphere = np.array([[0.45, 0.12, 1.0, 0.2, 0.0, 0.0, 0.0]])
    obs = observation(x=hover((0.0, 0.0, 1.0), (0.8, 0.0, 0.0)), goal=np.array([1.5, 0.0, 1.0]), obstacles=sphere)
    command, state, info = policy.step(obs, None)
    assert info.status != Status.NUMERICAL_FAILURE
    assert set(info.residuals) == {"dynamics", "inequality"}
    assert info.residuals["inequality"] < 0.01
    assert np.linalg.norm(info.plan[:, :3] - sphere[0, :3], axis=1).min() > 0.2
    assert command.roll > 0.0  # to the right, away from the sphere
    again, _, _ = policy.step(dataclasses.replace(obs, t=0.01), state)
    np.testing.assert_allclose(again, command, atol=0.1)


@pytest.mark.parametrize("name", ["straight-line", "expert"])
def test_built_in_policies_survive_a_state_that_is_not_finite(name: str) -> None:
    x = observation().x
    x[0] = np.nan
    command, _, info = load_policy(name).step(observation(x=x), None)
    assert info.status == Status.NUMERICAL_FAILURE
    assert np.isfinite(command).all()
