"""What goes wrong in a flight, from a moment on: poses, obstacles, policy, process, clocks, link and vehicle.

A mishap is made for one flight: it may remember. What the virtual Crazyflie does to itself and to its packets is a
``faults.Fault``; the rest is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from math import inf

import numpy as np
from numpy.typing import NDArray

from deq_mpc_controller.flight import Request
from deq_mpc_core.policy.interface import Command, Observation, Policy, PolicyInfo, PolicyState
from deq_mpc_core.solver.solution import Status
from deq_mpc_sim.adversaries import Adversary
from deq_mpc_sim.faults import Fault, parse_fault
from deq_mpc_sim.mocap import MocapPose

Array = NDArray[np.float64]

PoseChange = Callable[[float, list[MocapPose]], list[MocapPose]]
"""(t, poses that arrive at t) -> those that arrive instead."""
ObstacleChange = Callable[[float, Array], Array | None]
"""(t, obstacles (K, 7)) -> what is published instead; None: nothing."""


@dataclass(frozen=True)
class Span:
    """From ``begin`` to ``end`` [s]; never, unless said otherwise."""

    begin: float = inf
    end: float = inf

    def __contains__(self, t: float) -> bool:
        return self.begin <= t < self.end


@dataclass(frozen=True)
class Mishap:
    """What goes wrong; nothing, unless said otherwise.

    Attributes:
        faults: of the vehicle and its packets.
        poses, obstacles: what becomes of what the motion capture and the obstacles' publisher send.
        policy, hover_policy: who flies to the goal, and who takes off and lands, instead of those given.
        slow: when a step of the policy takes ``policy_seconds`` [s].
        stuck: when the control step does not end, while the link goes on; paused: when nothing of the process runs.
        raising: when a control step raises an error, and so sends nothing.
        unserved: when the thread that sends hangs; unsent: when what it sends ends in an error.
        system_clock, mocap_clock: by how much the clocks are wrong at a time [s].
        link_lost: when the controller's side gives the link up [s].
        request: what is asked for, and when [s].
    """

    faults: tuple[Fault, ...] = ()
    poses: PoseChange = lambda t, poses: poses
    obstacles: ObstacleChange = lambda t, obstacles: obstacles
    policy: Callable[[Policy], Policy] = lambda policy: policy
    hover_policy: Callable[[Policy], Policy] = lambda policy: policy
    slow: Span = Span()
    policy_seconds: float = 0.0
    stuck: Span = Span()
    paused: Span = Span()
    raising: Span = Span()
    unserved: Span = Span()
    unsent: Span = Span()
    system_clock: Callable[[float], float] = lambda t: 0.0
    mocap_clock: Callable[[float], float] = lambda t: 0.0
    link_lost: float = inf
    request: tuple[Request, float] | None = None


NOTHING = Mishap()
MishapFrom = Callable[[float], Mishap]
"""A mishap that sets in at a time [s]."""


def change_each(span: Span, change: Callable[[MocapPose], MocapPose | None]) -> PoseChange:
    """Every pose exposed in ``span`` becomes another, or is lost."""

    def changed(t: float, poses: list[MocapPose]) -> list[MocapPose]:
        results = [change(pose) if pose.stamp in span else pose for pose in poses]
        return [pose for pose in results if pose is not None]

    return changed


def thin_out(span: Span, every: int) -> PoseChange:
    """Of the poses in ``span`` one in ``every`` arrives."""
    numbers = count(1)
    return change_each(span, lambda pose: pose if next(numbers) % every == 0 else None)


def freeze(span: Span) -> PoseChange:
    """Poses in ``span`` repeat the last one before, under new stamps."""
    last: MocapPose | None = None

    def changed(t: float, poses: list[MocapPose]) -> list[MocapPose]:
        nonlocal last
        results = []
        for pose in poses:
            frozen = pose.stamp in span and last is not None
            last = last if frozen else pose
            assert last is not None
            results.append(pose._replace(pos=last.pos, quat=last.quat))
        return results

    return changed


def delay_more(span: Span, growth: float, most: float) -> PoseChange:
    """Poses in ``span`` arrive later and later: by ``growth`` seconds a second, ``most`` [s] in the end."""
    waiting: list[MocapPose] = []

    def changed(t: float, poses: list[MocapPose]) -> list[MocapPose]:
        for pose in poses:
            late = min(growth * (pose.stamp - span.begin), most) if pose.stamp in span else 0.0
            waiting.append(pose._replace(arrival=pose.arrival + late))
        arrived = [pose for pose in waiting if pose.arrival <= t + 1e-9]
        waiting[:] = [pose for pose in waiting if pose.arrival > t + 1e-9]
        return arrived

    return changed


class BrokenPolicy:
    """A policy that from ``begin`` on ``raises``, gives ``nan``, ``fails`` to solve, or ``iterates`` without end."""

    def __init__(self, policy: Policy, begin: float, how: str) -> None:
        self.dt, self.horizon = policy.dt, policy.horizon
        self._policy, self._begin, self._how = policy, begin, how

    def step(self, obs: Observation, state: PolicyState | None) -> tuple[Command, PolicyState, PolicyInfo]:
        """See ``policy.interface.Policy``."""
        if obs.t < self._begin:
            return self._policy.step(obs, state)
        if self._how == "raises":
            raise FloatingPointError("made to fail")
        command, state, info = self._policy.step(obs, state)
        if self._how == "nan":
            return Command(np.nan, np.nan, np.nan, np.nan), state, info
        status = Status.NUMERICAL_FAILURE if self._how == "fails" else Status.ITERATING
        return command, state, PolicyInfo(int(status), info.plan, info.residuals, info.iterations)


class TurningPolicy:
    """A policy that from ``begin`` on is an ``Adversary``."""

    def __init__(self, policy: Policy, begin: float, kind: str, seed: int) -> None:
        self.dt, self.horizon = policy.dt, policy.horizon
        self._policy, self._begin, self._adversary = policy, begin, Adversary(kind, seed)

    def step(self, obs: Observation, state: PolicyState | None) -> tuple[Command, PolicyState, PolicyInfo]:
        """See ``policy.interface.Policy``."""
        return self._policy.step(obs, state) if obs.t < self._begin else self._adversary.step(obs, None)


def poses(change: Callable[[MocapPose], MocapPose | None], duration: float = inf) -> MishapFrom:
    """Every pose becomes another, or is lost, for ``duration`` [s]."""
    return lambda t: Mishap(poses=change_each(Span(t, t + duration), change))


def outliers(offset: Sequence[float], wrong: Callable[[int], bool]) -> MishapFrom:
    """The poses whose number is ``wrong`` are off by ``offset`` (3,) [m]."""

    def make(begin: float) -> Mishap:
        numbers = count(1)
        return Mishap(
            poses=change_each(
                Span(begin), lambda pose: pose._replace(pos=pose.pos + offset) if wrong(next(numbers)) else pose
            )
        )

    return make


def runaway_mocap(speed: float, duration: float) -> MishapFrom:
    """The poses run off across the middle of the arena at ``speed`` [m/s] for ``duration`` [s], and stay there."""

    def make(begin: float) -> Mishap:
        way: list[Array] = []

        def drifted(pose: MocapPose) -> MocapPose:
            if not way:
                inwards = -pose.pos * [1.0, 1.0, 0.0]
                way.append(speed * inwards / np.linalg.norm(inwards))
            return pose._replace(pos=pose.pos + min(pose.stamp - begin, duration) * way[0])

        return Mishap(poses=change_each(Span(begin), drifted))

    return make


def another_body(place: Sequence[float]) -> MishapFrom:
    """The poses are those of a body at ``place`` (3,) [m] that moves a little."""
    quat = np.array([0.0, 0.0, 0.6, 0.8])
    return poses(lambda pose: pose._replace(pos=place + 0.1 * (pose.pos - pose.pos.round(2)), quat=quat))


def slow_mocap(every: int) -> MishapFrom:
    """One pose in ``every`` arrives."""
    return lambda t: Mishap(poses=thin_out(Span(t), every))


def clocks(system: float = 0.0, mocap: float = 0.0) -> MishapFrom:
    """The clocks of the controller's machine and of the motion capture are set forward by so much [s]."""

    def make(begin: float) -> Mishap:
        return Mishap(
            system_clock=lambda t: system if t >= begin else 0.0, mocap_clock=lambda t: mocap if t >= begin else 0.0
        )

    return make


def obstacles(change: Callable[[Array], Array | None]) -> MishapFrom:
    """Other obstacles (K, 7) are published, or none."""
    return lambda begin: Mishap(obstacles=lambda t, spheres: spheres if t < begin else change(spheres))


def policies(how: str) -> MishapFrom:
    """All policies break; ``how``: see ``BrokenPolicy``."""

    def make(begin: float) -> Mishap:
        def broken(policy: Policy) -> Policy:
            return BrokenPolicy(policy, begin, how)

        return Mishap(policy=broken, hover_policy=broken)

    return make


def stuck(seconds: float) -> MishapFrom:
    """A control step takes so long [s]."""
    return lambda t: Mishap(stuck=Span(t, t + seconds))


def paused(seconds: float) -> MishapFrom:
    """The process does not run for so long [s]."""
    return lambda t: Mishap(paused=Span(t, t + seconds))


def slow_policies(seconds: float) -> MishapFrom:
    """A step of any policy takes so long [s]."""
    return lambda t: Mishap(slow=Span(t), policy_seconds=seconds)


def adversary(kind: str) -> MishapFrom:
    """Who flies to the goal becomes an adversary, see ``adversaries``."""
    return lambda t: Mishap(policy=lambda policy: TurningPolicy(policy, t, kind, 0))


def packets(text: str) -> MishapFrom:
    """A fault of vehicle or packets, written without its onset: KIND[.DIRECTION][:VALUE][/DURATION]."""
    kind, slash, duration = text.partition("/")
    return lambda t: Mishap(faults=(parse_fault(f"{kind}@{t:.3f}{slash}{duration}"),))


def given_up(after: float, duration: float) -> MishapFrom:
    """No packet arrives for ``duration`` [s]; ``after`` so long the link is given up."""
    return lambda t: Mishap(faults=packets(f"mute/{duration}")(t).faults, link_lost=t + after)


def request(request: Request) -> MishapFrom:
    """Somebody asks for it."""
    return lambda t: Mishap(request=(request, t))
