"""Flights from rosbags (MCAP or sqlite3, whoever recorded them): found, checked, cut into usable spans.

A bag that is damaged or has not the needed topics is dropped as a whole; gaps, changes of the goal and phases that the
policy did not fly cut a flight into spans. Whatever is left out, or concluded because a bag does not say it, is
reported with its reason. What a Crazyswarm2 system does not record is concluded:

    obstacles   none
    goal        where the vehicle next came to rest in the air
    flown       above ``rest_height``, while its supervisor reports so and setpoints came, if there are any of them
    thrust      as ``cmd_vel_legacy`` says, if platform and firmware are known; else what explains the motion
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.config import in_unit
from deq_mpc_core.errors import UserError
from deq_mpc_core.learning.bag_messages import BagProblem, Messages, Topics, read_messages
from deq_mpc_core.learning.bag_report import BagReport
from deq_mpc_core.learning.flight_log import FlightLog, Series, Span
from deq_mpc_core.learning.intervals import Interval, intersect, join_flagged, join_stamps, remove_short
from deq_mpc_core.learning.recorded_vehicle import RecordedVehicle, integer_thrust
from deq_mpc_core.learning.rests import Leg, RestConfig, find_legs

Array = NDArray[np.float64]
Second = Annotated[float, in_unit("s")]
ThrustOf = Callable[[float], float]
SAME_GOAL_M = 1e-3
"""Goals closer than this are the same goal, published again."""


class BagConfig(RecordedVehicle, RestConfig):
    """What is read from a bag and what counts as usable."""

    topics: Topics
    fly_states: list[str]
    max_gap: Second
    min_span: Second


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
    """The usable flights of ``bags``, one at a time; what is dropped goes to ``report``.

    Raises:
        UserError: if the vehicle that the configuration names is not known.
    """
    thrust_of = integer_thrust(config)
    for bag in bags:
        try:
            messages = read_messages(bag, config.topics, config.robot)
            yield _make_flight(bag, messages, thrust_of, config, report)
        except BagProblem as problem:
            report.drop(bag, str(problem))


def _make_flight(
    bag: Path, messages: Messages, thrust_of: ThrustOf | None, config: BagConfig, report: BagReport
) -> FlightLog:
    pose = _valid_poses(messages.times("pose"), np.asarray(messages.values["pose"]), bag, report)
    commanded_t, thrust = _commanded_thrust(bag, messages, thrust_of, report)
    if "obstacles" in messages:
        cloud_t, clouds = messages.times("obstacles"), tuple(messages.values["obstacles"])
    else:
        cloud_t, clouds = pose.t[:1], (np.zeros((0, 7)),)
        report.note(bag, f"no {config.topics.obstacles} (obstacles): taken for a flight without any")
    _check_series("obstacles", cloud_t, clouds)
    if any((cloud[:, 3] < 0.0).any() for cloud in clouds):
        raise BagProblem("an obstacle has a negative radius")

    known = intersect([Interval(float(cloud_t[0]), np.inf)], _flown_intervals(messages, pose, config))
    intervals = _usable_intervals(bag, pose.t, commanded_t, known, config, report)
    plans = tuple(
        Series(messages.seconds(stamps), np.asarray(positions, dtype=np.float64).reshape(-1, 3))
        for stamps, positions in messages.values.get("expert_plan", [])
    )
    legs = _legs_to_goals(messages) if "goal" in messages else _legs_to_rests(bag, pose, config, report)
    spans = _cut_spans(bag, intervals, legs, config.min_span, report)
    own = "setpoint" in messages and "named_poses" not in messages
    return FlightLog(bag, messages.start_ns, pose, thrust, cloud_t, clouds, plans, spans, own)


def _commanded_thrust(
    bag: Path, messages: Messages, thrust_of: ThrustOf | None, report: BagReport
) -> tuple[Array | None, Series | None]:
    """When setpoints came, and the thrust that they ask for; None for what the bag does not say."""
    if "setpoint" in messages:
        t, values = messages.times("setpoint"), np.asarray(messages.values["setpoint"])
        _check_series("setpoint", t, [values])
        return t, Series(t, values[:, 3])
    if "legacy_setpoint" not in messages:
        report.note(bag, "no setpoints with a thrust: it is what explains the motion")
        return None, None
    t = messages.times("legacy_setpoint")
    _check_series("legacy_setpoint", t, [])
    if thrust_of is None:
        report.note(bag, "whose thrust it is is not said (--platform, --firmware): it is what explains the motion")
        return t, None
    return t, Series(t, np.array([thrust_of(integer) for integer in messages.values["legacy_setpoint"]]))


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


def _flown_intervals(messages: Messages, pose: Series, config: BagConfig) -> list[Interval]:
    """When the policy, or whoever is the teacher, flew, as far as the bag says."""
    if "flight_state" in messages:
        times, states = messages.times("flight_state").tolist(), messages.values["flight_state"]
        periods = zip(times, [*times[1:], np.inf], states, strict=True)
        flown = [Interval(start, end) for start, end, state in periods if state in config.fly_states]
        if not flown:
            raise BagProblem(f"never in flight state {' or '.join(config.fly_states)}")
        return flown
    if "setpoint" in messages:
        return [Interval(-np.inf, np.inf)]
    flown = join_flagged(pose.t, pose.values[:, 2] >= config.rest_height)
    if not flown:
        raise BagProblem(f"never above {config.rest_height:g} m")
    if "status" in messages:
        flown = intersect(flown, join_flagged(messages.times("status"), np.array(messages.values["status"])))
        if not flown:
            raise BagProblem(f"{config.topics.status} never says that it flies")
    return flown


def _usable_intervals(
    bag: Path, pose_t: Array, setpoint_t: Array | None, known: Sequence[Interval], config: BagConfig, report: BagReport
) -> list[Interval]:
    """Where poses and setpoints, if there are any, have no gap and everything else is ``known``."""
    max_gap = config.max_gap
    posed = join_stamps(pose_t, max_gap)
    if setpoint_t is None:
        commanded = [Interval(-np.inf, np.inf)]
    else:
        commanded = [Interval(start, end + max_gap) for start, end in join_stamps(setpoint_t, max_gap)]
    for role, covered in (("pose", posed), ("setpoint", commanded)):
        if len(covered) > 1:
            report.note(bag, f"gaps in {role} longer than {max_gap:g} s cut out")
    both = intersect(posed, commanded)
    if not both:
        raise BagProblem("poses and setpoints do not overlap in time; were they stamped by different clocks?")
    return intersect(both, known)


def _legs_to_goals(messages: Messages) -> list[Leg]:
    """The legs between changes of the goal; the first goal counts before its message, too."""
    t, goals = messages.times("goal"), np.asarray(messages.values["goal"])[:, :3]
    _check_series("goal", t, [goals])
    changed = np.flatnonzero(np.abs(np.diff(goals, axis=0)).max(axis=1) > SAME_GOAL_M) + 1
    edges = [-np.inf, *t[changed].tolist(), np.inf]
    return [Leg(Interval(*edge), goals[i]) for edge, i in zip(pairwise(edges), [0, *changed], strict=True)]


def _legs_to_rests(bag: Path, pose: Series, config: BagConfig, report: BagReport) -> list[Leg]:
    """The legs of a flight whose goals nobody published."""
    topic = config.topics.goal
    legs = list(find_legs(pose.t, pose.values[:, :3], config))
    if not legs:
        raise BagProblem(f"no {topic} (goal), and it never came to rest in the air; record its goals")
    report.note(bag, f"no {topic} (goal): where it came to rest is taken for it")
    return legs


def _cut_spans(
    bag: Path, intervals: Sequence[Interval], legs: Sequence[Leg], min_span: float, report: BagReport
) -> tuple[Span, ...]:
    """The intervals cut into legs, without the short ones.

    Raises:
        BagProblem: if nothing is left.
    """
    pieces = [(piece, leg.goal) for leg in legs for piece in intersect(intervals, [leg.interval])]
    spans = tuple(Span(*piece, goal) for piece, goal in pieces if remove_short([piece], min_span))
    if not spans:
        raise BagProblem(f"no span of {min_span:g} s in which everything is known")
    if len(spans) < len(pieces):
        report.note(bag, f"spans shorter than {min_span:g} s left out")
    return spans
