"""The estimator on the simulated vehicle, which is not the model it predicts with, and on bad poses."""

import numpy as np
import pytest
from numpy.typing import NDArray

from deq_mpc_controller.estimate import Estimate, Estimator, Gate
from deq_mpc_controller.settings import controller_config
from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.policy.interface import Command
from deq_mpc_core.rotations import quat_from_rpy
from deq_mpc_sim.parameters import perturb, plant_config, world_config
from deq_mpc_sim.vehicle import Truth, Vehicle

CONFIG = controller_config().estimator
LEVEL = quat_from_rpy([0.0, 0.0, 0.0])
HOVER = Command(0.0, 0.0, 0.0, cf.hover_thrust())
PERIOD = 0.01


def track_circle(t: float, truth: Truth) -> Command:
    """PD controller that keeps the true vehicle on a wide circle at up to 1.2 m/s."""
    ref = np.array([np.sin(1.2 * t), 0.8 * np.sin(0.9 * t), 1.0 + 0.3 * np.sin(0.7 * t)])
    ref_vel = np.array([1.2 * np.cos(1.2 * t), 0.72 * np.cos(0.9 * t), 0.21 * np.cos(0.7 * t)])
    acc = 4.0 * (ref - truth.pos) + 3.0 * (ref_vel - truth.vel) + [0.0, 0.0, 9.81]
    roll, pitch = np.clip([-acc[1] / 9.81, acc[0] / 9.81], -0.4, 0.4)
    return Command(float(roll), float(pitch), -float(truth.rpy[2]), float(np.clip(0.0318 * acc[2], 0.1, 0.43)))


def fly(seconds: float, seed: int = 0, delay: int = 1, attitude_until: float = np.inf) -> list[tuple[Truth, Estimate]]:
    """Fly the circle with noisy poses that arrive ``delay`` periods late; truth and estimate at every control step."""
    rng = np.random.default_rng(seed)
    vehicle = Vehicle(perturb(plant_config().parameters(), world_config().disturbances, rng))
    vehicle.reset(np.array([0.0, 0.0, 1.0]))
    vehicle.hover()
    estimator, poses, history = Estimator(CONFIG), [], []
    estimator.grounded = False
    for step in range(int(seconds / PERIOD)):
        t, truth = step * PERIOD, vehicle.truth
        noisy = quat_from_rpy(truth.rpy + rng.normal(0.0, CONFIG.angle_noise, 3))
        if t > attitude_until:
            noisy = np.full(4, np.nan)
        poses.append((t, truth.pos + rng.normal(0.0, CONFIG.position_noise, 3), noisy))
        if step >= delay:
            assert estimator.add_pose(*poses[step - delay], received=t) is Gate.ACCEPTED
            estimate = estimator.estimate(t)
            assert estimate is not None
            history.append((truth, estimate))
        command = track_circle(t, truth)
        estimator.add_command(t, command)
        vehicle.step(PERIOD, command)
    return history


def rms(errors: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.sqrt(np.mean(np.square(errors), axis=0))


def test_estimate_is_near_the_truth_now_although_poses_are_late_and_noisy() -> None:
    error = rms([estimate.x - truth.x for truth, estimate in fly(6.0)[150:]])
    assert error[cf.POS].max() < 0.0015
    assert error[cf.VEL].max() < 0.03
    assert error[cf.RPY].max() < np.radians(0.5)
    assert error[cf.RPY_RATE].max() < 0.25
    assert error[cf.THRUST] < 0.015


def test_prediction_compensates_a_longer_delay() -> None:
    history = fly(4.0, delay=5)[150:]
    error = rms([estimate.x[cf.POS] - truth.pos for truth, estimate in history])
    uncompensated = rms([0.05 * truth.vel for truth, _ in history])
    assert np.linalg.norm(error) < 0.1 * np.linalg.norm(uncompensated)


def test_same_input_gives_the_same_estimate() -> None:
    first, second = fly(0.5, seed=3), fly(0.5, seed=3)
    np.testing.assert_array_equal(first[-1][1].x, second[-1][1].x)
    np.testing.assert_array_equal(first[-1][1].disturbance, second[-1][1].disturbance)


def test_disturbance_explains_a_wrong_thrust_map() -> None:
    """A vehicle that hovers at 90 % of the thrust that the model needs."""
    estimator = Estimator(CONFIG)
    estimator.grounded = False
    for step in range(300):
        t = step * PERIOD
        estimator.add_pose(t, [0.0, 0.0, 1.0 + 1e-6 * (step % 2)], LEVEL, t)
        estimator.add_command(t, HOVER._replace(thrust=0.9 * HOVER.thrust))
    estimate = estimator.estimate(t)
    assert estimate is not None
    np.testing.assert_allclose(estimate.disturbance, [0.0, 0.0, 0.981], atol=0.02)
    np.testing.assert_allclose(estimate.model_params()[cf.DISTURBANCE], estimate.disturbance)
    np.testing.assert_array_equal(estimate.model_params()[:10], cf.nominal_params()[:10])


def test_disturbance_is_bounded() -> None:
    estimator = Estimator(CONFIG)
    estimator.grounded = False
    for step in range(200):
        t = step * PERIOD
        estimator.add_pose(t, [0.0, 0.0, 10.0 * t**2], LEVEL, t)
        estimator.add_command(t, HOVER)
    estimate = estimator.estimate(t)
    assert estimate is not None
    assert estimate.disturbance[2] == CONFIG.disturbance_max


def test_on_the_ground_nothing_falls_and_no_disturbance_is_learnt() -> None:
    estimator = Estimator(CONFIG)
    for step in range(200):
        estimator.add_pose(step * PERIOD, [1.0, 2.0, 0.0], LEVEL, step * PERIOD)
        estimator.add_command(step * PERIOD, Command(0.3, 0.3, 0.0, 0.05))
    estimate = estimator.estimate(2.1)
    assert estimate is not None
    np.testing.assert_allclose(estimate.x[:12], [1.0, 2.0, *np.zeros(10)], atol=1e-3)
    np.testing.assert_array_equal(estimate.disturbance, 0.0)


def test_no_estimate_before_the_first_pose_nor_long_after_the_last() -> None:
    estimator = Estimator(CONFIG)
    assert estimator.estimate(0.0) is None
    estimator.add_pose(0.0, [0.0, 0.0, 0.0], LEVEL, 0.0)
    held = estimator.estimate(0.5)
    assert held is not None
    assert held.age == 0.5
    assert estimator.estimate(CONFIG.max_prediction + 0.01) is None


def test_yaw_is_continuous_inside_and_wrapped_outside() -> None:
    estimator = Estimator(CONFIG)
    estimator.grounded = False
    for step in range(400):
        t = step * PERIOD
        assert estimator.add_pose(t, np.zeros(3), quat_from_rpy([0.0, 0.0, 2.0 * t]), t) is Gate.ACCEPTED
        estimator.add_command(t, Command(0.0, 0.0, 2.0, cf.hover_thrust()))
    estimate = estimator.estimate(t)
    assert estimate is not None
    assert estimate.x[8] == pytest.approx(2.0 * t - 2.0 * np.pi, abs=0.01)
    assert estimate.x[11] == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize(
    ("stamp", "pos", "quat", "gate"),
    [
        (0.02, [0.001, 0.0, 0.0], LEVEL, Gate.ACCEPTED),
        (0.02, [np.nan, 0.0, 0.0], LEVEL, Gate.NOT_FINITE),
        (0.02, [0.0, 0.0, 0.0], np.full(4, np.nan), Gate.ACCEPTED),
        (0.02, [0.0, 0.0, 0.0], [np.nan, 0.0, 0.0, 1.0], Gate.NOT_FINITE),
        (0.02, [0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1e200], Gate.NOT_FINITE),
        (0.02, [0.0, 0.0, 0.0], [0.0, 0.0, 0.0, np.inf], Gate.NOT_FINITE),
        (0.02, [1e300, 0.0, 0.0], LEVEL, Gate.NOT_FINITE),
        (0.02, [0.0, 0.0, 0.0], np.zeros(4), Gate.NOT_FINITE),
        (np.nan, [0.0, 0.0, 0.0], LEVEL, Gate.NOT_FINITE),
        (0.01, [0.0, 0.0, 0.0], LEVEL, Gate.OUT_OF_ORDER),
        (0.005, [0.0, 0.0, 0.0], LEVEL, Gate.OUT_OF_ORDER),
        (0.2, [0.0, 0.0, 0.0], LEVEL, Gate.FUTURE),
        (0.02, [0.2, 0.0, 0.0], LEVEL, Gate.JUMP),
        (0.02, [0.0, 0.0, 0.0], quat_from_rpy([3.1, 0.0, 0.0]), Gate.JUMP),
        (0.02, [0.0, 0.0, 0.0], quat_from_rpy([0.0, 0.0, 1.0]), Gate.JUMP),
    ],
)
def test_gates(stamp: float, pos: list[float], quat: NDArray[np.float64], gate: Gate) -> None:
    estimator = Estimator(CONFIG)
    estimator.add_pose(0.01, [0.0, 0.0, 0.0], LEVEL, 0.01)
    before = estimator.estimate(0.02)
    assert estimator.add_pose(stamp, pos, quat, 0.03) is gate
    assert estimator.gates[gate] == (2 if gate is Gate.ACCEPTED else 1)
    if gate is not Gate.ACCEPTED:
        after = estimator.estimate(0.02)
        assert before is not None
        assert after is not None
        np.testing.assert_array_equal(before.x, after.x)


def test_a_pose_that_does_not_change_in_the_air_is_no_measurement() -> None:
    """What a motion capture that lost the vehicle may repeat; a vehicle on the ground may really stand still."""
    estimator, pose = Estimator(CONFIG), ([0.5, 0.0, 1.0], LEVEL)
    assert [estimator.add_pose(t, *pose, t) for t in (0.0, 0.01, 0.02)] == [Gate.ACCEPTED] * 3
    estimator.grounded = False
    assert estimator.add_pose(0.03, *pose, 0.03) is Gate.FROZEN
    assert estimator.add_pose(0.04, [0.5, 0.0, 1.0 + 1e-6], LEVEL, 0.04) is Gate.ACCEPTED


def test_without_attitude_the_position_still_counts_and_the_attitude_is_predicted() -> None:
    history = fly(3.0, attitude_until=2.5)
    estimate = history[-1][1]
    assert estimate.age < 0.05
    assert estimate.attitude_age == pytest.approx(0.5, abs=0.03)
    error = rms([estimate.x - truth.x for truth, estimate in history[-40:]])
    assert error[cf.POS].max() < 0.01
    assert error[cf.RPY].max() < np.radians(4.0)


def test_the_first_pose_must_have_an_attitude() -> None:
    estimator = Estimator(CONFIG)
    assert estimator.add_pose(0.0, np.zeros(3), np.full(4, np.nan), 0.0) is Gate.NO_ATTITUDE
    assert estimator.estimate(0.0) is None


@pytest.mark.parametrize("delay", range(5))
def test_a_delay_of_up_to_40_ms_is_compensated(delay: int) -> None:
    error = rms([estimate.x - truth.x for truth, estimate in fly(4.0, delay=delay)[150:]])
    assert error[cf.POS].max() < 0.001 + 0.0003 * (1 + delay)
    assert error[cf.VEL].max() < 0.03 + 0.004 * delay


def test_a_jump_that_stays_is_never_followed_in_the_air_but_reset_starts_anew() -> None:
    estimator = Estimator(CONFIG)
    estimator.add_pose(0.0, [0.0, 0.0, 0.0], LEVEL, 0.0)
    gates = {estimator.add_pose(t, [1.5, 0.0, 0.0], LEVEL, t) for t in np.arange(0.01, 0.3, 0.01)}
    assert gates == {Gate.JUMP}
    estimator.reset()
    assert estimator.add_pose(0.31, [1.5, 0.0, 0.0], LEVEL, 0.31) is Gate.ACCEPTED


@pytest.mark.parametrize(
    ("shift", "turn", "refused_for"),
    [(0.35, 0.0, 0.2), (0.5, 0.0, 0.25), (0.0, np.pi / 2.0, 0.9), (0.0, np.pi, 0.9), (0.05, 0.0, 0.0), (0.0, 0.4, 0.0)],
)
def test_a_frame_that_jumps_is_refused_until_it_lands(shift: float, turn: float, refused_for: float) -> None:
    """A new calibration, or markers that are swapped: by ``safety.pose_descend`` (0.2 s) the flight is a landing."""
    estimator = Estimator(CONFIG)
    estimator.grounded = False
    for t in np.arange(0.0, 0.5, 0.01):
        estimator.add_command(t, HOVER)
        estimator.add_pose(t, [1e-6 * t, 0.0, 1.0], LEVEL, t)
    quat = quat_from_rpy([0.0, 0.0, turn])
    refused = 0.0
    for t in np.arange(0.5, 1.41, 0.01):
        estimator.add_command(t, HOVER)
        if estimator.add_pose(t, [shift + 1e-6 * t, 0.0, 1.0], quat, t) is Gate.ACCEPTED:
            break
        refused = t - 0.49
    assert refused >= refused_for
    assert refused < 0.3 or refused_for == 0.9


def test_commands_must_come_in_order() -> None:
    estimator = Estimator(CONFIG)
    estimator.add_command(1.0, HOVER)
    with pytest.raises(ValueError, match="older"):
        estimator.add_command(0.9, HOVER)
