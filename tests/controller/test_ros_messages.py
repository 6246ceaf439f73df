"""Messages and back: nothing is lost, signs and order stay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import JointState

from deq_mpc_controller import ros_messages as rm
from deq_mpc_core.errors import UserError
from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.obstacle_cloud import unpack_obstacles
from deq_mpc_core.policy.interface import Command
from deq_mpc_core.rotations import quat_from_rpy

quick = settings(max_examples=50, deadline=None)
floats = st.floats(-5.0, 5.0)


@quick
@given(t=st.floats(0.0, 2e9))
def test_time(t: float) -> None:
    assert rm.seconds(rm.to_stamp(t)) == pytest.approx(t, abs=1e-6)


@quick
@given(pos=st.tuples(floats, floats, floats), rpy=st.tuples(floats, floats, floats))
def test_pose(pos: tuple[float, ...], rpy: tuple[float, ...]) -> None:
    quat = quat_from_rpy(rpy)
    stamp, position, quaternion = rm.pose_arrays(rm.pose_message(12.5, "world", np.array(pos), quat))
    assert stamp == 12.5
    np.testing.assert_array_equal(position, pos)
    np.testing.assert_array_equal(quaternion, quat)


@quick
@given(command=st.builds(Command, floats, floats, floats, floats))
def test_setpoint(command: Command) -> None:
    message = rm.setpoint_message(1.0, command)
    assert rm.command_from_setpoint(message) == command
    shuffled = JointState(name=list(message.name)[::-1], position=list(message.position)[::-1])
    assert rm.command_from_setpoint(shuffled) == command


def test_setpoint_without_a_name_is_a_user_error() -> None:
    with pytest.raises(UserError, match="yaw_rate"):
        rm.command_from_setpoint(JointState(name=["roll", "pitch", "thrust"], position=[0.0, 0.0, 0.0]))


@pytest.mark.parametrize("count", [0, 1, 40])
def test_obstacles(count: int) -> None:
    obstacles = np.random.default_rng(0).normal(size=(count, 7))
    np.testing.assert_allclose(unpack_obstacles(rm.cloud_message(0.0, "world", obstacles)), obstacles, rtol=1e-6)


def test_odometry_turns_euler_rates_into_the_world_frame() -> None:
    x = np.zeros(cf.NX)
    x[cf.RPY] = [0.3, 0.2, np.pi / 2]
    x[cf.RPY_RATE] = [1.0, 0.0, 0.0]
    twist = rm.odometry_message(0.0, "world", "cf", x).twist.twist
    # roll turns about the body's x axis: it looks along world y, and down by the pitch
    np.testing.assert_allclose(rm.vector(twist.angular), [0.0, np.cos(0.2), -np.sin(0.2)], atol=1e-12)


def test_path_has_a_stamped_pose_a_knot() -> None:
    plan = np.random.default_rng(0).normal(0.0, 0.3, (16, cf.NX))
    path = rm.path_message(10.0, "world", plan, 0.05)
    assert [rm.seconds(pose.header.stamp) for pose in path.poses] == pytest.approx(10.0 + 0.05 * np.arange(16))
    np.testing.assert_allclose([rm.vector(pose.pose.position) for pose in path.poses], plan[:, cf.POS])


def test_markers_have_ids_of_their_own() -> None:
    obstacles = np.random.default_rng(0).uniform(0.1, 1.0, (5, 7))
    markers = rm.sphere_markers(0.0, "world", obstacles, [rm.GREY] * 5).markers
    assert len({(marker.ns, marker.id) for marker in markers}) == 5
    assert [marker.scale.x for marker in markers] == pytest.approx(2.0 * obstacles[:, 3])
    vehicle = rm.vehicle_markers(0.0, "world", np.zeros(cf.NX), np.zeros((3, cf.NX))).markers
    assert len({(marker.ns, marker.id) for marker in vehicle}) == 2
