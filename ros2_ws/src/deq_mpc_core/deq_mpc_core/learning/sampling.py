"""One flight's training samples.

A sample at time t is the state x(t), what was known (goal, obstacles at t), the label (positions and velocities at
t + k dt) and the states that followed at the control period, for training that streams.

The label is what the expert flew; after the end of a flight that reached the goal it settles there. Where a flight has
plans of the expert, only these are labels, each at its first stamp: a learner flew, whose way is not to be imitated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.config import Config, in_unit
from deq_mpc_core.learning.bag_report import BagReport
from deq_mpc_core.learning.flight_log import FlightLog, Series, Span
from deq_mpc_core.learning.track import Motion, Track, interpolate_motion
from deq_mpc_core.obstacles import move

Array = NDArray[np.float64]
Second = Annotated[float, in_unit("s")]
Metre = Annotated[float, in_unit("m")]
MetrePerSecond = Annotated[float, in_unit("m/s")]
ROUNDING = 1e-6
"""Stamps are compared with this tolerance [s]."""


class SampleConfig(Config):
    """How a flight is sampled and smoothed, and what counts as having reached the goal."""

    stride: Second
    window_pos: Second
    window_rpy: Second
    goal_radius: Metre
    goal_speed: MetrePerSecond
    settle: Second


@dataclass(frozen=True)
class SampleSpec:
    """Times of a sample's label and next states.

    Attributes:
        dt: step between knots [s]. horizon: knots T that training needs at once.
        dt_control: control period [s]. steps: how many next states, i.e. restarts of the policy, follow a sample.
    """

    dt: float
    horizon: int
    dt_control: float
    steps: int

    @property
    def label_knots(self) -> int:
        """Knots of a label: the horizon, still whole when it starts ``steps`` control periods later."""
        return self.horizon + math.ceil(self.steps * self.dt_control / self.dt - 1e-9)

    @property
    def label_times(self) -> Array:
        """(label_knots,) seconds from the sample."""
        return self.dt * np.arange(self.label_knots, dtype=np.float64)

    @property
    def next_times(self) -> Array:
        """(steps,) seconds from the sample."""
        return self.dt_control * np.arange(1, self.steps + 1, dtype=np.float64)


@dataclass(frozen=True)
class FlightSamples:
    """n samples of one flight, see ``Dataset``; ``obstacle_sets``: arrays (K, 7), a single one if nothing moves."""

    x: NDArray[np.float32]
    x_next: NDArray[np.float32]
    goal: NDArray[np.float32]
    label: NDArray[np.float32]
    t: NDArray[np.float32]
    obstacle_sets: tuple[NDArray[np.float32], ...]
    obstacle_set: NDArray[np.int32]


@dataclass(frozen=True)
class _Future:
    """A motion known until ``end`` that, if it ended at the goal, settles there within ``settle`` seconds."""

    known: Callable[[Array], Motion]
    end: float
    goal: Array
    config: SampleConfig

    def covers(self, t: Array) -> NDArray[np.bool_]:
        """Whether the motion is known at times (n,)."""
        return (t <= self.end + ROUNDING) | self._ended_at_goal()

    def motion(self, t: Array) -> Array:
        """Positions and velocities (n, 6) at covered times (n,)."""
        beyond = t > self.end + ROUNDING
        motion = self.known(np.minimum(t, self.end))
        if beyond.any():
            last = self._last()
            rest = Motion(np.vstack([last.pos, self.goal]), np.vstack([last.vel, np.zeros(3)]))
            settling = interpolate_motion(np.array([self.end, self.end + self.config.settle]), rest, t)
            motion = Motion(*(np.where(beyond[:, None], s, m) for s, m in zip(settling, motion, strict=True)))
        return np.concatenate(motion, axis=1)

    def _last(self) -> Motion:
        return self.known(np.array([self.end]))

    def _ended_at_goal(self) -> bool:
        last = self._last()
        near = np.linalg.norm(last.pos[0] - self.goal) <= self.config.goal_radius
        return bool(near and np.linalg.norm(last.vel[0]) <= self.config.goal_speed)


def _flown_labels(span: Span, track: Track, config: SampleConfig, spec: SampleSpec) -> tuple[Array, Array]:
    """Times (n,) and labels (n, label_knots, 6) of the samples of a span in which the expert flew."""
    future = _Future(track.motion, span.end, span.goal, config)
    first = span.start + 0.5 * config.window_pos  # before it the smoothing is one-sided and errs several times as much
    t = np.arange(first, span.end - spec.steps * spec.dt_control + ROUNDING, config.stride)
    t = t[future.covers(t + spec.label_times[-1])]
    query = t[:, None] + spec.label_times
    return t, future.motion(query.ravel()).reshape(*query.shape, 6)


def _plan_motion(plan: Series) -> Motion:
    return Motion(plan.values, np.gradient(plan.values, plan.t, axis=0, edge_order=2))


def _planned_labels(
    log: FlightLog, span: Span, config: SampleConfig, spec: SampleSpec, report: BagReport
) -> tuple[Array, Array]:
    """Times (n,) and labels (n, label_knots, 6) of the expert's plans that start in a span."""
    times, labels = [], []
    for plan in log.plans:
        if len(plan.t) < 3 or np.any(np.diff(plan.t) <= 0.0) or not np.isfinite(plan.values).all():
            report.note(log.source, "expert's plans with NaN, unordered stamps or fewer than 3 poses left out")
            continue
        start = float(plan.t[0])
        if not span.start - ROUNDING <= start <= span.end - spec.steps * spec.dt_control + ROUNDING:
            continue
        known = partial(interpolate_motion, plan.t, _plan_motion(plan))
        future = _Future(known, float(plan.t[-1]), span.goal, config)
        query = start + spec.label_times
        if not future.covers(query[-1:])[0]:
            report.note(log.source, "expert's plans that end before the label and off the goal left out")
            continue
        times.append(start)
        labels.append(future.motion(query))
    return np.array(times), np.array(labels).reshape(-1, spec.label_knots, 6)


def obstacles_at(log: FlightLog, t: Array) -> tuple[tuple[Array, ...], NDArray[np.int32]]:
    """Obstacle sets, and the set of each time (n,): the latest message's, moved on at its velocity."""
    latest = np.maximum(np.searchsorted(log.cloud_t, t + ROUNDING, side="right") - 1, 0)
    first = log.clouds[latest[0]]
    if all(np.array_equal(cloud, first) and not cloud[:, 4:7].any() for cloud in (log.clouds[i] for i in set(latest))):
        return (first,), np.zeros(len(t), np.int32)
    ages = t - log.cloud_t[latest]
    sets = tuple(move(log.clouds[i], age) for i, age in zip(latest, ages, strict=True))
    return sets, np.arange(len(t), dtype=np.int32)


def pose_part(pose: Series, span: Span) -> Series:
    """The poses of a span."""
    inside = (pose.t >= span.start - ROUNDING) & (pose.t <= span.end + ROUNDING)
    return Series(pose.t[inside], pose.values[inside])


def sample_flight(
    log: FlightLog, config: SampleConfig, spec: SampleSpec, tau_thrust: float, report: BagReport
) -> FlightSamples | None:
    """All samples of a flight, or None if it gives none. ``tau_thrust`` is the thrust's time constant [s]."""
    parts: list[tuple[Array, Array, Array, Array]] = []
    for span in log.spans:
        track = Track(pose_part(log.pose, span), log.thrust, tau_thrust, config.window_pos, config.window_rpy)
        t, label = (
            _planned_labels(log, span, config, spec, report) if log.plans else _flown_labels(span, track, config, spec)
        )
        if len(t):
            query = t[:, None] + np.concatenate([[0.0], spec.next_times])
            states = track.states(query.ravel()).reshape(*query.shape, -1)
            parts.append((t, label, states, np.tile(span.goal, (len(t), 1))))
    if not parts:
        return None
    t, label, states, goal = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    obstacle_sets, obstacle_set = obstacles_at(log, t)
    return FlightSamples(
        x=states[:, 0].astype(np.float32),
        x_next=states[:, 1:].astype(np.float32),
        goal=goal.astype(np.float32),
        label=label.astype(np.float32),
        t=t.astype(np.float32),
        obstacle_sets=tuple(obstacles.astype(np.float32) for obstacles in obstacle_sets),
        obstacle_set=obstacle_set,
    )
