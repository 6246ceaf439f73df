"""Flights from rosbags (MCAP or sqlite3, whoever recorded them): found, decoded, checked, cut into usable spans.

A bag that is damaged or has not the needed topics is dropped as a whole; gaps, changes of the goal and phases that the
policy did not fly cut a flight into spans. Whatever is left out is reported with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from deq_mpc_core.config import Config, in_unit
from deq_mpc_core.errors import UserError
from deq_mpc_core.learning.bag_report import BagReport
from deq_mpc_core.learning.intervals import Interval, intersect, join_stamps, remove_short, split_at
from deq_mpc_core.obstacle_cloud import unpack_obstacles

Array = NDArray[np.float64]
Second = Annotated[float, in_unit("s")]
SETPOINT_FIELDS = ("roll", "pitch", "yaw_rate", "thrust")
SAME_GOAL_M = 1e-3
"""Goals closer than this are the same goal, published again."""
NS = 1e-9
_TYPESTORE = get_typestore(Stores.ROS2_KILTED)


class Topics(Config):
    """Topic of each role."""

    pose: str
    setpoint: str
    obstacles: str
    goal: str
    expert_plan: str
    flight_state: str

    def remapped(self, remaps: Sequence[str]) -> Topics:
        """These topics with ``role=/topic`` remaps, e.g. ``["pose=/cf231/pose"]``.

        Raises:
            UserError: if a remap has another form or names no role.
        """
        names = self.model_dump()
        for remap in remaps:
            role, equals, topic = remap.partition("=")
            if not equals or role not in names or not topic.startswith("/"):
                raise UserError(f"remap {remap!r} is not role=/topic with one of the roles {', '.join(names)}")
            names[role] = topic
        return Topics(**names)


class BagConfig(Config):
    """What is read from a bag and what counts as usable."""

    topics: Topics
    fly_states: list[str]
    max_gap: Second
    min_span: Second


REQUIRED = ("pose", "setpoint", "obstacles", "goal")


class BagProblem(Exception):
    """Why a bag cannot be used; becomes a line of the report."""


@dataclass(frozen=True)
class Series:
    """Samples over time: ``t`` (n,) [s] increasing, ``values`` (n, ...)."""

    t: Array
    values: Array


@dataclass(frozen=True)
class Span:
    """A part of a flight without gaps, towards one goal (3,) [m]; seconds on the flight's clock."""

    start: float
    end: float
    goal: Array


@dataclass(frozen=True)
class FlightLog:
    """One flight; times in seconds from ``start_ns``, the header stamp of the first pose.

    Attributes:
        pose: (n, 7) position [m] and quaternion xyzw.
        setpoint: (m, 4) roll, pitch [rad], yaw_rate [rad/s], thrust [N].
        cloud_t: (c,) stamps of the obstacle messages; ``clouds``: their obstacles, each (K, 7).
        plans: expert's plans, positions (p, 3) [m]; the first stamp is the state that the plan starts from.
        spans: what can be used.
    """

    source: Path
    start_ns: int
    pose: Series
    setpoint: Series
    cloud_t: Array
    clouds: tuple[Array, ...]
    plans: tuple[Series, ...]
    spans: tuple[Span, ...]


def find_bags(roots: Iterable[Path]) -> list[Path]:
    """All bags at or below ``roots``, sorted: folders with a metadata.yaml, and lone .mcap and .db3 files.

    Folders whose name begins with a dot, such as those of recordings under way, are skipped.

    Raises:
        UserError: if a root does not exist, or there is no bag at all.
    """
    roots = [Path(root) for root in roots]
    bags: set[Path] = set()
    for root in roots:
        if not root.exists():
            raise UserError(f"{root}: no such bag or folder of bags; check the path")
        if root.is_file():
            bags.add(root)
            continue
        folders = {path.parent for path in root.rglob("metadata.yaml")}
        files = (path for suffix in ("*.mcap", "*.db3") for path in root.rglob(suffix) if path.is_file())
        found = (*folders, *(path for path in files if path.parent not in folders))
        bags.update(bag for bag in found if not any(part.startswith(".") for part in bag.relative_to(root).parts))
    if not bags:
        raise UserError(f"no rosbag in {', '.join(map(str, roots))}; record some, e.g. with `deq-mpc expert`")
    return sorted(bags)


def read_flights(bags: Iterable[Path], config: BagConfig, report: BagReport) -> Iterator[FlightLog]:
    """The usable flights of ``bags``, one at a time; what is dropped goes to ``report``."""
    for bag in bags:
        try:
            messages = _read_messages(bag, config.topics)
            yield _make_flight(bag, messages, config, report)
        except BagProblem as problem:
            report.drop(bag, str(problem))


@dataclass
class _Messages:
    """Decoded messages of one bag by role: header stamps [ns], log times [ns], values."""

    stamps: dict[str, list[int]] = field(default_factory=dict)
    log_times: dict[str, list[int]] = field(default_factory=dict)
    values: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, role: str, stamp: int, log_time: int, value: Any) -> None:
        self.stamps.setdefault(role, []).append(stamp)
        self.log_times.setdefault(role, []).append(log_time)
        self.values.setdefault(role, []).append(value)


def _decode_pose(message: Any) -> list[float]:
    p, q = message.pose.position, message.pose.orientation
    return [p.x, p.y, p.z, q.x, q.y, q.z, q.w]


def _decode_setpoint(message: Any) -> list[float]:
    by_name = dict(zip(message.name, message.position, strict=False))
    missing = [name for name in SETPOINT_FIELDS if name not in by_name]
    if missing:
        raise BagProblem(f"the setpoint has no {missing[0]!r}")
    return [by_name[name] for name in SETPOINT_FIELDS]


def _decode_obstacles(message: Any) -> Array:
    try:
        return unpack_obstacles(message)
    except UserError as error:
        raise BagProblem(str(error)) from error


def _decode_plan(message: Any) -> tuple[list[int], list[list[float]]]:
    return [_stamp_ns(pose) for pose in message.poses], [_decode_pose(pose)[:3] for pose in message.poses]


_DECODERS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "pose": ("geometry_msgs/msg/PoseStamped", _decode_pose),
    "setpoint": ("sensor_msgs/msg/JointState", _decode_setpoint),
    "obstacles": ("sensor_msgs/msg/PointCloud2", _decode_obstacles),
    "goal": ("geometry_msgs/msg/PoseStamped", _decode_pose),
    "expert_plan": ("nav_msgs/msg/Path", _decode_plan),
    "flight_state": ("std_msgs/msg/String", lambda message: message.data),
}


def _stamp_ns(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _choose_connections(connections: Sequence[Connection], topics: Topics) -> dict[str, str]:
    """Role of each topic that is read, after checking names and types."""
    present = {connection.topic: connection.msgtype for connection in connections}
    roles: dict[str, str] = {}
    for role, topic in topics.model_dump().items():
        expected = _DECODERS[role][0]
        if topic not in present:
            if role in REQUIRED:
                others = ", ".join(sorted(present)) or "nothing"
                raise BagProblem(f"no topic {topic} ({role}); the bag has {others}; remap {role} if it is one of them")
        elif present[topic] != expected:
            raise BagProblem(f"{topic} is {present[topic]}, not {expected}")
        else:
            roles[topic] = role
    return roles


def _read_messages(bag: Path, topics: Topics) -> _Messages:
    messages = _Messages()
    try:
        with Reader(bag) as reader:
            roles = _choose_connections(reader.connections, topics)
            connections = [connection for connection in reader.connections if connection.topic in roles]
            for connection, log_time, raw in reader.messages(connections):
                role = roles[connection.topic]
                message = _TYPESTORE.deserialize_cdr(raw, connection.msgtype)
                stamp = _stamp_ns(message) if hasattr(message, "header") else log_time
                # an all-zero stamp means that the publisher did not stamp: the recorder's time is the best there is
                messages.add(role, stamp or log_time, log_time, _DECODERS[role][1](message))
    except BagProblem:
        raise
    except Exception as error:  # a damaged file makes the reader fail in its storage, compression or message layer
        detail = " ".join(str(error).split()) or type(error).__name__
        raise BagProblem(f"damaged or truncated ({detail})") from error
    for role in REQUIRED:
        if role not in messages.values:
            raise BagProblem(f"no message on {getattr(topics, role)} ({role})")
    return messages


def _make_flight(bag: Path, messages: _Messages, config: BagConfig, report: BagReport) -> FlightLog:
    start_ns = messages.stamps["pose"][0]

    def seconds(stamps: Sequence[int]) -> Array:
        return np.asarray(np.asarray(stamps, dtype=np.int64) - start_ns, dtype=np.float64) * NS

    pose = _valid_poses(seconds(messages.stamps["pose"]), np.asarray(messages.values["pose"]), bag, report)
    setpoint = Series(seconds(messages.stamps["setpoint"]), np.asarray(messages.values["setpoint"]))
    goal = Series(seconds(messages.stamps["goal"]), np.asarray(messages.values["goal"])[:, :3])
    cloud_t, clouds = seconds(messages.stamps["obstacles"]), tuple(messages.values["obstacles"])
    _check_series("setpoint", setpoint.t, [setpoint.values])
    _check_series("goal", goal.t, [goal.values])
    _check_series("obstacles", cloud_t, clouds)
    if any((cloud[:, 3] < 0.0).any() for cloud in clouds):
        raise BagProblem("an obstacle has a negative radius")

    flown = _flown_intervals(messages, start_ns, config.fly_states)
    known = intersect([Interval(float(cloud_t[0]), np.inf)], flown)
    intervals = _usable_intervals(bag, pose.t, setpoint.t, known, config, report)
    plans = tuple(
        Series(seconds(stamps), np.asarray(positions, dtype=np.float64).reshape(-1, 3))
        for stamps, positions in messages.values.get("expert_plan", [])
    )
    spans = _spans_to_goals(bag, intervals, goal, config.min_span, report)
    return FlightLog(bag, start_ns, pose, setpoint, cloud_t, clouds, plans, spans)


def _check_series(role: str, t: Array, values: Iterable[Array]) -> None:
    steps = np.diff(t)
    if np.any(steps < 0.0):
        raise BagProblem(f"time goes backwards in {role}")
    if not all(np.isfinite(value).all() for value in values):
        raise BagProblem(f"NaN or infinity in {role}")


def _valid_poses(t: Array, values: Array, bag: Path, report: BagReport) -> Series:
    """Poses without repetitions, NaNs and zero quaternions."""
    _check_series("pose", t, [])
    valid = np.isfinite(values).all(axis=1) & (np.abs(values[:, 3:7]).sum(axis=1) > 0.0)
    if not valid.any():
        raise BagProblem("all poses are NaN or have no orientation")
    if not valid.all():
        report.note(bag, "poses that are NaN or have no orientation left out")
    valid &= np.concatenate([[True], np.diff(t) > 0.0])
    return Series(t[valid], values[valid])


def _flown_intervals(messages: _Messages, start_ns: int, fly_states: Sequence[str]) -> list[Interval]:
    """When the flight state was one of ``fly_states``; always, if the bag has no flight state.

    The state has no stamp: its time of recording is moved to the poses' clock.
    """
    if "flight_state" not in messages.values:
        return [Interval(-np.inf, np.inf)]
    clock_offset = int(np.median(np.subtract(messages.stamps["pose"], messages.log_times["pose"])))
    times = [(log_time + clock_offset - start_ns) * NS for log_time in messages.log_times["flight_state"]]
    states = messages.values["flight_state"]
    flown = [
        Interval(start, end)
        for start, end, state in zip(times, [*times[1:], np.inf], states, strict=True)
        if state in fly_states
    ]
    if not flown:
        raise BagProblem(f"never in flight state {' or '.join(fly_states)}")
    return flown


def _usable_intervals(
    bag: Path, pose_t: Array, setpoint_t: Array, known: Sequence[Interval], config: BagConfig, report: BagReport
) -> list[Interval]:
    """Where poses and setpoints have no gap and everything else is ``known``."""
    max_gap = config.max_gap
    posed = join_stamps(pose_t, max_gap)
    commanded = [Interval(start, end + max_gap) for start, end in join_stamps(setpoint_t, max_gap)]
    for role, covered in (("pose", posed), ("setpoint", commanded)):
        if len(covered) > 1:
            report.note(bag, f"gaps in {role} longer than {max_gap:g} s cut out")
    both = intersect(posed, commanded)
    if not both:
        raise BagProblem("poses and setpoints do not overlap in time; were they stamped by different clocks?")
    return intersect(both, known)


def _spans_to_goals(
    bag: Path, intervals: Sequence[Interval], goal: Series, min_span: float, report: BagReport
) -> tuple[Span, ...]:
    """The intervals cut at changes of the goal, without the short ones.

    Raises:
        BagProblem: if nothing is left.
    """
    changed = np.flatnonzero(np.abs(np.diff(goal.values, axis=0)).max(axis=1) > SAME_GOAL_M) + 1
    pieces = split_at(intervals, [float(t) for t in goal.t[changed]])
    spans = remove_short(pieces, min_span)
    if not spans:
        raise BagProblem(f"no span of {min_span:g} s in which everything is known")
    if len(spans) < len(pieces):
        report.note(bag, f"spans shorter than {min_span:g} s left out")
    in_force = np.maximum(np.searchsorted(goal.t, [span.start for span in spans], side="right") - 1, 0)
    return tuple(Span(start, end, goal.values[i]) for (start, end), i in zip(spans, in_force, strict=True))
