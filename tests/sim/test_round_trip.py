"""A simulated flight, its bag, and the samples from it: they are what truly happened, to the goal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deq_mpc_core.config import load_config
from deq_mpc_core.learning.dataset import DatasetConfig, build_dataset
from deq_mpc_core.learning.sampling import SampleSpec
from deq_mpc_core.models.crazyflie import attitude_models
from deq_mpc_core.policy import load_policy
from deq_mpc_sim.bag_writer import FlightBagWriter
from deq_mpc_sim.episode import CONTROL_PERIOD, fly_episode
from deq_mpc_sim.scenes import make_scene

SPEC = SampleSpec(dt=0.05, horizon=16, dt_control=CONTROL_PERIOD, steps=2)


@pytest.mark.parametrize("seed", [0, 1])
def test_samples_of_a_simulated_flight_are_its_truth(tmp_path: Path, seed: int) -> None:
    scene = make_scene("clutter", "moving", 0.1, seed, 0)
    with FlightBagWriter(tmp_path / "flight") as bag:
        episode = fly_episode(load_policy("straight-line"), scene, [seed], recorder=bag)
    assert episode.success
    config = load_config("dataset", DatasetConfig)
    dataset, report = build_dataset([tmp_path / "flight"], config, SPEC, attitude_models().nominal.tau_thrust)
    assert report.used[0].notes == []

    # the first pose in the bag may be some periods older than the first recorded truth
    steps = np.rint(dataset.t / CONTROL_PERIOD).astype(int)
    lags = range(4)
    paths = [episode.path[np.clip(steps - lag, 0, len(episode.path) - 1)] for lag in lags]
    truth = min(paths, key=lambda path: float(np.abs(dataset.x[:, :3] - path[:, :3]).max()))
    rms = np.sqrt(np.mean((dataset.x - truth) ** 2, axis=0))
    assert (rms[:3] < 2e-3).all()
    assert (rms[3:6] < 0.03).all()
    assert (rms[6:9] < np.radians(0.4)).all()
    assert (rms[9:12] < 0.2).all()

    # it goes on to the last moment, and the last labels rest at the goal
    assert dataset.t.max() > episode.duration - 2 * config.stride
    np.testing.assert_allclose(dataset.label[-1, -1], [*scene.goal, 0.0, 0.0, 0.0], atol=1e-6)
    spheres, _ = dataset.obstacles(np.arange(len(dataset)))
    assert np.abs(spheres[-1, :, :3] - spheres[0, :, :3]).max() > 0.3
