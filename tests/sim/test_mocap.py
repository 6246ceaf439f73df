"""The motion-capture model: rate, noise, delay, dropouts, seeds."""

import numpy as np
import pytest

from deq_mpc_sim.mocap import Mocap
from deq_mpc_sim.parameters import world_config

CONFIG = world_config().mocap
IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])
TURNED = np.array([0.5, -0.5, 0.5, 0.5])


def watch(mocap, seconds, dt=0.01, quat=TURNED):
    """All poses of a vehicle that moves at 1 m/s along x, with the times at which they were handed over."""
    poses = []
    for k in range(round(seconds / dt)):
        t = k * dt
        poses += [(t, pose) for pose in mocap.step(t, np.array([t, 2.0, 1.0]), quat)]
    return poses


def test_frames_come_at_the_rate_and_late_by_the_delay():
    poses = watch(Mocap(CONFIG, np.random.default_rng(0)), 2.0)
    stamps = np.array([pose.stamp for _, pose in poses])
    np.testing.assert_allclose(np.diff(stamps), 1.0 / CONFIG.rate, atol=1e-12)
    assert all(t == pytest.approx(pose.stamp + CONFIG.delay) == pose.arrival for t, pose in poses)
    np.testing.assert_allclose([pose.pos[0] for _, pose in poses], stamps, atol=6e-3)  # where it was then


def test_a_delay_of_several_frames_keeps_their_order():
    slow = CONFIG.model_copy(update={"delay": 0.035})
    poses = watch(Mocap(slow, np.random.default_rng(0)), 1.0)
    assert [pose.stamp for _, pose in poses] == sorted(pose.stamp for _, pose in poses)
    assert poses[0][0] == pytest.approx(0.04)


def test_noise_has_its_strength():
    poses = [pose for _, pose in watch(Mocap(CONFIG, np.random.default_rng(1)), 60.0)]
    sideways = np.array([pose.pos[1:] - [2.0, 1.0] for pose in poses])
    np.testing.assert_allclose(sideways.std(axis=0), CONFIG.position_noise, rtol=0.05)
    np.testing.assert_allclose(sideways.mean(axis=0), 0.0, atol=1e-4)
    angles = 2.0 * np.arccos(np.clip([abs(pose.quat @ TURNED) for pose in poses], 0.0, 1.0))
    assert np.sqrt(np.mean(angles**2) / 3.0) == pytest.approx(CONFIG.rotation_noise, rel=0.05)
    np.testing.assert_allclose([np.linalg.norm(pose.quat) for pose in poses], 1.0, atol=1e-12)


def test_without_noise_it_is_exact():
    exact = CONFIG.model_copy(update={"position_noise": 0.0, "rotation_noise": 0.0, "delay": 0.0})
    for t, pose in watch(Mocap(exact, np.random.default_rng(0)), 0.5, quat=IDENTITY):
        np.testing.assert_array_equal(pose.pos, [t, 2.0, 1.0])
        np.testing.assert_array_equal(pose.quat, IDENTITY)


def test_a_planned_outage_delivers_nothing_and_ends():
    poses = watch(Mocap(CONFIG, np.random.default_rng(0), outages=[(0.5, 0.8)]), 1.5)
    stamps = np.array([pose.stamp for _, pose in poses])
    assert not np.any((stamps >= 0.5) & (stamps < 0.8))
    assert np.diff(stamps).max() == pytest.approx(0.31, abs=1e-9)
    assert stamps.max() > 1.4


def test_random_dropouts_lose_their_share_and_end_in_time():
    lossy = CONFIG.model_copy(update={"dropout_rate": 1.0, "dropout_max": 0.5})
    poses = [pose for _, pose in watch(Mocap(lossy, np.random.default_rng(2)), 400.0)]
    assert len(poses) / 40_000 == pytest.approx(1.0 / 1.25, abs=0.03)  # 1 s between two, 0.25 s on average
    pauses = np.diff([pose.stamp for pose in poses]) - 1.0 / lossy.rate
    lengths = pauses[pauses > 0.02]
    assert 0.45 < lengths.max() < 0.51
    assert np.median(lengths) == pytest.approx(0.25, abs=0.04)  # an exponential's would be 0.17


def test_the_lab_is_without_poses_for_one_percent_of_the_time():
    lab = world_config("lab").mocap
    poses = [pose for _, pose in watch(Mocap(lab, np.random.default_rng(4)), 2000.0)]
    assert len(poses) / 200_000 == pytest.approx(0.99, abs=0.002)
    assert np.diff([pose.stamp for pose in poses]).max() < 0.161


def test_the_same_seed_gives_the_same_measurements():
    one, two, other = (watch(Mocap(CONFIG, np.random.default_rng(seed)), 0.3) for seed in (5, 5, 6))
    np.testing.assert_array_equal([p.pos for _, p in one], [p.pos for _, p in two])
    assert not np.array_equal([p.pos for _, p in one], [p.pos for _, p in other])
