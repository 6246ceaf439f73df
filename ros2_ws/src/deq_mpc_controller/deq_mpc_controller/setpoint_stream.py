"""What is due at the vehicle when the controller's last setpoint is some time old. Pure: the link asks, and sends.

    age <= hold_time                 the plan that the setpoint carries, interpolated; without one, its command
    ... + level_time                 level, sinking
    later                            motors off

so that a control step may be late without a jolt, and a controller that died brings the vehicle down. The three follow
each other and never go back; motors off and the emergency stop stay what they are, whatever their age. A flight that
has come to the third is over: a controller that wakes up then knows nothing of it, and would take off again from
wherever the vehicle has fallen. So nothing of a flight leaves any more before the controller has said OFF itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf, isfinite

from deq_mpc_controller.vehicle_io import NO_COMMAND, OFF, LinkConfig, Setpoint, SetpointKind
from deq_mpc_core.models.crazyflie import hover_thrust
from deq_mpc_core.policy.interface import Command


def due_setpoint(last: Setpoint, age: float, config: LinkConfig) -> Setpoint:
    """What to send when the last setpoint is ``age`` old [s]. A command that is not finite is never sent."""
    if last.kind is not SetpointKind.FLY:
        return last
    if age <= config.hold_time:
        command = planned_command(last, age)
        if all(isfinite(value) for value in command):
            return replace(last, command=command)
    if age <= config.hold_time + config.level_time:
        hover = hover_thrust() if last.hover is None else last.hover
        return replace(last, command=NO_COMMAND._replace(thrust=config.level_thrust * hover))
    return OFF


@dataclass(frozen=True)
class Stream:
    """What the controller has given the link.

    Attributes:
        last: the last setpoint; t: when it came [s].
        ended: a flight had ended by silence before it.
    """

    last: Setpoint = OFF
    t: float = -inf
    ended: bool = False

    def add(self, setpoint: Setpoint, now: float, config: LinkConfig) -> Stream:
        """The stream with a setpoint given ``now`` [s]. After an emergency stop nothing else counts."""
        if self.last.kind is SetpointKind.EMERGENCY:
            return self
        return Stream(setpoint, now, setpoint.kind is SetpointKind.FLY and self.has_ended(now, config))

    def has_ended(self, now: float, config: LinkConfig) -> bool:
        """Whether a flight has ended by silence, and the controller has not said OFF since."""
        silent = now - self.t > config.hold_time + config.level_time
        return self.ended or (silent and self.last.kind is SetpointKind.FLY)

    def due(self, now: float, config: LinkConfig) -> Setpoint:
        """What to send ``now`` [s]."""
        return OFF if self.has_ended(now, config) else due_setpoint(self.last, now - self.t, config)


@dataclass(frozen=True)
class Sent:
    """A setpoint, and how far it is known what the link sent after it.

    Attributes:
        t: when it was sent [s]; setpoint: itself.
        repeats: how many periods of the stream after it are known.
    """

    t: float = 0.0
    setpoint: Setpoint = OFF
    repeats: int = 0

    def until(self, now: float, config: LinkConfig) -> tuple[Sent, list[tuple[float, Command]]]:
        """What the link has sent since until ``now`` [s], with the times, if nobody gave it a newer setpoint.

        Every ``send_period``, up to the end of the stream: motors off stay off.
        """
        if self.setpoint.kind is not SetpointKind.FLY:
            return self, []
        period = config.send_period
        last = ceil((config.hold_time + config.level_time) / period) + 1
        count = min(max(ceil((now - self.t) / period) - 1, self.repeats), last)
        ages = [number * period for number in range(self.repeats + 1, count + 1)]
        stream = [(self.t + age, due_setpoint(self.setpoint, age, config).command) for age in ages]
        return replace(self, repeats=count), stream


def planned_command(setpoint: Setpoint, age: float) -> Command:
    """The setpoint's command ``age`` [s] after it: linear between its planned ones, the last of them from there on."""
    knots = (setpoint.command, *setpoint.plan)
    if len(knots) == 1 or age <= 0.0:
        return setpoint.command
    place = min(age / setpoint.spacing, len(knots) - 1.0)
    index = min(int(place), len(knots) - 2)
    share = place - index
    before, after = knots[index], knots[index + 1]
    return Command(*((1.0 - share) * first + share * second for first, second in zip(before, after, strict=True)))
