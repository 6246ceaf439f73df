"""The expert's answer at the states of recorded flights, written into copies of their bags.

That is how a learner's own flights become lessons (Ross et al., "DAgger", AISTATS 2011). A copy has the topics that
training reads, and the expert's plans from a state every ``STRIDE`` seconds; plans go before the flown future.
Plans that themselves enter a sphere are left out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cache
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import Reader

from deq_mpc_core.config import load_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.expert.planner import Plan, Planner
from deq_mpc_core.learning.bag_messages import CRAZYSWARM2_ROLES, Topics
from deq_mpc_core.learning.bag_report import BagReport
from deq_mpc_core.learning.bags import read_flights
from deq_mpc_core.learning.dataset import DatasetConfig
from deq_mpc_core.learning.flight_log import FlightLog
from deq_mpc_core.learning.local_polynomial import fit_local_polynomial
from deq_mpc_core.learning.sampling import obstacles_at, pose_part
from deq_mpc_core.obstacles import centres_at
from deq_mpc_sim.bag_writer import FlightBagWriter

Array = NDArray[np.float64]

STRIDE = 0.2
"""Between two labelled states [s]: 0.2 m at the expert's speed."""
_NS = 1_000_000_000


@dataclass(frozen=True)
class RelabelTask:
    """A bag and where its labelled copy goes."""

    source: Path
    target: Path


def try_relabel(task: RelabelTask) -> str | None:
    """Label one bag; why it cannot be, None if it was."""
    try:
        relabel_bag(task.source, task.target)
    except UserError as error:
        return str(error)
    return None


def relabel_bag(source: Path, target: Path) -> int:
    """Write the flight ``source`` with the expert's plans as the bag ``target``; the number of plans.

    Raises:
        UserError: if the bag cannot be used, saying why, or ``target`` exists.
    """
    config, report = _dataset_config(), BagReport()
    for log in read_flights([source], config, report):
        if not log.own:
            raise UserError(f"{source}: is not of this stack's topics, which a labelled copy has; leave it out")
        plans = _plan_flight(log, config.window_pos)
        if not plans:  # a bag without plans would be taken for the expert's own flight
            raise UserError(f"{source}: the expert knows no safe way from any of its states; leave it out")
        _write_copy(source, target, config.topics, plans, log.start_ns)
        return len(plans)
    raise UserError(f"{source}: {report.dropped[0].dropped}")


@cache
def _dataset_config() -> DatasetConfig:
    return load_config("dataset", DatasetConfig)


@cache
def _planner() -> Planner:
    return Planner()


def _plan_flight(log: FlightLog, window: float) -> list[Plan]:
    """The expert's plans along a flight; times as in ``log``, states smoothed over ``window`` [s] as in training."""
    plans: list[Plan] = []
    for span in log.spans:
        poses = pose_part(log.pose, span)
        t = np.arange(span.start, span.end, STRIDE)
        pos, vel = fit_local_polynomial(poses.t, poses.values[:, :3], t, window)
        obstacle_sets, chosen = obstacles_at(log, t)
        for now, state, number in zip(t.tolist(), np.hstack([pos, vel]), chosen, strict=True):
            obstacles = obstacle_sets[number]
            plan = _planner().plan(now, state, span.goal, obstacles)
            if not enters_sphere(plan, obstacles):
                plans.append(plan)
    return plans


def enters_sphere(plan: Plan, obstacles: Array) -> bool:
    """Whether a knot lies inside a sphere that has moved on at its velocity. obstacles: (K, 7) at the plan's start."""
    elapsed = plan.dt * np.arange(len(plan.states), dtype=np.float64)
    centres = centres_at(obstacles, elapsed)
    distance = np.linalg.norm(plan.states[:, None, :3] - centres, axis=2)
    return bool(np.any(distance < obstacles[:, 3]))


def _write_copy(source: Path, target: Path, topics: Topics, plans: list[Plan], start_ns: int) -> None:
    """Messages and plans in the order of time, so that the copy can be played."""
    left_out = ("expert_plan", *CRAZYSWARM2_ROLES)
    copied = {topic for role, topic in topics.model_dump().items() if role not in left_out}
    robot = topics.expert_plan.split("/")[1]
    pending = deque(plans)
    with Reader(source) as reader, FlightBagWriter(target, robot, start_ns / _NS) as writer:

        def write_plans(until_ns: float) -> None:
            while pending and start_ns + pending[0].t * _NS <= until_ns:
                plan = pending.popleft()
                writer.write_expert_plan(plan.t, plan.states[:, :3], plan.dt)

        connections = [connection for connection in reader.connections if connection.topic in copied]
        for connection, log_time, data in reader.messages(connections):
            write_plans(log_time)
            writer.copy(connection.topic, connection.msgtype, log_time, data)
        write_plans(inf)
