"""Rate, latency, refusals and gaps of the poses."""

from math import inf

import numpy as np
import pytest

from deq_mpc_controller.estimate import Gate
from deq_mpc_controller.mocap_monitor import MocapMonitor, MocapReport


def feed(monitor: MocapMonitor, begin: float, end: float, gate: Gate = Gate.ACCEPTED, latency: float = 0.01) -> None:
    for t in np.arange(begin, end, 0.01):
        monitor.add(t - latency, t, gate)


def test_nothing_before_the_first_pose() -> None:
    assert MocapMonitor(0.1).report(1.0) == MocapReport(0.0, 0.0, inf, 0.0)


def test_a_steady_stream() -> None:
    monitor = MocapMonitor(0.1)
    feed(monitor, 0.0, 2.0)
    report = monitor.report(2.0)
    assert report.seen_for == pytest.approx(2.0)
    assert report.rate == pytest.approx(100.0, abs=1.0)
    assert report.latency == pytest.approx(0.01)
    assert report.rejects == 0.0


def test_a_gap_begins_the_time_anew_and_silence_ends_it() -> None:
    monitor = MocapMonitor(0.1)
    feed(monitor, 0.0, 1.0)
    feed(monitor, 1.5, 2.0)
    assert monitor.report(2.0).seen_for == pytest.approx(0.5)
    assert monitor.report(2.3).seen_for == 0.0
    assert monitor.report(4.0) == MocapReport(0.0, 0.0, inf, 0.0)


def test_refused_poses_count_once_there_are_enough_but_doubles_do_not() -> None:
    monitor = MocapMonitor(0.1)
    feed(monitor, 0.0, 0.05, Gate.JUMP)
    assert monitor.report(0.05).rejects == 0.0
    feed(monitor, 0.05, 0.5)
    feed(monitor, 0.05, 0.5, Gate.OUT_OF_ORDER)
    feed(monitor, 0.5, 1.0, Gate.JUMP)
    assert monitor.report(1.0).rejects == pytest.approx(0.55, abs=0.02)
    feed(monitor, 1.0, 2.1)
    assert monitor.report(2.1).rejects == 0.0


def test_the_shortest_latency_shows_a_clock_that_is_behind() -> None:
    monitor = MocapMonitor(0.1)
    feed(monitor, 0.0, 1.0, latency=0.3)
    assert monitor.report(1.0).latency == pytest.approx(0.3)


def test_memory_is_bounded_at_any_rate() -> None:
    monitor = MocapMonitor(0.1)
    for _ in range(10_000):
        monitor.add(0.0, 0.0, Gate.ACCEPTED)
    assert monitor.report(0.0).rate == 2000.0
