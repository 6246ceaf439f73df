"""``deq-mpc evaluate``: its JSON, its failures file, its bags, its refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from deq_mpc_controller.flight import Mode
from deq_mpc_core.cli import main
from deq_mpc_sim.commands.evaluate import summarise
from deq_mpc_sim.episode import Episode
from deq_mpc_sim.referee import Ending

ARGUMENTS = {"policy", "task", "scene", "radius", "obstacles", "speed", "vehicle", "disturbances", "episodes", "seed"}
RATES = {"success", "collision", "timeout", "out_of_arena"}
STATISTICS = {
    "left_fence",
    "stopped",
    "failures",
    "success_ci95",
    "min_clearance_m",
    "time_to_goal_s",
    "policy_ms",
    "wall_s",
}


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", *arguments])
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


def episode(ending, duration=4.0, clearance=0.1, policy_ms=(1.0, 1.0)):
    n = len(policy_ms)
    states = np.zeros((n, 13))
    return Episode(ending, duration, clearance, np.array(policy_ms), np.zeros(n, np.int64), states, states)


def test_json_has_every_key_and_rates_that_add_up(capsys):
    arguments = ("--policy", "straight-line", "--scene", "clutter", "--radius", "0.1", "--episodes", "2", "--seed", "3")
    code, out, err = run(capsys, *arguments, "--workers", "1", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert set(report) == ARGUMENTS | RATES | STATISTICS
    assert sum(report[rate] for rate in RATES) == pytest.approx(1.0)
    assert report["success_ci95"][0] <= report["success"] <= report["success_ci95"][1]
    assert report["episodes"] == 2
    again = json.loads(run(capsys, *arguments, "--workers", "1", "--json")[1])
    for measured in ("wall_s", "policy_ms"):
        del report[measured], again[measured]
    assert report == again


def test_the_table_says_the_same(capsys):
    code, out, _ = run(capsys, "--policy", "straight-line", "--radius", "0.1", "--episodes", "1", "--workers", "1")
    assert code == 0
    assert "success        100.0%" in out
    assert "1 x clutter, static obstacles" in out


def test_failures_are_saved_and_flights_recorded(capsys, tmp_path):
    save, bags = tmp_path / "failures.json", tmp_path / "bags"
    arguments = ["--policy", "straight-line", "--scene", "pocket", "--episodes", "2", "--workers", "1", "--json"]
    code, out, _ = run(capsys, *arguments, "--save", str(save), "--record", str(bags))
    assert code == 0
    failures, report = json.loads(save.read_text()), json.loads(out)
    assert len(failures) == round(2 * (1.0 - report["success"]))
    assert len(failures) > 0
    assert failures[0]["ending"] in {"collision", "timeout"}
    assert len(failures[0]["path"]) > 5
    assert sorted(path.name for path in bags.iterdir()) == [f"pocket-static-0-0000{i}" for i in range(2)]
    code, _, err = run(capsys, *arguments, "--record", str(bags))
    assert code == 2
    assert "exists; record into another folder" in err


def test_summary_counts_each_ending_and_pools_policy_times():
    endings = [Ending.GOAL, Ending.GOAL, Ending.COLLISION, Ending.TIMEOUT, Ending.OUTSIDE]
    results = [episode(ending, 3.0 + i, 0.1 * i, (1.0,) * 99 + (50.0,)) for i, ending in enumerate(endings)]
    summary = summarise(results)
    assert [summary[key] for key in ("success", "collision", "timeout", "out_of_arena")] == [0.4, 0.2, 0.2, 0.2]
    assert summary["time_to_goal_s"] == 3.5
    assert summary["min_clearance_m"] == pytest.approx({"p1": 0.004, "p50": 0.2})
    assert summary["policy_ms"]["p50"] == 1.0


def test_summary_counts_why_the_controller_gave_up_who_stopped_and_who_left_the_fence():
    outside = np.zeros((3, 13))
    outside[1, 0] = 2.16
    results = [
        replace(episode(Ending.GOAL), path=outside),
        replace(episode(Ending.TIMEOUT), failure="no mocap pose", mode=Mode.FAULT),
        replace(episode(Ending.TIMEOUT), failure="no mocap pose", mode=Mode.LAND),
        replace(episode(Ending.COLLISION), failure="tumbled", mode=Mode.ESTOP),
        episode(Ending.GOAL),
    ]
    summary = summarise(results)
    assert summary["failures"] == {"no mocap pose": 2, "tumbled": 1}
    assert (summary["stopped"], summary["left_fence"]) == (0.4, 0.2)


def test_nobody_at_the_goal_is_no_time_to_goal():
    assert summarise([episode(Ending.TIMEOUT)])["time_to_goal_s"] is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--task", "cartpole"], "unknown task 'cartpole'; choose one of crazyflie"),
        (["--scene", "maze"], "unknown scene 'maze'"),
        (["--obstacles", "lazy"], "unknown obstacles 'lazy'"),
        (["--radius", "0"], "radius 0.0 m is out of range"),
        (["--radius", "-0.1"], "radius -0.1 m is out of range"),
        (["--radius", "nan"], "radius nan m is out of range"),
        (["--radius", "3"], "radius 3.0 m is out of range"),
        (["--speed", "-1"], "speed -1.0 m/s is out of range"),
        (["--episodes", "0"], "0 episodes are out of range"),
        (["--episodes", "many"], "--episodes"),
        (["--vehicle", "cf99"], "unknown vehicle 'cf99'; choose one of default, cf21B_500"),
        (["--disturbances", "storm"], "unknown disturbances 'storm'; choose one of default, lab"),
        (["--seed", "-1"], "seed -1 is out of range"),
        (["--workers", "0"], "0 workers cannot work"),
        (["--policy", "no/such/checkpoint"], "no/such/checkpoint"),
        (["--save", "no/such/folder/failures.json"], "no/such/folder"),
        (["--save", "."], "is a folder or in none"),
        (["--save", "/proc/failures.json"], "/proc: cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, arguments, says):
    defaults = [] if "--policy" in arguments else ["--policy", "straight-line"]
    code, out, err = run(capsys, *defaults, *arguments, "--json")
    assert code == 2
    assert out == ""
    assert says in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_an_interrupt_ends_all_processes_and_leaves_whole_bags_only(tmp_path):
    bags = tmp_path / "bags"
    arguments = ["evaluate", "--policy", "straight-line", "--episodes", "1000", "--workers", "2", "--record", str(bags)]
    script = f"from deq_mpc_core.cli import main; main({arguments!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", script], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    try:
        while process.poll() is None and not list(bags.glob("clutter*")):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        error = process.communicate(timeout=60)[1]  # ends when nobody has stderr open any more: all workers are gone
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, error) == (130, "")
    assert all((bag / "metadata.yaml").exists() for bag in bags.glob("clutter*"))
