"""What every link shares, against a vehicle in simulated time: when it is armed, and when disarmed."""

from __future__ import annotations

import numpy as np
import pytest
from bench_link import ARM, CONFIG, FLY, Bench
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_controller.setpoint_stream import Sent
from deq_mpc_controller.steady_link import FLYING
from deq_mpc_controller.vehicle_io import OFF, Setpoint, SetpointKind
from deq_mpc_core.policy.interface import Command


def test_it_is_disarmed_when_that_is_asked_for_before_the_take_off() -> None:
    link = Bench()
    link.run(1.0, ARM)
    assert link.requests == [(0.0, True)]
    link.run(2.0, OFF)
    assert not link.armed
    assert len(link.disarm_requests()) == 1


def test_the_request_to_disarm_is_repeated_until_it_is_heard() -> None:
    link = Bench()
    link.run(1.0, ARM)
    link.deaf = True
    link.run(2.0, OFF)
    asked = len(link.disarm_requests())
    assert asked >= 3
    link.deaf = False
    link.run(2.0, OFF)
    assert not link.armed
    assert len(link.disarm_requests()) == asked + 1


def test_a_vehicle_that_has_not_said_yet_that_it_is_armed_is_disarmed_all_the_same() -> None:
    link = Bench()
    link.deaf = True
    link.run(0.02, ARM)
    link.run(2.0, OFF)
    assert len(link.disarm_requests()) == 1


def test_after_a_landing_it_is_disarmed_once_it_is_surely_down() -> None:
    link = Bench()
    link.run(1.0, ARM)
    link.run(2.0, FLY)
    link.run(CONFIG.down_time - 0.1, OFF)
    assert link.disarm_requests() == []
    link.run(0.5, OFF)
    assert not link.armed


@pytest.mark.parametrize("setpoint", [OFF, ARM, FLY])
def test_a_vehicle_that_arms_by_itself_is_asked_for_nothing(setpoint: Setpoint) -> None:
    link = Bench(auto_arm=True)
    link.run(1.0, setpoint)
    link.run(6.0, OFF)
    assert link.requests == []


def test_what_somebody_else_armed_stays_armed() -> None:
    link = Bench()
    link.armed = True
    link.run(5.0, OFF)
    assert link.requests == []


def test_the_last_word_of_a_link_that_is_closed_is_to_disarm() -> None:
    link = Bench()
    link.run(1.0, ARM)
    link._thread.start()
    link.close()
    assert link.requests[-1] == (link.t, False)


def test_what_it_sends_by_itself_is_what_the_controller_believes() -> None:
    """Estimator and link follow the same stream after a late control step."""
    plan = tuple(Command(0.0, 0.05 * k, 0.0, 0.3) for k in range(6))
    link, setpoint = Bench(), Setpoint(SetpointKind.FLY, FLY.command, arm=True, plan=plan, spacing=0.05)
    link.send(setpoint)
    times = []
    end = CONFIG.hold_time + CONFIG.level_time
    while link.t < end + 0.1:
        link.serve()
        times.append(link.t)
        link.t += CONFIG.send_period * (1.0 + 1e-9)
    _, believed = Sent(0.0, setpoint).until(link.t, CONFIG)
    assert len(believed) > CONFIG.level_time / CONFIG.send_period
    for (t, command), sent, sent_at in zip(believed, link.sent[1:], times[1:], strict=False):
        assert t == pytest.approx(sent_at, abs=1e-6)
        if abs(t - end) > 1e-6:  # one of the two may be level yet, the other off
            np.testing.assert_allclose(command, sent.command, atol=1e-6)
    assert all(sent.kind is SetpointKind.OFF for sent in link.sent[len(believed) + 1 :])


def test_a_controller_that_was_silent_for_too_long_does_not_take_off_again() -> None:
    link = Bench()
    link.run(1.0, FLY)
    assert not link.status().stopped
    link.run(CONFIG.hold_time + CONFIG.level_time + 0.1)
    assert link.status().stopped
    link.sent.clear()
    link.run(1.0, FLY)
    assert {sent.kind for sent in link.sent} == {SetpointKind.OFF}
    assert link.status().stopped
    link.run(0.1, OFF)
    assert not link.status().stopped
    link.run(0.1, FLY)
    assert link.sent[-1] == FLY


phases = st.lists(
    st.tuples(
        st.sampled_from([None, OFF, ARM, FLY, Setpoint(SetpointKind.EMERGENCY)]), st.sampled_from([0.05, 0.7, 2.5])
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(phases=phases, deaf=st.booleans(), liar=st.booleans())
def test_nobody_is_disarmed_in_the_air(phases: list[tuple[Setpoint | None, float]], deaf: bool, liar: bool) -> None:
    """Whatever is sent, however long the controller is silent; even if the reports do not say that it flies."""

    class Watched(Bench):
        def _bits(self) -> int:
            return super()._bits() & ~FLYING if liar else super()._bits()

        def _request_arming(self, arm: bool) -> None:
            super()._request_arming(arm)
            assert arm or self.t - self.sent_fly > CONFIG.down_time
            assert arm or not self._bits() & FLYING
            assert arm == self._due().arm

    link = Watched()
    for setpoint, seconds in phases:
        link.run(seconds, setpoint)
        link.deaf = deaf and not link.deaf
    link.deaf = False
    emergency = any(setpoint is not None and setpoint.kind is SetpointKind.EMERGENCY for setpoint, _ in phases)
    link.run(5.0, OFF)
    assert not link.armed or emergency
