"""One lockstep flight: ends, determinism, what the policy is told, what is recorded."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from deq_mpc_controller.flight import Mode
from deq_mpc_controller.settings import unfiltered_config
from deq_mpc_core.models.crazyflie import DISTURBANCE, hover_thrust
from deq_mpc_core.policy.interface import Command, Observation, PolicyInfo
from deq_mpc_core.policy.straight_line import StraightLinePolicy
from deq_mpc_core.solver.solution import Status
from deq_mpc_sim.episode import CONTROL_PERIOD, SETTLING, Conditions, fly_episode
from deq_mpc_sim.exploration import ExplorationNoise, NoisyPolicy
from deq_mpc_sim.referee import Ending
from deq_mpc_sim.scenes import make_scene, positions


@dataclass
class Constant:
    """Always the same command; remembers its observations."""

    command: Command
    dt: float = 0.05
    horizon: int = 2
    seen: list = field(default_factory=list)

    def step(self, obs, state):
        self.seen.append(obs)
        return self.command, None, PolicyInfo(0, np.tile(obs.x, (2, 1)))


@dataclass
class Blind:
    """The straight-line policy without eyes."""

    pilot: StraightLinePolicy = field(default_factory=StraightLinePolicy)
    dt: float = 0.05
    horizon: int = 16

    def step(self, obs, state):
        return self.pilot.step(replace(obs, obstacles=np.zeros((0, 7))), state)


class Recorder:
    def __init__(self):
        self.poses, self.truths, self.setpoints, self.obstacles, self.goals = [], [], [], [], []

    def write_pose(self, t, pos, quat):
        self.poses.append((t, pos))

    def write_truth(self, t, pos, quat, vel, ang_vel):
        self.truths.append((t, pos))

    def write_setpoint(self, t, command):
        self.setpoints.append((t, command))

    def write_obstacles(self, t, obstacles):
        self.obstacles.append((t, obstacles))

    def write_goal(self, t, goal):
        self.goals.append((t, goal))


@pytest.fixture(scope="module")
def straight():
    return StraightLinePolicy()


LEVEL = Command(0.0, 0.0, 0.0, hover_thrust())


def test_a_clear_scene_is_crossed_to_the_goal(straight):
    scene = make_scene("clutter", "static", 0.05, 3, 0)
    episode = fly_episode(straight, scene, (3, 0))
    assert episode.ending is Ending.GOAL
    assert episode.success
    assert 2.5 < episode.duration < 6.0
    assert np.linalg.norm(episode.path[0, :3] - scene.start) < 0.05
    assert np.linalg.norm(episode.path[-1, :3] - scene.goal) < 0.16
    assert episode.min_clearance > 0.0
    assert (
        len(episode.policy_ms) == len(episode.path) == len(episode.statuses) == round(episode.duration / CONTROL_PERIOD)
    )


def test_without_eyes_it_ends_in_the_pocket_wall():
    episode = fly_episode(Blind(), make_scene("pocket", "static", 0.1, 3, 1), (3, 1), config=unfiltered_config())
    assert episode.ending is Ending.COLLISION
    assert -0.05 < episode.min_clearance < 0.0


def test_flying_away_ends_outside_the_arena():
    scene = make_scene("clutter", "static", 0.01, 3, 2)
    episode = fly_episode(Constant(LEVEL._replace(thrust=0.4)), scene, (3, 2), config=unfiltered_config())
    assert episode.ending is Ending.OUTSIDE
    assert episode.path[-1, 2] > 1.8 + 0.2


def test_lying_on_the_floor_times_out():
    episode = fly_episode(Constant(Command(0.0, 0.0, 0.0, 0.0)), make_scene("clutter", "static", 0.01, 3, 3), (3, 3))
    assert episode.ending is Ending.TIMEOUT
    assert episode.duration == pytest.approx(20.0)
    assert not episode.success


def test_same_seed_same_flight_other_seed_other_disturbances(straight):
    scene = make_scene("clutter", "static", 0.1, 5, 0)
    first, again, other = (fly_episode(straight, scene, seed) for seed in ((5, 0), (5, 0), (5, 1)))
    assert np.array_equal(first.path, again.path)
    assert np.array_equal(first.estimates, again.estimates)
    assert not np.allclose(first.path[:100], other.path[:100], atol=1e-4)


def test_estimates_are_the_controllers_and_follow_the_truth(straight):
    episode = fly_episode(straight, make_scene("clutter", "moving", 0.1, 5, 2), (5, 2))
    error = np.abs(episode.estimates - episode.path)
    assert 1e-5 < error[:, :3].max() < 0.01
    assert error[:, 3:6].max() < 0.1
    assert error[:, 6:8].max() < 0.05


def test_the_policy_sees_time_goal_moving_obstacles_and_a_learned_disturbance():
    scene = make_scene("clutter", "moving", 0.02, 7, 0, speed=1.0)
    policy = Constant(LEVEL)
    fly_episode(policy, scene, (7, 0))
    t = np.array([obs.t for obs in policy.seen])
    assert t[0] == pytest.approx(SETTLING)
    assert np.allclose(np.diff(t), CONTROL_PERIOD)
    for step in (0, 1, len(t) // 2, len(t) - 1):
        assert np.allclose(policy.seen[step].obstacles, positions(scene, t[step] - t[0]), atol=1e-9)
    assert np.array_equal(policy.seen[0].goal, scene.goal)
    assert np.linalg.norm(policy.seen[0].model_params[DISTURBANCE]) > 0.01


def test_adversarial_obstacles_close_in():
    scene = make_scene("clutter", "adversarial", 0.05, 7, 1)
    policy = Constant(LEVEL)
    episode = fly_episode(policy, scene, (7, 1), config=unfiltered_config())
    assert episode.ending is Ending.COLLISION
    first, last = policy.seen[0], policy.seen[-1]
    distances = [np.linalg.norm(obs.obstacles[:, :3] - obs.x[:3], axis=1).mean() for obs in (first, last)]
    assert distances[1] < distances[0] - 0.2
    assert np.array_equal(first.obstacles, scene.obstacles)


def test_everything_is_recorded_as_it_happened(straight):
    scene = make_scene("clutter", "static", 0.05, 3, 0)
    recorder = Recorder()
    episode = fly_episode(straight, scene, (3, 0), recorder)
    steps = len(episode.path)
    assert len(recorder.setpoints) == len(recorder.truths) == len(recorder.poses) == steps
    assert recorder.truths[0][0] == recorder.setpoints[0][0] == pytest.approx(SETTLING)
    assert recorder.poses[0][0] == pytest.approx(SETTLING - 0.01)
    stamps = {round(t, 6): pos for t, pos in recorder.truths}
    errors = [pos - stamps[round(t, 6)] for t, pos in recorder.poses if round(t, 6) in stamps]
    assert np.std(errors) == pytest.approx(1e-3, rel=0.2)
    assert np.array_equal(recorder.goals[0][1], scene.goal)


def test_the_setpoint_has_the_radios_resolution(straight):
    recorder = Recorder()
    fly_episode(straight, make_scene("clutter", "static", 0.05, 3, 0), (3, 0), recorder)
    counts = np.array([command.thrust for _, command in recorder.setpoints]) / 0.48 * 65535
    assert np.allclose(counts, np.round(counts), atol=1e-6)


def test_noise_changes_the_way_but_not_the_world(straight):
    scene = make_scene("clutter", "static", 0.05, 3, 0)
    plain = fly_episode(straight, scene, (3, 0))
    noisy = [fly_episode(straight, scene, (3, 0), noise=ExplorationNoise()) for _ in range(2)]
    assert np.array_equal(noisy[0].path, noisy[1].path)
    assert np.array_equal(noisy[0].path[0], plain.path[0])
    shared = min(len(plain.path), len(noisy[0].path))
    assert 0.02 < np.abs(noisy[0].path[:shared, :3] - plain.path[:shared, :3]).max() < 1.0


def test_noise_has_the_given_strength_and_correlation():
    noise = ExplorationNoise(tilt=0.1, yaw_rate=0.5, thrust=0.05, time=0.2)
    policy = NoisyPolicy(Constant(Command(0.0, 0.0, 0.0, 1.0)), noise, np.random.default_rng(0), 500.0)
    observation = Observation(0.0, np.zeros(13), np.zeros(3), np.zeros((0, 7)))
    times = np.arange(0.0, 500.0, 0.05)
    commands = np.array([policy.step(replace(observation, t=t), None)[0] for t in times])
    deviation = commands - [0.0, 0.0, 0.0, 1.0]
    assert np.allclose(deviation.std(axis=0), [0.1, 0.1, 0.5, 0.05], rtol=0.1)
    for channel in deviation.T:
        assert np.corrcoef(channel[:-4], channel[4:])[0, 1] == pytest.approx(np.exp(-1.0), abs=0.1)
    assert policy.step(replace(observation, t=3.0), None)[0] == Command(*commands[60])


@pytest.mark.parametrize("vehicle", ["default", "cf2x_L250", "cf2x_P250", "cf2x_T350", "cf21B_500"])
def test_every_vehicle_crosses_a_clear_scene_in_the_lab(straight, vehicle):
    """Among them one of 43 g, which needs more thrust in hover than the policy ever commands of the nominal vehicle."""
    scene = make_scene("clutter", "static", 0.05, 3, 0)
    episode = fly_episode(straight, scene, (3, 0), conditions=Conditions("lab", vehicle))
    assert (episode.ending, episode.failure, episode.mode) == (Ending.GOAL, "", Mode.FLY)
    assert episode.duration < 7.0
    if vehicle == "cf21B_500":
        assert np.median(episode.path[:, 12]) > 0.38


def test_other_conditions_are_another_flight_of_the_same_scene(straight):
    scene = make_scene("clutter", "static", 0.05, 3, 0)
    plain, lab = (fly_episode(straight, scene, (3, 0), conditions=Conditions(name)) for name in ("default", "lab"))
    same = fly_episode(straight, scene, (3, 0))
    assert np.array_equal(plain.path, same.path)
    late = [np.abs(e.estimates - e.path)[:, :3].std() for e in (plain, lab)]
    assert late[1] > 1.3 * late[0]


def test_poses_of_the_lab_are_twice_as_late(straight):
    recorder = Recorder()
    scene = make_scene("clutter", "static", 0.05, 3, 0)
    fly_episode(straight, scene, (3, 0), recorder, conditions=Conditions("lab"))
    assert recorder.poses[0][0] == pytest.approx(recorder.truths[0][0] - 0.02)


def test_a_policy_without_answer_is_landed_by_the_controller():
    class Broken(Constant):
        def step(self, obs, state):
            command, state, info = super().step(obs, state)
            return command, state, replace(info, status=int(Status.NUMERICAL_FAILURE))

    episode = fly_episode(Broken(LEVEL), make_scene("clutter", "static", 0.01, 3, 4), (3, 4))
    assert episode.failure == "the solver failed"
    assert episode.mode is Mode.FAULT
    assert not episode.success
    assert len(episode.policy_ms) < 10
    assert episode.path[-1, 2] < 0.1
