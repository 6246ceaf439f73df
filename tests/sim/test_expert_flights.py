"""``deq-mpc expert``: which flights, what is kept of them, labels, resumption, refusals."""

import json

import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from deq_mpc_core.cli import main
from deq_mpc_core.config import load_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.expert.planner import Plan
from deq_mpc_core.learning.bag_report import BagReport
from deq_mpc_core.learning.bags import read_flights
from deq_mpc_core.learning.dataset import DatasetConfig, build_dataset, find_bags
from deq_mpc_core.learning.sampling import SampleSpec
from deq_mpc_sim import demonstrations as demos
from deq_mpc_sim.campaign import TRAINING_DOMAIN
from deq_mpc_sim.relabel import STRIDE, enters_sphere

CONFIG = load_config("dataset", DatasetConfig)
SPEC = SampleSpec(dt=0.05, horizon=16, dt_control=0.01, steps=2)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["expert", *map(str, arguments)])
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


def topics(bag):
    with Reader(bag) as reader:
        return {connection.topic: connection.msgcount for connection in reader.connections}


def collection(**changes):
    return demos.Collection(**{"policy": "expert", "seed": 1, "mix": demos.DEFAULT_MIX, "noise": 0.0, **changes})


def test_any_number_of_flights_has_about_the_shares_of_the_mix():
    planned = demos.plan_demonstrations(collection(), 50, demos.Path("bags"))
    counts = demos.count_scenes(planned)
    expected = {"clutter static": 15, "clutter moving": 15, "gate static": 10, "pocket static": 10}
    assert all(abs(counts[kind] - number) <= 1 for kind, number in expected.items())


def test_flights_are_a_pure_function_of_seed_and_index_and_in_their_own_domain():
    few, many = (demos.plan_demonstrations(collection(noise=0.3), n, demos.Path("bags")) for n in (3, 40))
    assert few == many[:3]
    assert len({one.flight.bag for one in many}) == 40
    assert len({one.flight.scene.radius for one in many}) == 40
    assert all(one.flight.seed == TRAINING_DOMAIN + 1 for one in many)
    assert all(0.08 <= one.flight.scene.radius <= 0.25 for one in many)
    noisy = sum(one.flight.noise is not None for one in many)
    assert 5 <= noisy <= 20
    assert all(one.labelled == (one.flight.noise is not None) for one in many)
    assert not any(one.flight.filtered for one in many)
    learner = demos.plan_demonstrations(collection(policy="straight-line"), 3, demos.Path("bags"))
    assert all(one.labelled for one in learner)


def test_the_experts_flights_become_a_dataset(capsys, tmp_path):
    out = tmp_path / "bags"
    arguments = ("--seed", 2, "--out", out, "--noise", 0, "--mix", "gate=1", "--workers", 1)
    code, text, err = run(capsys, "--flights", 1, *arguments)
    assert (code, err) == (0, "")
    assert "1 of 1 flights kept (1 new): 1 gate static" in text
    bag = out / "gate-static-2-00000"
    assert set(topics(bag)) == {"/cf/pose", "/cf/truth", "/cf/setpoint", "/cf/goal", "/obstacles"}
    dataset, report = build_dataset(find_bags([out]), CONFIG, SPEC, tau_thrust=0.05)
    assert len(report.used) == 1
    assert len(dataset) > 20
    before = {path: path.stat().st_mtime_ns for path in bag.iterdir()}
    code, text, _ = run(capsys, "--flights", 1, *arguments)
    assert code == 0
    assert "1 of 1 flights kept (0 new)" in text
    assert {path: path.stat().st_mtime_ns for path in bag.iterdir()} == before
    assert sorted(path.name for path in out.iterdir()) == ["expert.json", bag.name]


def test_a_learners_flights_are_labelled_and_kept_when_they_fail(capsys, tmp_path):
    out = tmp_path / "bags"
    code, text, _ = run(
        capsys, "--flights", 1, "--out", out, "--mix", "pocket=1", "--policy", "straight-line", "--noise", 0
    )
    assert code == 0
    assert "1 of 1 flights kept" in text
    (flight,) = read_flights(find_bags([out]), CONFIG, BagReport())
    starts = np.array([plan.t[0] for plan in flight.plans])
    assert len(starts) > 5
    assert np.allclose(np.diff(starts) / STRIDE, np.round(np.diff(starts) / STRIDE), atol=1e-6)
    for plan in flight.plans:
        at = np.interp(plan.t[0], flight.pose.t, np.arange(len(flight.pose.t)))
        assert np.linalg.norm(plan.values[0] - flight.pose.values[round(at), :3]) < 0.02
    late = max(np.linalg.norm(plan.values[-1] - flight.spans[0].goal) for plan in flight.plans)
    assert late < np.linalg.norm(flight.pose.values[0, :3] - flight.spans[0].goal) - 1.0


def test_a_flight_with_noise_is_labelled(tmp_path):
    (one,) = demos.plan_demonstrations(collection(noise=1.0, mix={"gate": 1.0}), 1, tmp_path)
    demos.open_folder(tmp_path / "bags", collection())
    (tmp_path / ".flying").mkdir()
    assert demos.demonstrate(one).success
    assert topics(one.flight.bag)["/cf/expert_plan"] > 10
    assert demos.remaining([one]) == []


def test_the_experts_failures_are_put_aside_and_not_flown_again(tmp_path):
    (one,) = demos.plan_demonstrations(collection(mix={"clutter": 1.0}), 1, tmp_path)
    failed = tmp_path / demos.FAILED / one.flight.bag.name
    failed.mkdir(parents=True)
    assert demos.remaining([one]) == []
    assert demos.failures([one]) == [one]
    with pytest.raises(UserError, match="no rosbag"):
        find_bags([tmp_path])


def test_relabelling_copies_what_training_reads_and_replaces_old_plans(capsys, tmp_path):
    flown, out = tmp_path / "flown", tmp_path / "labelled"
    run(capsys, "--flights", 1, "--out", flown, "--mix", "gate=1", "--noise", 1, "--workers", 1)
    (source,) = find_bags([flown])
    code, text, _ = run(capsys, "--relabel", flown, "--out", out)
    assert code == 0
    assert "1 of 1 bags labelled (1 new)" in text
    copied, original = topics(out / source.name), topics(source)
    assert copied == original
    code, text, _ = run(capsys, "--relabel", flown, "--out", out)
    assert "(0 new)" in text
    code, text, err = run(capsys, "--relabel", source, "--out", flown)
    assert code == 2
    assert "is where the bags are" in err


def test_a_bag_that_cannot_be_labelled_is_reported(capsys, tmp_path):
    bag = tmp_path / "bags" / "broken.mcap"
    bag.parent.mkdir()
    bag.write_bytes(b"\x89MCAP0\r\n" + b"nothing")
    assert "bags: cannot be written" in run(capsys, "--relabel", bag.parent, "--out", bag / "bags")[2]
    code, text, err = run(capsys, "--relabel", bag.parent, "--out", tmp_path / "out")
    assert code == 2
    assert "damaged or truncated" in text
    assert err.startswith("error: none of the bags")
    assert not (tmp_path / "out" / "broken").exists()


def test_plans_through_spheres_are_recognised_where_the_spheres_will_be():
    states = np.zeros((11, 6))
    states[:, 0] = 0.1 * np.arange(11)
    plan = Plan(0.0, 0.1, states)
    crossing = np.array([[0.5, -0.5, 0.0, 0.1, 0.0, 1.0, 0.0]])
    assert enters_sphere(plan, crossing)
    assert not enters_sphere(plan, crossing * [1, 1, 1, 1, 1, 0, 1])
    assert not enters_sphere(plan, np.zeros((0, 7)))


def test_a_folder_belongs_to_one_collection(tmp_path):
    folder = tmp_path / "bags"
    demos.open_folder(folder, collection())
    demos.open_folder(folder, collection())
    with pytest.raises(UserError, match="flights of another seed and noise"):
        demos.open_folder(folder, collection(seed=2, noise=0.5))
    (folder / "expert.json").write_text(json.dumps({"policy": "expert"}))
    with pytest.raises(UserError, match="missing"):
        demos.open_folder(folder, collection())
    with pytest.raises(UserError, match="something else"):
        demos.open_folder(tmp_path, collection())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give either --flights N to fly or --relabel BAGS"),
        (["--flights", "1", "--relabel", "bags"], "give either --flights N to fly or --relabel BAGS"),
        (["--flights", "0"], "0 flights are out of range"),
        (["--flights", "1", "--seed", "-1"], "seed -1 is out of range"),
        (["--flights", "1", "--noise", "1.5"], "noise 1.5 is no share"),
        (["--flights", "1", "--mix", "maze=1"], "unknown scene 'maze'"),
        (["--flights", "1", "--mix", "gate=few"], "'gate=few' is no share"),
        (["--flights", "1", "--mix", "gate=-1"], "out of range"),
        (["--flights", "1", "--mix", "gate=0"], "add up to 0.0"),
        (["--flights", "1", "--mix", "gate=1e308,clutter=1e308"], "add up to inf"),
        (["--flights", "1", "--workers", "0"], "0 workers cannot work"),
        (["--flights", "1", "--policy", "no/checkpoint"], "no/checkpoint"),
        (["--relabel", "no/bags"], "no/bags: no such bag"),
    ],
)
def test_bad_input_is_one_line_status_2_and_no_folder(capsys, tmp_path, arguments, says):
    code, out, err = run(capsys, *arguments, "--out", tmp_path / "bags")
    assert code == 2
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "bags").exists()
