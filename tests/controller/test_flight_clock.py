"""The flight's time when the system's clock is set: it runs on, and stamps of that clock are understood."""

from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_controller.flight_clock import FlightClock

EPOCH = 1.7e9


class Clocks:
    """A steady clock and one that can be set; reading either may take time."""

    def __init__(self, delay: float = 0.0) -> None:
        self.elapsed, self.set_by, self.delay = 0.0, 0.0, delay

    def system(self) -> float:
        self.elapsed += self.delay
        return EPOCH + self.elapsed + self.set_by

    def steady(self) -> float:
        return 100.0 + self.elapsed


jumps = st.floats(-1e5, 1e5).filter(lambda jump: abs(jump) > 0.05)
events = st.lists(st.tuples(st.floats(0.0, 1.0), st.one_of(st.just(0.0), jumps)), max_size=20)


@settings(max_examples=200, deadline=None)
@given(events=events, delay=st.sampled_from([0.0, 0.001, 0.03]))
def test_time_is_the_steady_clocks_however_the_other_is_set(events: list[tuple[float, float]], delay: float) -> None:
    clocks = Clocks(delay)
    clock = FlightClock(clocks.system, clocks.steady)
    before, settings_ = clock.now(), 0
    began = before - clocks.elapsed
    for passed, jump in events:
        clocks.elapsed += passed
        clocks.set_by += jump
        settings_ += jump != 0.0
        now = clock.now()
        assert now >= before
        assert abs(now - clocks.elapsed - began) < 1e-5
        stamp = EPOCH + clocks.elapsed + clocks.set_by
        assert abs(clock.from_system(stamp) - now) < 0.01 + 2.0 * delay
        assert abs(clock.to_system(clock.from_system(stamp)) - stamp) < 1e-5
        before = now
    assert clock.settings == settings_


def test_until_it_is_set_it_is_the_systems() -> None:
    clocks = Clocks()
    clock = FlightClock(clocks.system, clocks.steady)
    clocks.elapsed = 5.0
    assert clock.now() == EPOCH + 5.0
    assert clock.from_system(EPOCH + 4.99) == EPOCH + 4.99
    assert clock.settings == 0


def test_a_slow_reading_is_no_setting() -> None:
    clocks = Clocks()
    clock = FlightClock(clocks.system, clocks.steady)
    clocks.delay = 0.3
    clock.now()
    assert clock.settings == 0
