"""Hovering in FLY, without a goal or by request: obstacles count there, too."""

import numpy as np
from lockstep_flight import START, Flight

from deq_mpc_controller.flight import Mode, Request, Source
from deq_mpc_controller.pilot import Step
from deq_mpc_controller.surroundings import Surroundings


class Approached(Flight):
    """A flight without a goal: an obstacle comes to where it hovers, at 0.3 m/s, and passes."""

    @property
    def world(self) -> Surroundings:
        since = 0.0 if self.fly_began is None else self.vehicle.t - self.fly_began
        x = START[0] + 1.2 - 0.3 * since
        obstacle = np.array([[x, START[1] + 0.1, START[2], 0.25, -0.3, 0.0, 0.0]])
        return Surroundings(start=START, obstacles=obstacle, obstacles_stamp=self.vehicle.t)

    @world.setter
    def world(self, _given: Surroundings) -> None: ...

    def clearance(self) -> float:
        return self.world.clearance(self.vehicle.t, self.vehicle.truth.pos)


def test_who_hovers_keeps_off_obstacles_too_and_comes_back() -> None:
    flight, clearances = Approached(), []
    flight.pilot._auto = False
    requests = iter([Request.ARM, Request.TAKEOFF])
    step = flight.pilot.step

    def asked(*arguments: object) -> Step:
        wanted = next(requests, None) if flight.pilot.state.mode in (Mode.READY, Mode.ARMED) else None
        return step(*arguments, frozenset({wanted} if wanted else ()))

    flight.pilot.step = asked

    def look(step: Step) -> bool:
        if step.state.mode is Mode.FLY:
            clearances.append(flight.clearance())
        return flight.fly_began is not None and flight.vehicle.t - flight.fly_began > 9.0

    last = flight.run(look)
    assert {s.source for s in flight.steps if s.state.mode is Mode.FLY} == {Source.HOLD}
    assert min(clearances) > 0.0
    np.testing.assert_allclose(flight.vehicle.truth.pos, last.state.anchor, atol=0.15)
