"""Whole flights with faults: what the mishaps do, how a flight is judged, and a sample of the table's cells."""

import json
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from deq_mpc_controller.flight import Mode, Source
from deq_mpc_controller.safety import NOMINAL, Action, Reason, Verdict
from deq_mpc_core.cli import main
from deq_mpc_core.policy.interface import Command, Observation, PolicyInfo
from deq_mpc_core.policy.straight_line import StraightLinePolicy
from deq_mpc_core.solver.solution import Status
from deq_mpc_sim import fault_table, mishaps
from deq_mpc_sim.fault_cases import FaultCase, Phase, all_cases
from deq_mpc_sim.fault_report import markdown, summary
from deq_mpc_sim.faults import FaultKind
from deq_mpc_sim.good_ends import ALLOWANCE, comes_down, completes, lands
from deq_mpc_sim.mishaps import Mishap, Span
from deq_mpc_sim.mocap import MocapPose
from deq_mpc_sim.vehicle import Truth
from deq_mpc_sim.whole_flight import FlightLog, Moment, WholeFlight

LEVEL = np.array([0.0, 0.0, 0.0, 1.0])
ONSET = fault_table.Onset("none", Phase.FLY, 3.0, 0)


def pose(stamp):
    return MocapPose(stamp, stamp + 0.01, np.array([stamp, 0.0, 1.0]), LEVEL)


def arrivals(change, stamps):
    """The poses that arrive of those exposed at ``stamps``, and when."""
    result = []
    for t in np.arange(0.0, stamps[-1] + 1.0, 0.01):
        result += [(t, late) for late in change(t, [pose(s) for s in stamps if abs(s + 0.01 - t) < 1e-6])]
    return result


STAMPS = [0.01 * k for k in range(100)]


def test_lost_poses_are_those_exposed_in_the_span():
    change = mishaps.poses(lambda _: None, 0.2)(0.5).poses
    missing = set(STAMPS) - {p.stamp for _, p in arrivals(change, STAMPS)}
    assert missing == {s for s in STAMPS if 0.5 <= s < 0.7}


def test_a_frozen_mocap_repeats_its_last_pose_under_new_stamps():
    poses = [p for _, p in arrivals(mishaps.freeze(Span(0.5)), STAMPS)]
    assert [p.stamp for p in poses] == STAMPS
    assert {float(p.pos[0]) for p in poses if p.stamp >= 0.5} == {0.49}
    assert all(p.pos[0] == p.stamp for p in poses if p.stamp < 0.5)


def test_delays_grow_up_to_the_largest():
    late = {p.stamp: t - p.stamp for t, p in arrivals(mishaps.delay_more(Span(0.2), 0.5, 0.3), STAMPS)}
    assert sorted(late) == STAMPS
    assert late[0.1] == pytest.approx(0.01)
    assert late[0.4] == pytest.approx(0.11, abs=0.011)
    assert late[0.99] == pytest.approx(0.31, abs=0.011)


def test_one_pose_in_five_is_20_hz_and_outliers_are_the_numbers_asked_for():
    thinned = arrivals(mishaps.slow_mocap(5)(0.5).poses, STAMPS)
    assert len([p for _, p in thinned if p.stamp >= 0.5]) == 10
    off = mishaps.outliers((0.0, 1.0, 0.0), lambda count: count % 20 == 0)(0.0).poses
    assert [k for k, (_, p) in enumerate(arrivals(off, STAMPS), 1) if p.pos[1] == 1.0] == [20, 40, 60, 80, 100]


def test_a_mocap_runs_away_and_stays_there():
    offsets = {
        round(p.stamp, 2): p.pos[0] - p.stamp for _, p in arrivals(mishaps.runaway_mocap(2.0, 0.2)(0.5).poses, STAMPS)
    }
    assert offsets[0.4] == 0.0
    assert offsets[0.6] == pytest.approx(-0.2)
    assert offsets[0.7] == pytest.approx(-0.4)
    assert offsets[0.9] == pytest.approx(-0.4)


def test_clocks_are_set_from_the_onset_on():
    mishap = mishaps.clocks(system=-2.0, mocap=1.0)(5.0)
    assert (mishap.system_clock(4.9), mishap.mocap_clock(4.9)) == (0.0, 0.0)
    assert (mishap.system_clock(5.0), mishap.mocap_clock(5.0)) == (-2.0, 1.0)


def observation(t):
    return Observation(t, np.zeros(13), np.ones(3), np.zeros((0, 7)))


class Steady:
    """Always the same command."""

    dt, horizon = 0.05, 2

    def step(self, obs, state):
        return Command(0.0, 0.1, 0.0, 0.3), "warm", PolicyInfo(int(Status.CONVERGED), np.zeros((2, 13)))


@pytest.mark.parametrize(
    ("how", "status"), [("nan", Status.CONVERGED), ("fails", Status.NUMERICAL_FAILURE), ("iterates", Status.ITERATING)]
)
def test_a_policy_breaks_at_the_onset(how, status):
    policy = mishaps.policies(how)(2.0).policy(Steady())
    assert policy.step(observation(1.9), None)[0] == Command(0.0, 0.1, 0.0, 0.3)
    command, state, info = policy.step(observation(2.0), None)
    assert np.isnan(command).all() == (how == "nan")
    assert (state, info.status) == ("warm", status)


def test_a_policy_raises_from_the_onset_on():
    policy = mishaps.policies("raises")(2.0).hover_policy(Steady())
    assert policy.step(observation(1.9), None)[0] == Command(0.0, 0.1, 0.0, 0.3)
    with pytest.raises(FloatingPointError):
        policy.step(observation(2.0), None)


def test_an_adversary_takes_over_the_policy_to_the_goal_alone():
    mishap = mishaps.adversary("drop")(2.0)
    policy = mishap.policy(Steady())
    assert policy.step(observation(1.9), None)[0].thrust == 0.3
    assert policy.step(observation(2.0), None)[0].thrust == 0.05
    steady = Steady()
    assert mishap.hover_policy(steady) is steady


def test_names_are_unique_and_every_kind_of_fault_occurs():
    cases = all_cases()
    assert len({case.name for case in cases}) == len(cases) > 50
    kinds = {fault.kind for case in cases for fault in case.mishap(1.0).faults}
    assert kinds == set(FaultKind)


def test_every_trigger_of_safety_is_declared_somewhere():
    declared = {reason for case in all_cases() for phase in Phase for reason in case.good_in(phase).reasons}
    others_come_first = {Reason.TILT}  # who tilts so far either does not follow its commands, or tumbles
    missing = {reason for reason in Reason if reason.value not in declared}
    assert missing == {Reason.NOMINAL, Reason.PREFLIGHT} | others_come_first


def moment(t, mode, source=Source.POLICY, verdict=NOMINAL, failure=""):
    return Moment(t, mode, source, verdict, failure, "")


def truth(t, *pos):
    still = np.zeros(3)
    return Truth(t, np.array(pos), still, LEVEL, still, still, 0.0, 4.0)


LANDS = Verdict(Action.LAND, Reason.BATTERY)
LANDED = FlightLog(
    moments=[
        moment(1.0, Mode.FLY),
        moment(3.5, Mode.LAND, Source.HOVER, LANDS, LANDS.reason.value),
        moment(6.0, Mode.FAULT, Source.OFF, LANDS, LANDS.reason.value),
    ],
    impact=0.9,
    stopped_at=6.0,
    landed_since=6.0,
    end=truth(9.0, 0.5, 0.5, 0.0),
)
GOOD = lands(0.5, "", Reason.BATTERY.value)


def test_a_flight_as_declared_is_good():
    cell = fault_table.judge(LANDED, ONSET, GOOD)
    assert cell.good
    assert cell.path == ("FLY", "LAND", "FAULT")
    assert (cell.reason, cell.time_to_reaction, cell.outcome) == ("battery low", 0.5, "landed")
    assert (cell.grounded, cell.inside, cell.motors_off) == (True, True, True)


@pytest.mark.parametrize(
    ("changes", "good", "problem"),
    [
        ({"end": truth(9.0, 0.5, 0.5, 0.3)}, GOOD, "not on the ground"),
        ({"end": truth(9.0, 2.5, 0.5, 0.0)}, GOOD, "outside the fence"),
        ({"landed_since": None}, GOOD, "the motors turn"),
        ({"landed_since": 8.0}, GOOD, "the motors turn"),
        ({"impact": 3.0}, GOOD, "fell, not landed"),
        ({}, completes(""), "landed, not completed"),
        ({}, lands(0.5, "", "tumbled"), "nobody says 'tumbled'"),
        ({}, lands(0.5 - 2.0 * ALLOWANCE, "", Reason.BATTERY.value), "said after 0.50 s, not 0.45 s"),
        ({"clearance": -0.02}, replace(GOOD, clear=True), "0.02 m inside an obstacle"),
        ({"beyond": 0.1}, replace(GOOD, clear=True), "0.10 m outside the fence on the way"),
        ({"locked_at": None}, replace(GOOD, locked=True), "the vehicle is not locked"),
        ({"died_at": 4.0, "death": "ValueError()"}, GOOD, "the controller died: ValueError()"),
    ],
)
def test_whatever_is_not_as_declared_is_bad(changes, good, problem):
    cell = fault_table.judge(replace(LANDED, **changes), ONSET, good)
    assert cell.bad == problem
    assert not cell.good


def test_obstacles_and_locks_count_where_they_are_declared():
    near = replace(LANDED, clearance=-0.02, beyond=0.1)
    assert fault_table.judge(near, ONSET, GOOD).good
    assert fault_table.judge(replace(LANDED, clearance=0.01, beyond=-0.1), ONSET, replace(GOOD, clear=True)).good
    assert fault_table.judge(replace(LANDED, locked_at=3.2), ONSET, replace(GOOD, locked=True)).good


def test_what_was_said_before_the_onset_does_not_count():
    late = replace(ONSET, t=3.6)
    assert "nobody says" in fault_table.judge(replace(LANDED, moments=LANDED.moments[:2]), late, GOOD).bad


def test_what_is_done_counts_before_what_is_only_said():
    warned = moment(3.1, Mode.FLY, verdict=Verdict(Action.WARN, Reason.BATTERY))
    log = replace(LANDED, moments=[LANDED.moments[0], warned, *LANDED.moments[1:]])
    assert fault_table.judge(log, ONSET, GOOD).time_to_reaction == 0.5


def test_the_document_says_what_is_bad_and_why():
    case = FaultCase("none", lambda _: Mishap(), GOOD, {Phase.LAND: completes("because", within=inf)})
    fell = fault_table.judge(replace(LANDED, impact=3.0), replace(ONSET, t=2.9, seed=1), GOOD)
    cells = [fault_table.judge(LANDED, ONSET, GOOD), replace(fell, phase="land")]
    text = markdown(cells, [case], "deq-mpc faults --seed 3")
    assert "`deq-mpc faults --seed 3`" in text
    assert "| none | fly | FLY → LAND → FAULT | battery low | 0.50 | ground, inside, off | 0.9 | yes |" in text
    assert "| 3.0 | **no**: fell, not landed; said after 0.60 s, not 0.55 s (seed 1) |" in text
    assert "| none (land) | completed |  |  | because |" in text
    assert summary(cells).startswith("1 of 2 flights are good\nnone, land, seed 1: fell")
    together = markdown([cells[0], fell], [case], "deq-mpc faults --seeds 2")
    assert "| 0.60 | ground, inside, off | 3.0 | **no**: fell, not landed" in together
    assert "the seeds 0, 1" in together


def fly(mishap, seed=0):
    """A whole flight by the straight-line policy, which is quick."""
    scene, policy = fault_table.scene_of(seed), StraightLinePolicy()
    scene = replace(scene, obstacles=np.zeros((0, 7)))
    return WholeFlight(policy, policy, scene, seed, mishap).fly(), scene


@pytest.fixture(scope="module")
def sound():
    return fly(Mishap())


def test_a_flight_without_a_fault_is_flown_from_ground_to_ground(sound):
    log, scene = sound
    modes = [entry.mode.value for entry in log.moments]
    assert list(dict.fromkeys(modes)) == ["IDLE", "READY", "ARMED", "TAKEOFF", "FLY", "LAND"]
    assert modes[-2:] == ["IDLE", "READY"]
    assert log.moments[-1].failure == ""
    assert np.linalg.norm(log.end.pos[:2] - scene.goal[:2]) < 0.15
    assert log.impact < 1.2
    assert log.end.t - log.landed_since == pytest.approx(3.0, abs=0.01)


def test_the_middles_of_the_phases(sound):
    log, scene = sound
    middles = fault_table.phase_middles(log, scene)
    at = {phase: next((mode, pos) for t, mode, pos in log.track if t >= middles[phase]) for phase in Phase}
    assert [at[phase][0] for phase in Phase] == [Mode.TAKEOFF, Mode.FLY, Mode.LAND]
    assert at[Phase.TAKEOFF][1][2] == pytest.approx(0.5 * scene.start[2], abs=0.02)
    assert np.linalg.norm(at[Phase.FLY][1] - 0.5 * (scene.start + scene.goal)) < 0.3


def test_until_the_onset_and_with_the_same_seed_flights_are_the_same(sound):
    log, _ = sound
    first, again = (fly(mishaps.packets("locked")(3.5))[0] for _ in range(2))
    assert np.array_equal(first.end.pos, again.end.pos)
    assert [entry.t for entry in first.moments] == [entry.t for entry in again.moments]
    before = [pos for t, _, pos in log.track if t < 3.5]
    assert np.array_equal(before, [pos for t, _, pos in first.track if t < 3.5])
    assert first.moments[-1].mode is Mode.FAULT


@pytest.mark.parametrize(
    ("name", "phase", "path", "said"),
    [
        ("mocap: silent for 0.5 s", Phase.TAKEOFF, ("TAKEOFF", "LAND blind", "LAND", "FAULT"), "no mocap pose"),
        ("request: emergency", Phase.FLY, ("FLY", "ESTOP"), "emergency stop requested"),
    ],
)
def test_cells_of_the_shipped_policy(name, phase, path, said, onsets):
    cell = fault_table.fly_cell(fault_table.Onset(name, phase, onsets[phase], 0))
    assert cell.bad == ""
    assert cell.path == path
    assert said in cell.reason


@pytest.fixture(scope="module")
def onsets():
    from deq_mpc_sim.campaign import cached_policy

    scene = fault_table.scene_of(0)
    policies = cached_policy(fault_table.POLICY), cached_policy(fault_table.HOVER_POLICY)
    return fault_table.phase_middles(WholeFlight(*policies, scene, 0).fly(), scene)


def run(*arguments):
    """The status of ``deq-mpc faults`` with these arguments."""
    with pytest.raises(SystemExit) as end:
        main(["faults", *arguments])
    return end.value.code


def test_the_command_prints_writes_and_fails_with_a_bad_cell(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(fault_table, "_fly", lambda seed, mishap: replace(LANDED, track=TRACK))
    bad = FaultCase("bad one", lambda _: Mishap(), completes(""))
    fine = FaultCase("fine one", lambda _: Mishap(), comes_down(inf, ""))
    monkeypatch.setattr(fault_table, "all_cases", lambda: (fine, bad))
    document = tmp_path / "new" / "faults.md"
    assert run("--only", "fine", "--json", "--workers", "1", "--markdown", str(document)) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert [(cell["phase"], cell["good"]) for cell in cells] == [("take-off", True), ("fly", True), ("land", True)]
    assert '`deq-mpc faults --only "fine"`' in document.read_text(encoding="utf-8")
    assert run("--phase", "fly", "--workers", "1") == 1
    assert capsys.readouterr().out == "1 of 2 flights are good\nbad one, fly, seed 0: landed, not completed\n"


SCENE = fault_table.scene_of(0)
TRACK = [
    (1.0, Mode.TAKEOFF, SCENE.start),
    (2.0, Mode.FLY, SCENE.goal),
    (3.0, Mode.LAND, SCENE.goal),
    (4.0, Mode.LAND, SCENE.goal * [1.0, 1.0, 0.1]),
]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--only", "nothing like it"], "no fault's name contains"),
        (["--phase", "lunch"], "unknown phase"),
        (["--seed", "-1"], "out of range"),
        (["--seed", "4294967295", "--seeds", "2"], "out of range"),
        (["--markdown", "/proc/faults.md"], "/proc: cannot be written"),
        (["--markdown", "/dev/null"], "is no regular file"),
        (["--workers", "0"], "workers"),
    ],
)
def test_what_the_command_cannot_do_it_says(arguments, what, capsys):
    assert run(*arguments) == 2
    assert what in capsys.readouterr().err
