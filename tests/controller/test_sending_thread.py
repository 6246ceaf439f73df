"""The sending thread: nothing that sending raises ends it, what cannot be sent is known; the last words of a link."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest
from bench_link import CONFIG, FLY, Bench
from numpy.typing import ArrayLike
from witness import wait_for

from deq_mpc_controller.vehicle_io import OFF, Setpoint, SetpointKind

EMERGENCY = Setpoint(SetpointKind.EMERGENCY)
IMPATIENT = CONFIG.model_copy(update={"stall_time": 0.1})


class Threaded(Bench):
    """Sends from its thread, in real time; what is sent raises ``error`` as long as there is one."""

    def __init__(self) -> None:
        super().__init__(config=IMPATIENT)
        self._clock = time.monotonic
        self.error: Exception | None = None
        self.ground_error: Exception | None = None
        self.stops: list[str] = []
        self.failures = 0
        self.unblocked = threading.Event()
        self.unblocked.set()
        self._thread.start()

    def _fail(self, error: Exception | None) -> None:
        if error is not None:
            self.failures += 1
            raise error

    def _send_setpoint(self, setpoint: Setpoint) -> None:
        self._fail(self.error)
        self.unblocked.wait()
        super()._send_setpoint(setpoint)

    def _forward_pose(self, pos: ArrayLike, quat: ArrayLike) -> None:
        self._fail(self.error)

    def _tend(self) -> None:
        self._fail(self.ground_error)

    def _request_emergency(self) -> None:
        self._fail(self.error)
        self.stops.append("emergency")

    def _send_stop(self) -> None:
        self.stops.append("stop")

    def flies(self, setpoint: Setpoint = FLY) -> bool:
        """Whether the setpoint, sent once more, is the last that has left."""
        self.send(setpoint)
        return self.sent[-1:] == [setpoint]


@pytest.fixture
def link() -> Iterator[Threaded]:
    link = Threaded()
    yield link
    link.error = link.ground_error = None
    link.send(OFF)
    link.close()


def test_one_setpoint_that_fails_in_the_air_is_followed_by_the_next(
    link: Threaded, caplog: pytest.LogCaptureFixture
) -> None:
    wait_for(link.flies)
    link.error = OSError("no buffer")
    with caplog.at_level(logging.ERROR):
        wait_for(lambda: link.failures > 0)
    assert (link.status().fault, link.status().lost) == ("", False)
    assert "OSError: no buffer" in caplog.text
    link.error = None
    link.sent.clear()
    wait_for(link.flies)
    assert (link.status().fault, link.status().lost) == ("", False)


def test_setpoints_that_cannot_be_sent_are_a_lost_link_until_one_leaves(link: Threaded) -> None:
    wait_for(link.flies)
    link.error = KeyError("topic")

    def lost() -> bool:
        link.send(FLY)
        link.send_pose([0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0])
        return link.status().lost

    wait_for(lost)
    assert link.status().fault == "sending fails (KeyError: 'topic')"
    link.error = None
    wait_for(lambda: link.flies(OFF) and not link.status().lost)
    assert link.status().fault == ""


def test_a_thread_that_hangs_is_a_lost_link(link: Threaded) -> None:
    wait_for(link.flies)
    link.unblocked.clear()
    link.send(FLY)
    wait_for(lambda: link.status().lost)
    assert link.status().fault == "setpoints wait to be sent"
    link.unblocked.set()
    wait_for(lambda: not link.status().lost)


def test_what_fails_on_the_ground_is_said_as_long_as_it_does(link: Threaded) -> None:
    link.ground_error = AttributeError("no updater")
    wait_for(lambda: "no updater" in link.status().fault)
    assert not link.status().lost
    wait_for(lambda: link.flies(OFF))
    link.ground_error = None
    wait_for(lambda: link.status().fault == "")


def test_a_silent_controller_is_no_stalled_thread(link: Threaded) -> None:
    wait_for(link.flies)
    wait_for(lambda: link.status().stopped)
    assert not link.status().lost


@pytest.mark.parametrize("broken", [False, True])
def test_a_link_is_closed_after_all_of_its_emergency_stops(broken: bool) -> None:
    link = Threaded()
    wait_for(link.flies)
    link.error = OSError("gone") if broken else None
    link.send(EMERGENCY)
    link.send(OFF)
    link.close()
    assert link.stops == ([] if broken else ["emergency"] * CONFIG.emergency_repeats)
    assert link.failures == (CONFIG.emergency_repeats if broken else 0)
