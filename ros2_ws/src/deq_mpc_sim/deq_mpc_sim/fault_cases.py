"""Every fault that a whole flight is put through, and what is a good end of it.

What happens must follow from the controller's limits and from the firmware's; it is declared here, with the reason why
it is good, before anybody flies. ``fault_table.py`` flies and judges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from math import inf

import numpy as np

from deq_mpc_controller.flight import FELL, Request
from deq_mpc_controller.safety import Reason
from deq_mpc_controller.settings import controller_config
from deq_mpc_sim import mishaps
from deq_mpc_sim.good_ends import Good, comes_down, completes, lands, warns
from deq_mpc_sim.mishaps import NOTHING, Mishap, MishapFrom, Span, packets

_SAFETY, _LINK = controller_config().safety, controller_config().link

MOTORS_STOP = "the motors stop"
"""What is seen of a link that stops them while nobody says anything."""
SELF_LOCKED = "the vehicle has locked itself"
"""Said for a vehicle whose controller is gone: its supervisor does not let the motors turn again."""
_FIRMWARE_STOP = 2.0  # s: age of the setpoint at which the firmware stops the motors
_FIRMWARE = "nothing reaches it: the firmware levels out after 0.5 s and stops the motors after 2 s"
_POSE = Reason.POSE.value


class Phase(Enum):
    """In whose middle the fault sets in."""

    TAKEOFF = "take-off"
    FLY = "fly"
    LAND = "land"


@dataclass(frozen=True)
class FaultCase:
    """One row of three cells.

    Attributes:
        name: of the fault.
        mishap: the one that sets in at a time [s].
        good: in any phase but the ``exceptions``.
    """

    name: str
    mishap: MishapFrom
    good: Good
    exceptions: Mapping[Phase, Good] = field(default_factory=dict)

    def good_in(self, phase: Phase) -> Good:
        """What is good in a phase."""
        return self.exceptions.get(phase, self.good)


def all_cases() -> tuple[FaultCase, ...]:
    """All rows; the first is the flight without a fault."""
    return (
        FaultCase("none", lambda _: NOTHING, completes("the reference")),
        *_mocap_cases(),
        *_clock_cases(),
        *_obstacle_cases(),
        *_policy_cases(),
        *_process_cases(),
        *_link_cases(),
        *_propulsion_cases(),
        *_push_cases(),
        *_request_cases(),
    )


def _mocap_cases() -> Iterator[FaultCase]:
    each = mishaps.poses
    gone = comes_down(_SAFETY.pose_descend, "where it is nobody knows: level and down blindly, then motors off", _POSE)
    yield FaultCase(
        "mocap: silent for 0.15 s",
        each(lambda _: None, 0.15),
        warns(Reason.POSE, _SAFETY.pose_warn, "predicted for so long"),
    )
    yield FaultCase(
        "mocap: silent for 0.5 s",
        each(lambda _: None, 0.5),
        lands(_SAFETY.pose_descend, "blindly down until it is back, then a landing", _POSE),
    )
    yield FaultCase("mocap: silent", each(lambda _: None), gone)
    yield FaultCase("mocap: frozen", lambda t: Mishap(poses=mishaps.freeze(Span(t))), gone)
    yield FaultCase("mocap: NaN", each(lambda pose: pose._replace(pos=np.full(3, np.nan))), gone)
    yield FaultCase("mocap: another body's pose", mishaps.another_body((0.9, -0.6, 0.0)), gone)
    yield FaultCase(
        "mocap: no attitude",
        each(lambda pose: pose._replace(quat=np.full(4, np.nan))),
        lands(_SAFETY.attitude_land, "the position is known, the attitude predicted", Reason.ATTITUDE.value),
    )
    yield FaultCase(
        "mocap: jumps by 0.5 m and stays there",
        mishaps.outliers((0.5, 0.0, 0.0), lambda _: True),
        comes_down(_SAFETY.pose_descend, "which of the two places is right nobody knows", _POSE, Reason.REJECTS.value),
    )
    yield FaultCase(
        "mocap: one pose in 20 is 1 m off",
        mishaps.outliers((0.0, 1.0, 0.0), lambda count: count % 20 == 0),
        completes("single outliers are refused"),
    )
    yield FaultCase(
        "mocap: two poses in three are 1 m off",
        mishaps.outliers((0.0, 1.0, 0.0), lambda count: count % 3 != 0),
        lands(1.0, "more poses are wrong than right", Reason.REJECTS.value),
    )
    yield FaultCase(
        "mocap: runs away by 4 m/s for 0.3 s",
        mishaps.runaway_mocap(4.0, 0.3),
        lands(0.3, "where it is nobody knows, but it does not fly as fast as that", Reason.SPEED.value),
    )
    yield FaultCase("mocap: 20 Hz", mishaps.slow_mocap(5), completes("enough to fly with"))
    yield FaultCase(
        "mocap: 4 Hz",
        mishaps.slow_mocap(25),
        lands(0.25 + _SAFETY.pose_descend, "blindly down between two poses", _POSE),
    )
    yield FaultCase(
        "mocap: later by 0.1 s every second, up to 0.5 s",
        lambda t: Mishap(poses=mishaps.delay_more(Span(t), 0.1, 0.5)),
        lands(10.0 * _SAFETY.pose_descend, "predicted for 0.2 s", _POSE),
        {Phase.LAND: completes("down before it matters")},
    )


def _clock_cases() -> Iterator[FaultCase]:
    gone = comes_down(_SAFETY.pose_descend, "stamps that mean nothing: as without motion capture", _POSE)
    yield FaultCase("clock of the mocap: set back by 1 s", mishaps.clocks(mocap=-1.0), gone)
    yield FaultCase("clock of the mocap: set forward by 1 s", mishaps.clocks(mocap=1.0), gone)
    yield FaultCase("clock of the controller: set back by 1 s", mishaps.clocks(system=-1.0), gone)
    both = completes("the controller's steady clock tells by how much")
    yield FaultCase("clock of both: set back by 1 h", mishaps.clocks(-3600.0, -3600.0), both)
    yield FaultCase("clock of both: set forward by 1 h", mishaps.clocks(3600.0, 3600.0), both)


def _obstacle_cases() -> Iterator[FaultCase]:
    done = {Phase.LAND: completes("they count while it flies to a goal")}
    stood = {Phase.TAKEOFF: completes("they stood when they were last heard of; once is enough then"), **done}
    gone = lands(_SAFETY.obstacle_age, "they moved; where they are by now nobody knows", Reason.OBSTACLE_AGE.value)
    yield FaultCase("obstacles: silent", mishaps.obstacles(lambda _: None), gone, stood)
    yield FaultCase("obstacles: NaN", mishaps.obstacles(lambda spheres: spheres * np.nan), gone, stood)
    everywhere = np.array([[0.0, 0.0, 1.0, 9.0, 0.0, 0.0, 0.0]])
    yield FaultCase(
        "obstacles: one is everywhere",
        mishaps.obstacles(lambda _: everywhere),
        lands(_SAFETY.obstacle_time, "no way out of it", Reason.OBSTACLE.value),
        {Phase.TAKEOFF: lands(3.0, "no way out of it, once it flies to the goal", Reason.OBSTACLE.value), **done},
    )


def _policy_cases() -> Iterator[FaultCase]:
    why = "no policy answers: the last command, then level and down"
    for how, name, reason in (
        ("raises", "raise", Reason.POLICY),
        ("nan", "give NaN", Reason.COMMAND),
        ("fails", "cannot solve", Reason.SOLVER),
    ):
        yield FaultCase(f"policies: {name}", mishaps.policies(how), lands(0.1, why, reason.value))
    yield FaultCase(
        "policies: never converge", mishaps.policies("iterates"), completes("a plan that has not converged still flies")
    )
    for seconds in (0.03, 0.2):
        limit = _SAFETY.late_time + 3.0 * seconds
        yield FaultCase(
            f"policies: {1e3 * seconds:.0f} ms a step",
            mishaps.slow_policies(seconds),
            lands(limit, f"late steps for {_SAFETY.late_time:g} s", Reason.DEADLINE.value),
        )
    why = "kept off by the command filter until its time runs out"
    overruled = replace(lands(5.0, why, Reason.FILTER.value, Reason.PROXIMITY.value), clear=True)
    done = {Phase.LAND: completes("it has done its part")}
    for kind, what in (
        ("escape", "flies at the fence"),
        ("ram", "flies at obstacles"),
        ("bang-bang", "all or nothing"),
    ):
        yield FaultCase(f"policy to the goal: {what}", mishaps.adversary(kind), overruled, done)


def _process_cases() -> Iterator[FaultCase]:
    silence = _LINK.hold_time + _LINK.level_time
    stops = "the link follows the plan, levels, sinks, stops the motors"
    for seconds, good in (
        (0.3, warns(Reason.DEADLINE, 0.3, "the link follows the plan for 0.2 s, then levels")),
        (2.0, comes_down(silence, f"{stops}; whoever wakes up then is told", MOTORS_STOP, Reason.SILENCE.value)),
        (inf, comes_down(silence, stops, MOTORS_STOP)),
    ):
        name = f"one step takes {seconds:g} s" if seconds < inf else "hangs"
        yield FaultCase(f"controller: {name}", mishaps.stuck(seconds), good)
    for seconds, good in (
        (0.3, warns(Reason.DEADLINE, 0.3, "the vehicle keeps its last setpoint for 0.5 s")),
        (1.0, warns(Reason.DEADLINE, 1.0, "the firmware levels out after 0.5 s")),
        (1.5, comes_down(1.5, "too long: who wakes up is told, and the motors stop", Reason.SILENCE.value)),
        (inf, comes_down(_FIRMWARE_STOP, _FIRMWARE, SELF_LOCKED)),
    ):
        name = f"paused for {seconds:g} s" if seconds < inf else "killed"
        yield FaultCase(f"controller: {name}", mishaps.paused(seconds), good)
    yield FaultCase(
        "controller: its steps raise for 0.3 s",
        lambda t: Mishap(raising=Span(t, t + 0.3)),
        warns(Reason.DEADLINE, 0.3, "the link follows the plan for 0.2 s, then levels"),
    )
    yield FaultCase(
        "controller: its steps raise",
        lambda t: Mishap(raising=Span(t)),
        comes_down(silence, stops, MOTORS_STOP),
    )
    lost = comes_down(_LINK.stall_time, _FIRMWARE, Reason.LOST.value)
    yield FaultCase("controller: its sending thread hangs", lambda t: Mishap(unserved=Span(t)), lost)
    yield FaultCase("controller: sending ends in errors", lambda t: Mishap(unsent=Span(t)), lost)
    short = completes("sent again a period later")
    yield FaultCase("controller: sending ends in errors for 0.1 s", lambda t: Mishap(unsent=Span(t, t + 0.1)), short)


def _link_cases() -> Iterator[FaultCase]:
    repeated = completes("setpoints are repeated")
    yield FaultCase("link: 5 % of the packets lost", packets("loss:0.05"), repeated)
    yield FaultCase("link: 30 % lost", packets("loss:0.3"), repeated)
    yield FaultCase("link: 20 % out of order", packets("reorder:0.2"), repeated)
    yield FaultCase("link: 50 ms late, both ways", packets("delay:0.05"), completes("the command filter's drift"))
    yield FaultCase("link: no new connections", packets("refuse"), completes("it is connected"))
    short = completes("shorter than every time-out")
    for name, text in (("both ways", "mute"), ("to the vehicle", "mute.up"), ("from the vehicle", "mute.down")):
        yield FaultCase(f"link: lost for 0.3 s, {name}", packets(f"{text}/0.3"), short)
    dead = comes_down(_FIRMWARE_STOP, _FIRMWARE, SELF_LOCKED)
    sinking = {Phase.LAND: completes("it sinks on with its last setpoint", SELF_LOCKED, within=_FIRMWARE_STOP)}
    yield FaultCase("link: lost, both ways", packets("mute"), dead)
    yield FaultCase("link: lost, to the vehicle", packets("mute.up"), dead, sinking)
    yield FaultCase(
        "link: lost, from the vehicle",
        packets("mute.down"),
        lands(_SAFETY.link_land, "it may still obey", Reason.LINK.value),
    )
    given_up = comes_down(0.2, _FIRMWARE, Reason.LOST.value)
    yield FaultCase("link: given up by cflib, out of range", mishaps.given_up(0.2, 100.0), given_up)
    yield FaultCase("link: given up by cflib, back in range after 0.3 s", mishaps.given_up(0.2, 0.3), given_up)


def _propulsion_cases() -> Iterator[FaultCase]:
    off = "its motors are off from the onset on"
    yield FaultCase(
        "vehicle: reboots",
        packets("reboot"),
        comes_down(_SAFETY.link_land, off, Reason.LINK.value),
        {Phase.LAND: comes_down(_SAFETY.link_land, "down before its reports are missed", FELL)},
    )
    yield FaultCase(
        "vehicle: locks",
        packets("locked"),
        comes_down(2 * _LINK.log_period, off, "locked: reboot it", Reason.VEHICLE.value),
    )
    yield FaultCase(
        "vehicle: battery as good as empty (3.3 V)",
        packets("low-battery:3.3"),
        lands(_SAFETY.battery_time, "while there is thrust left", Reason.BATTERY.value),
        {Phase.LAND: warns(Reason.BATTERY, _LINK.log_period, "it lands already")},
    )
    for motor in (1, 2, 3, 4):
        yield FaultCase(f"vehicle: motor {motor} dead", packets(f"dead-motor:{motor}"), _overturned())
    yield FaultCase(
        "vehicle: all propellers give 20 % less",
        packets("weak:0.2"),
        completes("less than it can climb with; estimated"),
    )
    yield FaultCase(
        "vehicle: all propellers give 40 % less",
        packets("weak:0.4"),
        comes_down(2.5, "less than it weighs", Reason.DISTURBANCE.value),
        {Phase.LAND: completes("down before it has lasted")},
    )
    yield FaultCase(
        "vehicle: one propeller gives 20 % less", packets("worn:0.2"), completes("the firmware's integrators")
    )


def _overturned() -> Good:
    return comes_down(0.5, "it turns over: motors off", Reason.RESPONSE.value, Reason.TUMBLE.value, FELL)


def _push_cases() -> Iterator[FaultCase]:
    yield FaultCase("vehicle: gust of 0.05 N for 1 s", packets("gust:0.05/1"), completes("estimated as it comes"))
    yield FaultCase("vehicle: wind of 0.1 N", packets("gust:0.1"), completes("its tilt holds against it"))
    yield FaultCase(
        "vehicle: wind of 0.14 N",
        packets("gust:0.14"),
        lands(_SAFETY.disturbance_time + 1.0, "nearly all that its tilt holds against", Reason.DISTURBANCE.value),
        {Phase.LAND: completes("down before it has lasted")},
    )
    yield FaultCase(
        "vehicle: gust of 0.3 N for 0.4 s",
        packets("gust:0.3/0.4"),
        completes("thrown about, and caught"),
        {Phase.TAKEOFF: lands(1.0, "near the fence: thrown across it", Reason.FENCE.value)},
    )
    yield FaultCase("vehicle: knocked by 20 rad/s", packets("knock:20"), completes("the firmware catches it"))
    yield FaultCase("vehicle: knocked over by 80 rad/s", packets("knock:80"), _overturned())


def _request_cases() -> Iterator[FaultCase]:
    grounded = "only an armed vehicle on the ground"
    yield FaultCase(
        "request: land", mishaps.request(Request.LAND), completes("as asked for", "land requested", within=0.0)
    )
    yield FaultCase(
        "request: emergency",
        mishaps.request(Request.EMERGENCY),
        replace(comes_down(0.0, "as asked for", "emergency stop requested"), locked=True),
    )
    yield FaultCase(
        "request: disarm", mishaps.request(Request.DISARM), completes("refused: it flies", grounded, within=0.0)
    )
    hovers = lands(
        0.0, "hovers as asked for, clear of obstacles, until its time runs out", f"{Request.HOLD.value} requested"
    )
    yield FaultCase(
        "request: notify_setpoints_stop",
        mishaps.request(Request.HOLD),
        completes("refused: it does not fly to the goal", "it does not fly to a goal", within=0.0),
        {Phase.FLY: replace(hovers, clear=True)},
    )
