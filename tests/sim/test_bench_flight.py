"""The suite ``flight``: which nodes fly, and what becomes of their summary. The nodes are scripts here."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deq_mpc_controller.launch_file import Node, read_launch_file
from deq_mpc_core.bench.row import BenchOptions
from deq_mpc_sim.bench_flight import SCENE, describe, describe_age, fly, suite, tour_nodes
from deq_mpc_sim.node_parameters import TOUR_NODE, WORLD_NODE
from deq_mpc_sim.parameters import plant_config, world_config
from deq_mpc_sim.referee import PolicyTimes
from deq_mpc_sim.setpoint_age import FOLDER_VARIABLE, RECEIVED, SENT, SetpointAge
from deq_mpc_sim.tour import TourSummary

ROOT = Path(__file__).resolve().parents[2]
WAITING = "import signal, time; signal.signal(signal.SIGINT, lambda *_: exit(0))\nwhile True: time.sleep(0.05)"
SUMMARY = TourSummary(
    fault=None,
    minutes=2.5,
    control_steps=15000,
    deadline_misses=9,
    scheduler_stalls=6,
    policy_ms=PolicyTimes(0.5, 0.9, 2.0),
    goals_reached=35,
    goals_missed=1,
    collisions=0,
    min_clearance_m=0.05,
    memory_mb=(400.0, 400.0, 400.5),
    memory_mb_per_min=0.25,
)
AGE = SetpointAge(packets=15000, lost=2, unknown=0, p50=20.0, p99=28.0, max=41.0)
TOUR = f"""
import os, sys, time, yaml
while not {{"{SENT}", "{RECEIVED}"}} <= set(os.listdir(os.environ["{FOLDER_VARIABLE}"])):
    time.sleep(0.05)
parameters = yaml.safe_load(open(sys.argv[sys.argv.index("--params-file") + 1]))
(values,) = (node["ros__parameters"] for node in parameters.values())
assert values["minutes"] == 2.5
open(values["out"], "w").write({SUMMARY.to_json()!r})
"""


def install(workspace: Path, package: str, node: str, script: str) -> None:
    path = workspace / "lib" / package / node
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with the project's launch file whose nodes are scripts that wait."""
    index = tmp_path / "share/ament_index/resource_index/packages"
    index.mkdir(parents=True)
    for package, nodes in {
        "deq_mpc_controller": [],
        "deq_mpc_sim": ["observed_controller_node", "observed_world_node", "obstacle_node", "tour_node"],
    }.items():
        (index / package).touch()
        for node in nodes:
            install(tmp_path, package, node, WAITING)
    share = tmp_path / "share/deq_mpc_controller/launch"
    share.mkdir(parents=True)
    (share / "fly.launch.yaml").write_text((ROOT / "launch/fly.launch.yaml").read_text())
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    return tmp_path


def test_a_flight_becomes_a_row(workspace: Path) -> None:
    install(workspace, "deq_mpc_sim", "tour_node", TOUR)
    for name, file, packet_time in (("controller", SENT, 1.0), ("world", RECEIVED, 1.025)):
        save = f"from deq_mpc_sim.setpoint_age import *; log = PacketLog(); log.add({packet_time}, bytes(14))"
        folder = "folder = Path(os.environ[FOLDER_VARIABLE])"
        rename = f"log.save(folder / 'part-{file}'); os.rename(folder / 'part-{file}', folder / '{file}')"
        script = f"import os; {save}; {folder}; {rename}\n{WAITING}"
        install(workspace, "deq_mpc_sim", f"observed_{name}_node", script)
    row, age = suite(BenchOptions(minutes=2.5))
    assert (row.work, row.median_ms, row.p99_ms) == ("controller node, 100 Hz, 2.5 min", 0.5, 0.9)
    assert row.details["control_steps"] == 15000
    assert row.details["memory_mb_per_min"] == 0.25
    assert age.p99_ms == pytest.approx(25.0)
    assert age.details["packets"] == 1


def test_a_flight_that_never_began_is_reported(workspace: Path) -> None:
    install(workspace, "deq_mpc_sim", "observed_controller_node", "import sys; sys.exit(3)")
    (row,) = suite(BenchOptions())
    assert row.median_ms is None
    assert row.note.startswith("missing: the flight ended with status 3")


@pytest.mark.slow
def test_a_real_flight() -> None:
    summary, age = fly(0.2)
    assert summary.fault is None
    assert summary.minutes == pytest.approx(0.2, abs=0.01)
    assert summary.goals_reached + summary.goals_missed >= 1
    assert summary.control_steps >= summary.deadline_misses >= summary.scheduler_stalls >= 0
    assert summary.policy_ms.p50 is not None
    assert summary.min_clearance_m is not None
    assert (age.lost, age.unknown) == (0, 0)
    assert age.packets > 0.9 * summary.control_steps
    assert age.p50 > 1e3 * world_config().mocap.delay


def test_the_tour_takes_the_recorders_place_and_the_battery_lasts() -> None:
    flight = read_launch_file(ROOT / "launch/fly.launch.yaml").resolve(SCENE, lambda _: ROOT)
    nodes = {node.executable: node for node in tour_nodes(flight, 10.0, Path("tour.json"))}
    assert nodes.keys() == {"observed_world_node", "obstacle_node", "tour_node", "observed_controller_node"}
    assert {node.package for node in nodes.values()} == {"deq_mpc_sim"}
    assert nodes["obstacle_node"].parameters["obstacles"] == "moving"
    assert nodes["observed_controller_node"].parameters["auto"] is False
    drawn = 10.0 * 60.0 * 2.1  # A s: the nominal vehicle hovers on 2.1 A
    assert nodes["observed_world_node"].parameters["battery"] > 1.5 * drawn
    known = {"tour_node": TOUR_NODE, "observed_world_node": WORLD_NODE}
    for name, table in known.items():
        assert nodes[name].parameters.keys() <= {parameter.name for parameter in table}


def test_a_short_flight_keeps_the_vehicles_own_battery() -> None:
    (world,) = tour_nodes([Node("p", "world_node", None, {}, (), {})], 0.5, Path("tour.json"))
    assert world.parameters["battery"] == plant_config().battery.capacity


def test_the_line_says_what_matters() -> None:
    line = describe(SUMMARY)
    assert line.startswith("9 of 15000 steps late, 6 of them the scheduler's (0.020 % else); memory +0.250 MB/min;")
    assert "35 goals reached, 1 not in time, 0 collisions" in line


def test_the_age_says_how_much_of_it_is_the_motion_captures() -> None:
    assert describe_age(AGE) == "at most 41.0 ms, 10 of each the motion capture's; 15000 packets, 2 lost"
    assert describe_age(replace(AGE, unknown=3)).endswith("2 lost, 3 of nobody")


def test_a_slope_of_nothing_has_no_minus() -> None:
    assert "memory +0.000 MB/min" in describe(replace(SUMMARY, memory_mb_per_min=-1e-8))
    assert "memory unknown" in describe(replace(SUMMARY, memory_mb_per_min=None))
