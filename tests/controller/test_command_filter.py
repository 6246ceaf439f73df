"""The last-resort filter: what it predicts, what passes, and that no command leads into a sphere or out of the box."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deq_mpc_controller import backup_flight, safety
from deq_mpc_controller.command_filter import CommandFilter, Filtered, Filtering
from deq_mpc_controller.settings import controller_config
from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.policy.interface import Command
from deq_mpc_core.solver.generate import load_kernels

CONFIG = controller_config().filter
SAFETY = controller_config().safety
THRUST_MAX = 0.44
BOX = (np.array([-2.0, -2.0, 0.2]), np.array([2.0, 2.0, 1.9]))
NOTHING = np.zeros((0, 7))
LEVEL = Command(0.0, 0.0, 0.0, cf.hover_thrust())
FULL_TILT = Command(0.0, SAFETY.tilt_command_max, 0.0, 0.35)
PERIOD = 0.01


def make_filter() -> CommandFilter:
    return CommandFilter(CONFIG, SAFETY.tilt_command_max, SAFETY.thrust_command_min, THRUST_MAX)


def state(pos: list[float], vel: list[float]) -> NDArray[np.float64]:
    x = np.zeros(cf.NX)
    x[cf.POS], x[cf.VEL], x[cf.THRUST] = pos, vel, cf.hover_thrust()
    return x


def sphere(*values: float) -> NDArray[np.float64]:
    return np.array([[*values, *[0.0] * (7 - len(values))]])


def apply(x: NDArray[np.float64], command: Command, obstacles: NDArray[np.float64] = NOTHING) -> Filtered:
    return make_filter().apply(0.0, command, x, np.zeros(3), obstacles, BOX)


class Model:
    """Flies the MPC's own model with the filtered commands of a policy, with a policy's command every ``PERIOD``."""

    def __init__(self, x: NDArray[np.float64], obstacles: NDArray[np.float64]) -> None:
        self.x, self.obstacles, self.t = x, obstacles.copy(), 0.0
        self.filter = make_filter()
        self.results: list[Filtered] = []
        self.clearance, self.inside = np.inf, np.inf
        self._rk4, self._params = load_kernels(cf.crazyflie_model()).rk4.rk4, cf.nominal_params()

    def step(self, command: Command) -> Filtered:
        result = self.filter.apply(self.t, command, self.x, np.zeros(3), self.obstacles, BOX)
        self.results.append(result)
        after = np.empty(cf.NX)
        self._rk4(self.x, np.array(result.command), self._params, PERIOD, np.empty((5, cf.NX)), after)
        self.x = after
        self.t += PERIOD
        self.obstacles[:, :3] += PERIOD * self.obstacles[:, 4:7]
        pos = self.x[cf.POS]
        self.inside = min(self.inside, float((pos - BOX[0]).min()), float((BOX[1] - pos).min()))
        if len(self.obstacles):
            apart = np.linalg.norm(self.obstacles[:, :3] - pos, axis=1) - self.obstacles[:, 3]
            self.clearance = min(self.clearance, float(apart.min()))
        return result


def towards(x: NDArray[np.float64], point: NDArray[np.float64]) -> Command:
    """Full tilt and thrust towards a point, whatever comes of it."""
    way = (point - x[cf.POS]) / np.linalg.norm(point - x[cf.POS])
    yaw, tilt = x[8], SAFETY.tilt_command_max
    forward, left = np.cos(yaw) * way[0] + np.sin(yaw) * way[1], np.cos(yaw) * way[1] - np.sin(yaw) * way[0]
    return Command(float(-tilt * left), float(tilt * forward), 0.0, float(0.34 + 0.1 * way[2]))


def test_the_predicted_step_is_the_models() -> None:
    params = cf.nominal_params()
    params[cf.DISTURBANCE] = [0.3, -0.2, 0.5]
    dynamics = backup_flight.make_dynamics(params, CONFIG.step)
    x = state([0.1, 0.2, 1.0], [1.0, -0.5, 0.3])
    x[cf.RPY], x[cf.RPY_RATE] = [0.2, -0.1, 0.5], [1.0, 2.0, 1.0]
    exact, u = x.copy(), np.array([0.3, -0.2, 1.0, 0.4])
    rk4 = load_kernels(cf.crazyflie_model()).rk4.rk4
    for _ in range(20):
        backup_flight.advance(x, u, params[cf.DISTURBANCE], dynamics, np.empty(3))
        for _ in range(4):
            after = np.empty(cf.NX)
            rk4(exact, u, params, CONFIG.step / 4, np.empty((5, cf.NX)), after)
            exact = after
    np.testing.assert_allclose(x[cf.POS], exact[cf.POS], atol=2e-3)
    np.testing.assert_allclose(x[cf.VEL], exact[cf.VEL], atol=1e-2)
    np.testing.assert_allclose(x[6:], exact[6:], atol=1e-6)


@pytest.mark.parametrize("vel", [[1.5, 0.0, 0.0], [-1.0, 1.0, 0.5], [0.0, 0.0, -1.5]])
def test_the_backup_brings_it_to_rest_soon_and_level(vel: list[float]) -> None:
    filter_ = make_filter()
    dynamics, law, disturbance = filter_._dynamics, filter_._law, np.zeros(3)
    x, acceleration, u = state([0.0, 0.0, 1.0], vel), np.zeros(3), np.empty(4)
    for _ in range(50):
        backup_flight.backup_command(x, acceleration, np.zeros(3), disturbance, dynamics, law, u)
        backup_flight.advance(x, u, disturbance, dynamics, acceleration)
    assert np.linalg.norm(x[cf.VEL]) < 0.1
    assert np.linalg.norm(x[cf.POS] - [0.0, 0.0, 1.0]) < 0.6
    np.testing.assert_allclose(x[cf.RPY], 0.0, atol=0.05)


def test_far_from_everything_every_command_passes_unchanged() -> None:
    for command in (LEVEL, FULL_TILT, Command(-0.45, 0.45, 2.0, 0.05)):
        result = apply(state([0.0, 0.0, 1.0], [0.5, 0.0, 0.0]), command)
        assert result.outcome is Filtering.PASSED
        assert not result.intervened
        assert result.command is command
        assert result.margin > 0.2


@pytest.mark.parametrize(
    ("ahead", "outcomes"), [(1.5, {Filtering.PASSED}), (0.32, {Filtering.BLENDED, Filtering.BACKED_UP})]
)
def test_full_speed_ahead_passes_far_from_a_sphere_and_is_changed_near_it(
    ahead: float, outcomes: set[Filtering]
) -> None:
    result = apply(state([0.0, 0.0, 1.0], [1.0, 0.0, 0.0]), FULL_TILT, sphere(ahead, 0.0, 1.0, 0.1))
    assert result.outcome in outcomes
    assert result.margin >= 0.0


def test_a_blend_is_nearer_to_the_policys_command_than_the_backup() -> None:
    results = [
        apply(state([0.0, 0.0, 1.0], [1.0, 0.0, 0.0]), FULL_TILT, sphere(ahead, 0.0, 1.0, 0.1))
        for ahead in np.arange(0.7, 0.3, -0.005)
    ]
    kinds = [result.outcome for result in results]
    assert kinds.index(Filtering.BLENDED) < kinds.index(Filtering.BACKED_UP)
    blend, backup = (results[kinds.index(kind)].command for kind in (Filtering.BLENDED, Filtering.BACKED_UP))
    assert backup.pitch < blend.pitch < FULL_TILT.pitch


def test_cornered_it_takes_what_keeps_the_greatest_distance() -> None:
    """Too late to brake: it goes round the side where more room is."""
    x = state([0.0, 0.0, 1.0], [1.5, 0.0, 0.0])
    result = apply(x, FULL_TILT, sphere(0.25, 0.02, 1.0, 0.15))
    assert result.outcome is Filtering.CORNERED
    assert result.margin < 0.0
    assert result.command.roll > 0.1  # to the right


def test_an_approaching_sphere_is_dodged_from_hover() -> None:
    model = Model(state([0.0, 0.0, 1.0], [0.0, 0.0, 0.0]), sphere(1.0, 0.0, 1.0, 0.15, -0.5, 0.0, 0.0))
    for _ in range(400):
        model.step(LEVEL)
    assert model.clearance > 0.0
    assert any(result.intervened for result in model.results)


def test_the_same_input_gives_the_same_command() -> None:
    x, obstacles = state([0.0, 0.0, 1.0], [1.0, 0.2, 0.0]), sphere(0.4, 0.0, 1.0, 0.1)
    assert apply(x, FULL_TILT, obstacles) == apply(x, FULL_TILT, obstacles)


def test_a_dodge_goes_on_where_it_was_and_is_forgotten_by_reset() -> None:
    filter_ = make_filter()
    filter_._backup = np.array([0.0, 0.8, 0.0, 0.3])
    x = state([0.0, 0.0, 1.0], [0.0, 0.0, 0.0])
    filter_.apply(1.0, LEVEL, x, np.zeros(3), NOTHING, BOX)
    filter_.apply(1.1, LEVEL, x, np.zeros(3), NOTHING, BOX)
    np.testing.assert_allclose(filter_._backup, [0.0, 0.8, 0.0, 0.2])
    filter_.reset()
    filter_.apply(1.2, LEVEL, x, np.zeros(3), NOTHING, BOX)
    np.testing.assert_array_equal(filter_._backup, 0.0)


numbers = st.floats(-1.0, 1.0)


@settings(max_examples=100, deadline=None)
@given(
    pos=st.tuples(numbers, numbers, numbers),
    vel=st.tuples(numbers, numbers, numbers),
    command=st.tuples(numbers, numbers, numbers, st.floats(0.0, 1.0)),
    centre=st.tuples(numbers, numbers, numbers),
    velocity=st.tuples(numbers, numbers, numbers),
)
def test_what_leaves_is_finite_and_within_the_limits(
    pos: tuple, vel: tuple, command: tuple, centre: tuple, velocity: tuple
) -> None:
    x = state([3.0 * p for p in pos], [4.0 * v for v in vel])
    wanted = safety.limit_command(Command(*command), THRUST_MAX, SAFETY)
    obstacles = sphere(*centre, 0.3, *velocity)
    result = apply(x, wanted, obstacles)
    assert safety.is_finite(result.command)
    limited = safety.limit_command(result.command, THRUST_MAX, SAFETY)
    np.testing.assert_allclose(limited, result.command, atol=1e-12)
    assert np.isfinite(result.margin)
    assert result.intervened or result.margin >= 0.0


@pytest.mark.parametrize("seed", range(4))
def test_random_commands_never_lead_into_a_sphere_or_out_of_the_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    obstacles = np.zeros((30, 7))
    obstacles[:, :3], obstacles[:, 3] = rng.uniform([-1.9, -1.9, 0.2], [1.9, 1.9, 1.8], (30, 3)), 0.15
    obstacles = obstacles[np.linalg.norm(obstacles[:, :3] - [0.0, 0.0, 1.0], axis=1) > 0.4]
    model, tilt = Model(state([0.0, 0.0, 1.0], [0.0, 0.0, 0.0]), obstacles), SAFETY.tilt_command_max
    for step in range(600):
        if step % 25 == 0:
            command = Command(
                *(float(v) for v in (*rng.uniform(-tilt, tilt, 2), rng.uniform(-2, 2), rng.uniform(0.2, 0.42)))
            )
        model.step(command)
    assert model.clearance >= CONFIG.sphere_margin - 0.005
    assert model.inside >= CONFIG.fence_margin - 0.005
    assert 0.02 < np.mean([result.intervened for result in model.results]) < 1.0


def test_a_policy_that_attacks_a_sphere_and_then_the_fence_reaches_neither() -> None:
    model = Model(state([0.0, 0.0, 1.0], [0.0, 0.0, 0.0]), sphere(1.0, 0.1, 1.1, 0.2))
    for step in range(900):
        target = model.obstacles[0, :3] if step < 450 else np.array([5.0, 5.0, 5.0])
        model.step(towards(model.x, target))
    assert model.clearance > 0.0
    assert model.inside > 0.0


def test_the_wider_the_margin_the_earlier_it_intervenes() -> None:
    def distance(margin: float) -> float:
        config = CONFIG.model_copy(update={"sphere_margin": margin})
        filter_ = CommandFilter(config, SAFETY.tilt_command_max, SAFETY.thrust_command_min, THRUST_MAX)
        for ahead in np.arange(1.2, 0.2, -0.01):
            x = state([0.0, 0.0, 1.0], [1.0, 0.0, 0.0])
            if filter_.apply(0.0, FULL_TILT, x, np.zeros(3), sphere(ahead, 0.0, 1.0, 0.1), BOX).intervened:
                return float(ahead)
        return 0.0

    assert distance(0.2) > distance(0.02) > 0.3
