"""The suite ``flight`` of ``deq-mpc bench``: the controller node in the loop, over ROS, cflib and UDP, in real time.

The nodes of ``deq-mpc fly`` with the shipped policy and 40 moving spheres; in the recorder's place a node that flies to
and fro between start and goal until the time is up. A second row has the age of the setpoints, see ``setpoint_age``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from deq_mpc_controller import ros_launch
from deq_mpc_controller.launch_file import Node, read_launch_file
from deq_mpc_core.bench.row import BenchOptions, Row
from deq_mpc_core.errors import UserError
from deq_mpc_core.policy.program import read_flight_checkpoint
from deq_mpc_sim.parameters import plant_config, world_config
from deq_mpc_sim.private_network import free_udp_uri, private_network
from deq_mpc_sim.setpoint_age import FOLDER_VARIABLE, RECEIVED, SENT, PacketLog, SetpointAge, summarise
from deq_mpc_sim.tour import TourSummary

ENGINE = "shipped policy"
AGE = "a setpoint's age at the vehicle, from the pose's stamp"
QUICK_MINUTES = 1.0
SCENE = {"obstacles": "moving", "auto": "false", "sim": "true"}
"""Launch arguments of the flight."""
BATTERY_PER_MINUTE = 300.0
"""Capacity of the battery for each minute [A s]: twice what the vehicle draws, so that it never ends the flight."""


def suite(options: BenchOptions) -> Iterator[Row]:
    """One flight of ``options.minutes``, one minute if it is to be quick: the controller's steps, and its setpoints."""
    minutes = min(options.minutes, QUICK_MINUTES) if options.quick else options.minutes
    work = f"controller node, 100 Hz, {minutes:g} min"
    horizon = read_flight_checkpoint()[0].mpc.horizon
    try:
        summary, age = fly(minutes)
    except UserError as error:
        yield Row(work, ENGINE, 1, 1, horizon, None, None, None, f"missing: {error}")
        return
    times = summary.policy_ms
    yield Row(work, ENGINE, 1, 1, horizon, times.p50, times.p99, 1.0, describe(summary), asdict(summary))
    yield Row(AGE, ENGINE, 1, 1, horizon, age.p50, age.p99, 1.0, describe_age(age), asdict(age))


def fly(minutes: float) -> tuple[TourSummary, SetpointAge]:
    """Fly the tour; what it showed of the controller, and how old the setpoints of the whole flight were.

    Raises:
        UserError: if the workspace is not built, or the nodes ended without a summary.
    """
    ros_launch.use_workspace()
    uri = free_udp_uri()
    flight = read_launch_file(ros_launch.find_launch_file("fly")).resolve({**SCENE, "uri": uri}, ros_launch.find_share)
    with tempfile.TemporaryDirectory(prefix="deq_mpc_tour_") as folder:
        out = Path(folder) / "tour.json"
        environment = {**private_network(), FOLDER_VARIABLE: folder}
        status = ros_launch.launch(tour_nodes(flight, minutes, out), environment)
        if not out.exists():
            raise UserError(f"the flight ended with status {status} before it began; see above what its nodes say")
        sent, received = (PacketLog.load(Path(folder) / name) for name in (SENT, RECEIVED))
        return TourSummary.from_json(out.read_text(encoding="utf-8")), summarise(sent, received)


def tour_nodes(flight: Sequence[Node], minutes: float, out: Path) -> list[Node]:
    """The nodes of a flight, observed, with the tour's node in the recorder's place, and a battery that lasts."""
    capacity = max(plant_config().battery.capacity, BATTERY_PER_MINUTE * minutes)
    tour = {"minutes": minutes, "out": str(out)}
    changed = []
    for node in flight:
        if node.executable == "recorder_node":
            node = replace(node, executable="tour_node", name="tour_node", parameters=tour)
        elif node.executable == "world_node":
            parameters = {**node.parameters, "battery": capacity}
            node = replace(node, executable="observed_world_node", parameters=parameters)
        elif node.executable == "controller_node":
            node = replace(node, package="deq_mpc_sim", executable="observed_controller_node")
        changed.append(node)
    return changed


def describe_age(age: SetpointAge) -> str:
    """The setpoints' age in one line."""
    delay = 1e3 * world_config().mocap.delay
    return (
        f"at most {age.max:.1f} ms, {delay:.0f} of each the motion capture's; {age.packets} packets, {age.lost} lost"
        + (f", {age.unknown} of nobody" if age.unknown else "")
    )


def describe(summary: TourSummary) -> str:
    """The summary in one line."""
    slope = summary.memory_mb_per_min
    memory = "memory unknown" if slope is None else f"memory {round(slope, 3) + 0.0:+.3f} MB/min"
    parts = [
        f"{summary.deadline_misses} of {summary.control_steps} steps late, {summary.scheduler_stalls} of them the "
        f"scheduler's ({100.0 * summary.miss_share:.3f} % else)",
        memory,
        f"{summary.goals_reached} goals reached, {summary.goals_missed} not in time, {summary.collisions} collisions",
    ]
    return "; ".join([*parts, summary.fault] if summary.fault else parts)
