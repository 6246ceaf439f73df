"""Which bags are found, which flights are usable, and what is said about the others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from deq_mpc_core.config import load_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.learning.bag_report import BagReport
from deq_mpc_core.learning.bags import find_bags, read_flights
from deq_mpc_core.learning.dataset import DatasetConfig
from deq_mpc_core.learning.flight_log import FlightLog
from deq_mpc_sim.bag_writer import FlightBagWriter

Record = Callable[..., Path]
CONFIG = load_config("dataset", DatasetConfig)
TYPESTORE = get_typestore(Stores.ROS2_KILTED)


def read(*bags: Path, config: DatasetConfig = CONFIG) -> tuple[list[FlightLog], BagReport]:
    report = BagReport()
    return list(read_flights(bags, config, report)), report


def dropped_reason(bag: Path) -> str:
    flights, report = read(bag)
    assert flights == []
    return report.dropped[0].dropped or ""


def copy_bag(
    source: Path,
    target: Path,
    change: Callable[[str, int, bytes], tuple[str, int, bytes] | None],
    plugin: StoragePlugin,
) -> Path:
    """``source`` message by message, each changed or (None) left out."""
    with Reader(source) as reader, Writer(target, version=9, storage_plugin=plugin) as writer:
        connections = {}
        for connection, stamp, raw in reader.messages():
            changed = change(connection.topic, stamp, raw)
            if changed is not None:
                topic, stamp, raw = changed
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, connection.msgtype, typestore=TYPESTORE)
                writer.write(connections[topic], stamp, raw)
    return target


def test_finds_folders_and_lone_files_but_not_recordings_under_way(record: Record, flight: Any, tmp_path: Path) -> None:
    bag = record(flight, "bags/a/flight.mcap")  # a folder, whatever its name
    (tmp_path / "bags/lone").mkdir()
    lone = shutil.copy(next(bag.glob("*.mcap")), tmp_path / "bags/lone/other.mcap")
    shutil.copytree(bag, tmp_path / "bags/.hidden.partial/flight")
    assert find_bags([tmp_path / "bags"]) == [bag, lone]
    assert find_bags([bag]) == [bag]
    assert find_bags([lone]) == [lone]


def test_no_folder_and_no_bag_are_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such bag"):
        find_bags([tmp_path / "missing"])
    with pytest.raises(UserError, match="no rosbag in"):
        find_bags([tmp_path])


def test_reads_what_was_written(record: Record, flight: Any) -> None:
    obstacles = np.array([[0.1, 0.2, 1.0, 0.2, 0.0, 0.0, 0.0], [0.5, -0.2, 1.1, 0.1, 0.0, 0.0, 0.0]])
    (log,), report = read(record(flight, obstacles=lambda t: obstacles))
    assert report.dropped == []
    np.testing.assert_allclose(log.pose.t, np.arange(301) / 100, atol=1e-9)
    np.testing.assert_allclose(log.pose.values[:, :3], flight.motion(log.pose.t)[0])
    np.testing.assert_allclose(log.thrust.values, flight.thrust)
    np.testing.assert_allclose(log.clouds[-1], obstacles, atol=1e-7)
    np.testing.assert_allclose(log.cloud_t, [0.0, 1.0, 2.0, 3.0], atol=1e-9)
    (span,) = log.spans
    assert (span.start, span.end) == (0.0, pytest.approx(3.0))
    np.testing.assert_allclose(span.goal, flight.goal)


def test_sqlite_and_lone_files_read_alike(record: Record, flight: Any, tmp_path: Path) -> None:
    bag = record(flight)
    sqlite = copy_bag(bag, tmp_path / "sqlite", lambda *message: message, StoragePlugin.SQLITE3)
    flights, report = read(bag, sqlite, next(bag.glob("*.mcap")), next(sqlite.glob("*.db3")))
    assert report.dropped == []
    for log in flights:
        np.testing.assert_array_equal(log.pose.values, flights[0].pose.values)
        np.testing.assert_array_equal(log.thrust.values, flights[0].thrust.values)


def test_remaps_topics(record: Record, flight: Any, tmp_path: Path) -> None:
    def rename(topic: str, stamp: int, raw: bytes) -> tuple[str, int, bytes]:
        return topic.replace("/cf/", "/cf231/"), stamp, raw

    bag = copy_bag(record(flight), tmp_path / "renamed", rename, StoragePlugin.MCAP)
    assert "no topic /cf/pose (pose); the bag has /cf231/goal, /cf231/pose" in dropped_reason(bag)
    topics = CONFIG.topics.remapped([f"{role}=/cf231/{role}" for role in ("pose", "setpoint", "goal")])
    flights, _ = read(bag, config=CONFIG.model_copy(update={"topics": topics}))
    assert len(flights) == 1
    for wrong in ("pose", "pose=relative", "mocap=/cf/pose"):
        with pytest.raises(UserError, match="is not role=/topic"):
            CONFIG.topics.remapped([wrong])


def test_a_topic_of_another_type_is_named(record: Record, flight: Any) -> None:
    bag = record(flight)
    topics = CONFIG.topics.remapped(["goal=/cf/setpoint"])
    flights, report = read(bag, config=CONFIG.model_copy(update={"topics": topics}))
    assert not flights
    assert "is sensor_msgs/msg/JointState" in (report.dropped[0].dropped or "")


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.999])
def test_truncated_files_are_dropped(record: Record, flight: Any, keep: float) -> None:
    bag = record(flight)
    mcap = next(bag.glob("*.mcap"))
    mcap.write_bytes(mcap.read_bytes()[: int(keep * mcap.stat().st_size)])
    assert "damaged or truncated" in dropped_reason(bag)
    assert "damaged or truncated" in dropped_reason(mcap)


def test_files_that_are_no_bags_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_text("not a bag")
    (tmp_path / "b.db3").write_text("not a bag")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/metadata.yaml").write_text("rosbag2_bagfile_information: {version: 9}")
    bags = find_bags([tmp_path])
    assert len(bags) == 3
    flights, report = read(*bags)
    assert not flights
    assert all("damaged" in (outcome.dropped or "") for outcome in report.dropped)


@pytest.mark.parametrize("topic", ["/cf/pose", "/obstacles", "/cf/goal"])
def test_each_needed_topic_is_needed(record: Record, flight: Any, tmp_path: Path, topic: str) -> None:
    def leave_out(name: str, stamp: int, raw: bytes) -> tuple[str, int, bytes] | None:
        return None if name == topic else (name, stamp, raw)

    bag = copy_bag(record(flight), tmp_path / "without", leave_out, StoragePlugin.MCAP)
    assert dropped_reason(bag).startswith(f"no topic {topic} ")


def test_nan_poses_are_left_out(record: Record, flight: Any) -> None:
    def with_nan(bag: FlightBagWriter) -> None:
        bag.write_pose(3.005, [np.nan, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0])
        bag.write_pose(3.006, [0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0])

    (log,), report = read(record(flight, edit=with_nan))
    assert np.isfinite(log.pose.values).all()
    assert len(log.pose.t) == 301
    assert "NaN" in report.used[0].notes[0]


def test_a_flight_of_nans_is_dropped(record: Record, flight: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(flight), "motion", lambda self, t: (np.full((len(t), 3), np.nan),) * 2)
    assert dropped_reason(record(flight)) == "all poses are NaN or have no orientation"


def test_nan_obstacles_are_dropped(record: Record, flight: Any) -> None:
    obstacles = np.full((1, 7), np.nan)
    assert dropped_reason(record(flight, obstacles=lambda t: obstacles)) == "NaN or infinity in obstacles"


def test_obstacles_of_negative_radius_are_dropped(record: Record, flight: Any) -> None:
    obstacles = np.array([[0.0, 0.0, 1.0, -0.1, 0.0, 0.0, 0.0]])
    assert dropped_reason(record(flight, obstacles=lambda t: obstacles)) == "an obstacle has a negative radius"


def test_header_stamps_that_go_backwards_are_dropped(record: Record, flight: Any, tmp_path: Path) -> None:
    def record_the_first_second_last(topic: str, stamp: int, raw: bytes) -> tuple[str, int, bytes]:
        return topic, stamp + 5_000_000_000 if stamp < 2_000_000_000 else stamp, raw

    bag = copy_bag(record(flight), tmp_path / "disordered", record_the_first_second_last, StoragePlugin.MCAP)
    assert dropped_reason(bag) == "time goes backwards in pose"


def test_gaps_cut_a_flight(record: Record, flight: Any) -> None:
    t = np.arange(301) / 100
    t = t[(t < 1.0) | (t > 1.5)]
    (log,), report = read(record(flight, pose_t=t))
    assert [(round(s.start, 2), round(s.end, 2)) for s in log.spans] == [(0.0, 0.99), (1.51, 3.0)]
    assert report.used[0].notes == [
        "gaps in pose longer than 0.1 s cut out",
        "gaps in setpoint longer than 0.1 s cut out",
    ]


def test_a_change_of_the_goal_cuts_a_flight(record: Record, flight: Any) -> None:
    bag = record(flight, edit=lambda bag: bag.write_goal(1.25, [0.0, 0.0, 1.0]))
    (log,), _ = read(bag)
    assert [(round(s.start, 2), round(s.end, 2)) for s in log.spans] == [(0.0, 1.25), (1.25, 3.0)]
    np.testing.assert_allclose([s.goal for s in log.spans], [flight.goal, [0.0, 0.0, 1.0]])


def add_flight_states(source: Path, target: Path, states: list[tuple[float, str]], clock_offset_ns: int) -> Path:
    """A copy whose recorder's clock runs ``clock_offset_ns`` ahead of the header stamps, with flight states."""

    def shift(topic: str, stamp: int, raw: bytes) -> tuple[str, int, bytes]:
        return topic, stamp + clock_offset_ns, raw

    copy_bag(source, target.with_name("shifted"), shift, StoragePlugin.MCAP)
    copied = Reader(target.with_name("shifted"))
    with copied as reader, Writer(target, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        state_type = "std_msgs/msg/String"
        state_connection = writer.add_connection("/cf/flight_state", state_type, typestore=TYPESTORE)
        for t, state in states:
            raw = TYPESTORE.serialize_cdr(TYPESTORE.types[state_type](state), state_type)
            writer.write(state_connection, round((1.0 + t) * 1e9) + clock_offset_ns, raw)
        connections = {}
        for connection, stamp, raw in reader.messages():
            if connection.topic not in connections:
                connections[connection.topic] = writer.add_connection(
                    connection.topic, connection.msgtype, typestore=TYPESTORE
                )
            writer.write(connections[connection.topic], stamp, raw)
    return target


def test_only_the_flown_part_is_used_whatever_the_recorders_clock(record: Record, flight: Any, tmp_path: Path) -> None:
    states = [(-0.5, "READY"), (0.2, "TAKEOFF"), (0.8, "FLY"), (2.4, "LAND")]
    (log,), _ = read(add_flight_states(record(flight), tmp_path / "with_states", states, 7_000_000_000))
    assert [(round(s.start, 3), round(s.end, 3)) for s in log.spans] == [(0.8, 2.4)]


def test_a_flight_that_never_flew_is_dropped(record: Record, flight: Any, tmp_path: Path) -> None:
    bag = add_flight_states(record(flight), tmp_path / "grounded", [(0.0, "READY")], 0)
    assert dropped_reason(bag) == "never in flight state FLY"


def test_the_table_counts_by_reason(record: Record, flight: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.mcap").write_text("not a bag")
    _, report = read(tmp_path / "a.mcap", tmp_path / "b.mcap", record(flight))
    report.use(tmp_path / "bags/flight", 30)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report.table())
    lines = [line.split() for line in capture.get().splitlines()]
    assert any({"used", "1", "30"} <= set(line) for line in lines)
    assert any({"dropped", "2", "0", f"{tmp_path.name}/a.mcap"} <= set(line) for line in lines)
    assert BagReport.from_json(report.to_json()).outcomes == report.outcomes


def test_the_report_tells_flights_apart_by_the_folder_around_their_bag() -> None:
    report = BagReport()
    for flight in ("gate-seed1", "gate-seed2"):
        report.drop(Path("flights") / flight / "bag", "too short")
    (example,) = list(report.table().columns[-1].cells)[1:]
    assert example == "gate-seed1/bag"
