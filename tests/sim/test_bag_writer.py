"""Bags written without ROS: whole or not there, and with the messages that ROS would have recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from deq_mpc_core.errors import UserError
from deq_mpc_core.policy.interface import Command
from deq_mpc_core.rotations import rpy_from_quat
from deq_mpc_sim.bag_writer import FlightBagWriter

TYPESTORE = get_typestore(Stores.ROS2_KILTED)
LEVEL = [0.0, 0.0, 0.0, 1.0]


def messages(bag: Path) -> dict[str, list[tuple[int, Any]]]:
    """Log time and message of all that is in ``bag``, by topic."""
    found: dict[str, list[tuple[int, Any]]] = {}
    with Reader(bag) as reader:
        for connection, log_time, raw in reader.messages():
            message = TYPESTORE.deserialize_cdr(raw, connection.msgtype)
            found.setdefault(connection.topic, []).append((log_time, message))
    return found


def test_nothing_shows_before_the_bag_is_closed(tmp_path: Path) -> None:
    with FlightBagWriter(tmp_path / "flight") as bag:
        bag.write_pose(0.0, [0.0, 0.0, 1.0], LEVEL)
        assert [path.name[0] for path in tmp_path.iterdir()] == ["."]
    assert [path.name for path in tmp_path.iterdir()] == ["flight"]
    assert sorted(path.name for path in (tmp_path / "flight").iterdir()) == ["flight.mcap", "metadata.yaml"]


def write_and_fail(path: Path) -> None:
    with FlightBagWriter(path) as bag:
        bag.write_pose(0.0, [0.0, 0.0, 1.0], LEVEL)
        raise RuntimeError("crashed")


def test_a_flight_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="crashed"):
        write_and_fail(tmp_path / "flight")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    remains = tmp_path / ".flight.partial" / "flight"
    remains.mkdir(parents=True)
    (remains / "flight.mcap").write_bytes(b"half")
    with FlightBagWriter(tmp_path / "flight") as bag:
        bag.write_pose(0.0, [0.0, 0.0, 1.0], LEVEL)
    assert [path.name for path in tmp_path.iterdir()] == ["flight"]


def test_an_existing_bag_and_a_bad_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="exists; move it away"):
        FlightBagWriter(tmp_path / "file")
    with pytest.raises(UserError, match="cannot be written"):
        FlightBagWriter(tmp_path / "file" / "flight")


def test_the_messages_are_those_of_the_architecture(tmp_path: Path) -> None:
    plan = np.zeros((3, 13))
    plan[:, 0], plan[:, 8] = [0.0, 0.05, 0.1], 0.3
    with FlightBagWriter(tmp_path / "flight", robot="cf7", start_s=10.0) as bag:
        bag.write_pose(0.25, [1.0, 2.0, 3.0], LEVEL)
        bag.write_truth(0.25, [1.0, 2.0, 3.0], LEVEL, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
        bag.write_setpoint(0.25, Command(0.1, -0.2, 0.3, 0.31))
        bag.write_goal(0.25, [4.0, 5.0, 6.0])
        bag.write_goal(0.5, [4.0, 5.0, 6.0])
        bag.write_expert_plan(0.5, plan, 0.05)
    found = messages(tmp_path / "flight")
    assert {topic: len(entries) for topic, entries in found.items()} == {
        "/cf7/pose": 1,
        "/cf7/truth": 1,
        "/cf7/setpoint": 1,
        "/cf7/goal": 1,
        "/cf7/expert_plan": 1,
    }
    log_time, pose = found["/cf7/pose"][0]
    assert log_time == 10_250_000_000
    assert (pose.header.stamp.sec, pose.header.stamp.nanosec, pose.header.frame_id) == (10, 250_000_000, "world")
    truth = found["/cf7/truth"][0][1]
    assert (truth.twist.twist.linear.y, truth.twist.twist.angular.z) == (0.2, 0.6)
    setpoint = found["/cf7/setpoint"][0][1]
    assert setpoint.name == ["roll", "pitch", "yaw_rate", "thrust"]
    np.testing.assert_array_equal(setpoint.position, [0.1, -0.2, 0.3, 0.31])
    knots = found["/cf7/expert_plan"][0][1].poses
    assert [knot.header.stamp.nanosec for knot in knots] == [500_000_000, 550_000_000, 600_000_000]
    q = knots[1].pose.orientation
    assert knots[1].pose.position.x == 0.05
    np.testing.assert_allclose(rpy_from_quat([q.x, q.y, q.z, q.w]), [0.0, 0.0, 0.3], atol=1e-12)


@pytest.mark.parametrize(("speed", "period"), [(0.0, 1.0), (0.4, 0.05)])
def test_obstacles_come_as_often_as_they_need_to(tmp_path: Path, speed: float, period: float) -> None:
    with FlightBagWriter(tmp_path / "flight", start_s=0.0) as bag:
        for step in range(301):
            bag.write_obstacles(step / 100, np.array([[0.0, 0.0, 1.0, 0.1, speed, 0.0, 0.0]]))
    times = [log_time * 1e-9 for log_time, _ in messages(tmp_path / "flight")["/obstacles"]]
    np.testing.assert_allclose(times, np.arange(0.0, 3.001, period), atol=1e-9)


def test_goal_and_obstacles_are_latched_when_played(tmp_path: Path) -> None:
    with FlightBagWriter(tmp_path / "flight") as bag:
        bag.write_goal(0.0, [0.0, 0.0, 1.0])
        bag.write_obstacles(0.0, np.zeros((0, 7)))
        bag.write_pose(0.0, [0.0, 0.0, 1.0], LEVEL)
    with Reader(tmp_path / "flight") as reader:
        durability = {c.topic: c.ext.offered_qos_profiles[0].durability for c in reader.connections}
    assert durability == {
        "/cf/goal": QosDurability.TRANSIENT_LOCAL,
        "/obstacles": QosDurability.TRANSIENT_LOCAL,
        "/cf/pose": QosDurability.VOLATILE,
    }


def test_a_flight_is_the_same_bytes_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = rng.normal(size=(50, 3))
    for name in ("a/flight", "b/flight"):
        with FlightBagWriter(tmp_path / name) as bag:
            for step, pos in enumerate(path):
                bag.write_pose(step / 100, pos, LEVEL)
    first, second = ((tmp_path / name / "flight/flight.mcap").read_bytes() for name in "ab")
    assert first == second
