"""From flights to bags to samples: the states, labels and obstacles that come out are those that went in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_core.config import load_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.learning.dataset import Dataset, DatasetConfig, build_dataset, prepare_dataset
from deq_mpc_core.learning.local_polynomial import fit_local_polynomial
from deq_mpc_core.learning.sampling import SampleSpec
from deq_mpc_core.learning.track import Motion, interpolate_motion, lag_response
from deq_mpc_sim.bag_writer import FlightBagWriter

Record = Callable[..., Path]
CONFIG = load_config("dataset", DatasetConfig)
SPEC = SampleSpec(dt=0.05, horizon=16, dt_control=0.01, steps=2)
TAU_THRUST = 0.05


def build(*bags: Path, spec: SampleSpec = SPEC) -> Dataset:
    return build_dataset(bags, CONFIG, spec, TAU_THRUST)[0]


def test_states_come_back(record: Record, flight: Any) -> None:
    dataset = build(record(flight))
    t = dataset.t.astype(np.float64)
    np.testing.assert_allclose(np.diff(t), CONFIG.stride, atol=1e-6)
    tolerance = np.repeat([1e-3, 1e-2, 2e-3, 2e-2, 1e-6], [3, 3, 3, 3, 1])
    assert (np.abs(dataset.x - flight.states(t)) < tolerance).all()
    for step, delay in enumerate(SPEC.next_times):
        assert (np.abs(dataset.x_next[:, step] - flight.states(t + delay)) < tolerance).all()
    np.testing.assert_allclose(dataset.goal, np.tile(flight.goal, (len(t), 1)), atol=1e-6)


def test_labels_are_the_flown_future_and_then_the_goal(record: Record, flight: Any) -> None:
    dataset = build(record(flight))
    assert dataset.label.shape[1:] == (17, 6)
    times = dataset.t[:, None] + SPEC.label_times
    pos, vel = flight.motion(times.ravel().astype(np.float64))
    expected = np.concatenate([pos, vel], axis=1).reshape(dataset.label.shape)
    assert times.max() > flight.duration + 0.7
    np.testing.assert_allclose(dataset.label[..., :3], expected[..., :3], atol=1e-3)
    np.testing.assert_allclose(dataset.label[..., 3:], expected[..., 3:], atol=1e-2)
    np.testing.assert_allclose(dataset.label[:, 0], dataset.x[:, :6], atol=1e-6)


def test_a_flight_that_ends_off_the_goal_gives_only_whole_labels(record: Record, flight: Any) -> None:
    unfinished = np.arange(201) / 100
    dataset = build(record(flight, pose_t=unfinished))
    assert dataset.t.max() == pytest.approx(2.0 - SPEC.label_times[-1], abs=0.1)
    assert (dataset.t + SPEC.label_times[-1] <= 2.0 + 1e-5).all()
    with pytest.raises(UserError, match="no sample with a whole label"):
        build(record(flight, "bags/short", pose_t=unfinished[:70]))


def test_noise_is_smoothed(record: Record, flight: Any) -> None:
    rng = np.random.default_rng(0)
    motion = type(flight).motion

    class Noisy(type(flight)):
        def motion(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            pos, vel = motion(self, t)
            return pos + rng.normal(0.0, 1e-3, pos.shape), vel

    noisy = Noisy(**dataclasses.asdict(flight))
    dataset = build(record(noisy))
    error = dataset.x - flight.states(dataset.t.astype(np.float64))
    assert np.sqrt(np.mean(error[1:-1, 0:3] ** 2)) < 0.7e-3
    assert np.sqrt(np.mean(error[1:-1, 3:6] ** 2)) < 15e-3


def test_static_obstacles_are_stored_once(record: Record, flight: Any) -> None:
    obstacles = np.random.default_rng(0).uniform(0.1, 1.0, (40, 7))
    obstacles[:, 4:] = 0.0
    dataset = build(record(flight, obstacles=lambda t: obstacles), record(flight, "bags/empty"))
    assert dataset.obstacle_sets.shape == (2, 40, 7)
    index = np.array([3, 0, len(dataset) - 1])
    spheres, count = dataset.obstacles(index)
    np.testing.assert_array_equal(count, [40, 40, 0])
    np.testing.assert_allclose(spheres[0], obstacles, atol=1e-7)
    assert not spheres[2].any()


def test_moving_obstacles_stand_where_they_were_at_the_samples_time(record: Record, flight: Any) -> None:
    def obstacles(t: float) -> np.ndarray:
        return np.array([[0.3 * t, 1.0, 1.0 - 0.2 * t, 0.15, 0.3, 0.0, -0.2]])

    dataset = build(record(flight, obstacles=obstacles))
    spheres, _ = dataset.obstacles(np.arange(len(dataset)))
    np.testing.assert_allclose(spheres, [obstacles(float(t)) for t in dataset.t], atol=1e-6)


def test_an_experts_plan_takes_precedence(record: Record, flight: Any) -> None:
    """A straight plan at 1 m/s to the goal and rest there, from two states of a flight that went elsewhere."""
    starts = (0.5, 1.234)
    knots = np.arange(60) * 0.05

    def plan_from(t: float) -> np.ndarray:
        start = flight.motion(np.array([t]))[0][0]
        way = np.array(flight.goal) - start
        return start + np.clip(knots[:, None] / 2.0, 0.0, 1.0) * way

    def add_plans(bag: FlightBagWriter) -> None:
        for t in starts:
            bag.write_expert_plan(t, plan_from(t), 0.05)

    dataset = build(record(flight, edit=add_plans))
    np.testing.assert_allclose(dataset.t, starts, atol=1e-6)
    assert (np.abs(dataset.x - flight.states(np.array(starts)))[:, :3] < 1e-3).all()
    for label, t in zip(dataset.label, starts, strict=True):
        plan = plan_from(t)
        np.testing.assert_allclose(label[:, :3], plan[:17], atol=1e-5)
        np.testing.assert_allclose(label[:, 3:], np.tile((plan[1] - plan[0]) / 0.05, (17, 1)), atol=1e-4)


def test_plans_that_end_too_early_are_reported(record: Record, flight: Any) -> None:
    short = np.linspace([0.0, 0.0, 1.0], [0.2, 0.0, 1.0], 5)
    bag = record(flight, edit=lambda bag: bag.write_expert_plan(1.0, short, 0.05))
    with pytest.raises(UserError, match="no sample"):
        build(bag)


def test_labels_can_start_later(record: Record, flight: Any) -> None:
    dataset = build(record(flight), spec=SampleSpec(dt=0.05, horizon=10, dt_control=0.01, steps=6))
    index = np.arange(5)
    for delay in (0.0, 0.02, 0.05, 0.06):
        label = dataset.label_from(index, delay)
        assert label.shape == (5, 10, 6)
        times = dataset.t[index, None] + delay + 0.05 * np.arange(10)
        pos, vel = flight.motion(times.ravel().astype(np.float64))
        np.testing.assert_allclose(label[..., :3].reshape(-1, 3), pos, atol=1e-3)
        np.testing.assert_allclose(label[..., 3:].reshape(-1, 3), vel, atol=1e-2)
    with pytest.raises(ValueError, match="do not reach"):
        dataset.label_from(index, 0.12)


def test_a_flights_samples_stay_on_one_side_of_the_split(record: Record, flight: Any) -> None:
    dataset = build(*(record(flight, f"bags/{i}") for i in range(5)))
    train, validation = dataset.split(0.1, seed=3)
    assert len(train) + len(validation) == len(dataset)
    assert len(set(dataset.flight[validation])) == 1
    assert not set(dataset.flight[train]) & set(dataset.flight[validation])
    np.testing.assert_array_equal(validation, dataset.split(0.1, seed=3)[1])
    assert len({int(dataset.flight[dataset.split(0.1, seed)[1][0]]) for seed in range(10)}) > 1


def test_the_cache_serves_the_same_bags_only(record: Record, flight: Any, tmp_path: Path) -> None:
    record(flight, "bags/0")
    (tmp_path / "bags/bad.mcap").write_text("not a bag")
    read = []

    def load() -> tuple[Dataset, int]:
        read.clear()
        dataset, report = prepare_dataset(
            [tmp_path / "bags"], CONFIG, SPEC, TAU_THRUST, tmp_path / "cache", lambda bags: read.extend(bags) or bags
        )
        assert len(report.dropped) == 1
        return dataset, len(read)

    first, count = load()
    assert count == 2
    second, count = load()
    assert count == 0
    for field in dataclasses.fields(Dataset):
        np.testing.assert_array_equal(getattr(second, field.name), getattr(first, field.name))
    record(flight, "bags/1")
    assert load()[1] == 3
    for cached in (tmp_path / "cache").iterdir():
        cached.write_bytes(cached.read_bytes()[:1000])
    assert load()[1] == 3
    assert not list((tmp_path / "cache").glob(".*"))


def test_no_usable_bag_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "bad.mcap").write_text("not a bag")
    with pytest.raises(UserError, match=r"none of 1 bags is usable; the first, .*bad\.mcap: damaged"):
        prepare_dataset([tmp_path], CONFIG, SPEC, TAU_THRUST)


coefficient = st.floats(-2.0, 2.0)


@settings(max_examples=30, deadline=None)
@given(st.tuples(coefficient, coefficient, coefficient), st.integers(0, 2**16), st.floats(0.02, 0.3))
def test_the_local_fit_is_exact_for_parabolas_at_any_stamps(c: Sequence[float], seed: int, width: float) -> None:
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.uniform(0.002, 0.02, 60))
    query = np.concatenate([t[[0, -1]], rng.uniform(t[0], t[-1], 20)])
    value, derivative = fit_local_polynomial(t, np.polyval(c, t)[:, None], query, width)
    np.testing.assert_allclose(value[:, 0], np.polyval(c, query), atol=1e-7)
    np.testing.assert_allclose(derivative[:, 0], np.polyval(np.polyder(c), query), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.floats(-5.0, 5.0), st.integers(0, 2**16))
def test_alignment_does_not_depend_on_the_clocks_origin(shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    t, y = np.cumsum(rng.uniform(0.005, 0.015, 30)), rng.normal(size=(30, 2))
    query = rng.uniform(t[0], t[-1], 10)
    here, there = (fit_local_polynomial(t + s, y, query + s, 0.08) for s in (0.0, shift))
    np.testing.assert_allclose(np.concatenate(here), np.concatenate(there), atol=1e-6)
    lagged = [lag_response(t + s, y[:, 0], query + s, 0.05) for s in (0.0, shift)]
    np.testing.assert_allclose(*lagged, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.01, 0.2))
def test_the_lag_solves_its_equation(seed: int, tau: float) -> None:
    rng = np.random.default_rng(seed)
    t, command = np.cumsum(rng.uniform(0.005, 0.015, 20)), rng.uniform(0.2, 0.5, 20)
    fine = np.linspace(t[0], t[-1], 20001)
    held = command[np.searchsorted(t, fine, side="right") - 1]
    euler = np.empty_like(fine)
    euler[0] = command[0]
    step = fine[1] - fine[0]
    for i in range(len(fine) - 1):
        euler[i + 1] = euler[i] + step / tau * (held[i] - euler[i])
    np.testing.assert_allclose(lag_response(t, command, fine, tau), euler, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.lists(coefficient, min_size=4, max_size=4), st.integers(0, 2**16))
def test_hermite_interpolation_is_exact_for_cubics(c: Sequence[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.uniform(0.05, 0.5, 6))
    query = rng.uniform(t[0], t[-1], 20)
    knots = Motion(np.polyval(c, t)[:, None], np.polyval(np.polyder(c), t)[:, None])
    pos, vel = interpolate_motion(t, knots, query)
    np.testing.assert_allclose(pos[:, 0], np.polyval(c, query), atol=1e-9)
    np.testing.assert_allclose(vel[:, 0], np.polyval(np.polyder(c), query), atol=1e-9)
