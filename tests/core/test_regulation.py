"""DEQ-MPC on the paper's state-regulation tasks: gradients, learning, closed loop, the compiled fixed point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deq_mpc_core.config import parse_config
from deq_mpc_core.learning.regulation import (
    ImitationFile,
    ImitationTrainer,
    expert_trajectories,
    load_imitation,
    windows,
)
from deq_mpc_core.policy.regulation import RegulationPolicy, regulation_network
from deq_mpc_core.solver import CpuEngine, Status
from deq_mpc_core.tasks import TASKS, Task, load_task

STREAM = 1


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small lose more than they gain by threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def imitation(coupling: str = "deq-mpc", fixed_point: dict[str, Any] | None = None, **network: Any) -> ImitationFile:
    """The shipped file, but for what is named; 32 channels, to be quick."""
    raw = load_imitation().model_dump(mode="json")
    raw["network"] |= {"hidden": 32, "blocks": 2} | network
    raw["network"]["fixed_point"] |= fixed_point or {}
    raw["alternation"]["coupling"] = coupling
    raw["train"]["stream_steps"] = STREAM
    return parse_config(raw, ImitationFile, "test")


def trainer(task: Task, file: ImitationFile, seed: int = 0) -> ImitationTrainer:
    return ImitationTrainer(task, regulation_network(task, file.policy, seed), file.policy, file.train)


def samples(task: Task, batch: int, seed: int = 0) -> Tensor:
    """Windows of states that drift from random starts; nothing can follow them, which gradients do not mind."""
    rng = np.random.default_rng(seed)
    start = task.random_starts(rng, batch)
    drift = rng.normal(size=start.shape) * 0.05 * np.array(task.model.x_scale)
    times = np.arange(task.horizon + STREAM)[None, :, None]
    return torch.from_numpy(start[:, None] + times * drift[:, None])


@pytest.mark.parametrize("coupling", ["deq-mpc", "diff-mpc"])
@pytest.mark.parametrize("kind", ["deq", "nn"])
@pytest.mark.parametrize("name", TASKS)
def test_every_variant_trains_every_parameter(name: str, kind: str, coupling: str) -> None:
    task = load_task(name)
    run = trainer(task, imitation(coupling, kind=kind))
    before = {key: value.clone() for key, value in run.network.state_dict().items()}
    for _ in range(2):  # the head starts near zero, which hides the rest in the first step
        scalars = run.train_step(samples(task, 8))
    assert np.isfinite(list(scalars.values())).all()
    unmoved = [key for key, value in run.network.state_dict().items() if torch.equal(value, before[key])]
    assert unmoved == []


def test_an_untrained_network_proposes_to_stay() -> None:
    task = load_task("quadrotor")
    run = trainer(task, imitation())
    x = samples(task, 4)
    _, iterates = run.loss(x)
    increment = (iterates[0].theta.detach() - x[:, :1]) / torch.tensor(task.model.x_scale)
    assert 0.0 < increment.abs().max() < 0.05


def test_diff_mpc_does_not_see_the_iterate() -> None:
    """With the fixed point exact, what does not see the iterate always proposes the same."""
    task, exact = load_task("pendulum"), {"tolerance": 1e-6, "max_steps": 100}
    spread = {}
    for coupling in ("deq-mpc", "diff-mpc"):
        run = trainer(task, imitation(coupling, exact))
        with torch.no_grad():
            run.network.head.linear.weight *= 100.0
            _, iterates = run.loss(samples(task, 4))
        cold = torch.stack([iterate.theta for iterate in iterates[:6]])
        spread[coupling] = (cold - cold[0]).abs().max().item()
    assert spread["diff-mpc"] < 1e-4 < 1e-3 < spread["deq-mpc"]


def converged(file: ImitationFile) -> ImitationFile:
    """Fixed points and optima exact, so that nothing depends on where they were begun."""
    raw = file.model_dump(mode="json")
    solver = {"al_iterations": 12, "newton_steps": 50, "penalty_growth": 10.0, "penalty_max": 1e8}
    solver |= {"penalty_init": 1e3, "tolerance": 1e-11, "newton_tolerance": 1e-12}
    raw["alternation"] |= {"cold": solver, "cold_iterations": 3}
    raw["train"]["stream_steps"] = 0  # what a warm start carries over is cut from the gradient
    return parse_config(raw, ImitationFile, "test")


@pytest.mark.parametrize("name", ["pendulum", "quadrotor"])
def test_the_gradient_of_the_joint_step_is_the_finite_difference(name: str) -> None:
    """Float64, through three iterations of network, its fixed point, and solver."""
    task = load_task(name)
    exact = {"engine": "torch", "gradient": "implicit", "tolerance": 1e-12, "max_steps": 500}
    file = converged(imitation(fixed_point=exact, hidden=8, groups=2))
    run = ImitationTrainer(
        task, regulation_network(task, file.policy, 1).double(), file.policy, file.train, CpuEngine(task.model)
    )
    with torch.no_grad():
        run.network.head.linear.weight *= 100.0
        for conv in (run.network.core.block.conv1, run.network.core.block.conv2):
            conv.linear.weight *= 0.5  # contractive, also for the adjoint
    x = samples(task, 2)
    parameters = list(run.network.parameters())
    gradients = torch.autograd.grad(run.loss(x)[0], parameters)
    generator = torch.Generator().manual_seed(3)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]

    def shifted(length: float) -> float:
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p += length * d
            value = run.loss(x)[0].item()
            for p, d in zip(parameters, direction, strict=True):
                p -= length * d
        return value

    step = 1e-6
    difference = (shifted(step) - shifted(-step)) / (2.0 * step)
    ours = sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True))
    assert abs(difference) > 1e-2
    np.testing.assert_allclose(ours, difference, rtol=1e-3)


def test_the_expert_obeys_the_dynamics_and_reaches_the_goal() -> None:
    task, file = load_task("pendulum"), load_imitation()
    states = expert_trajectories(task, file.expert, np.random.default_rng(0), 12)
    assert len(states) >= 4
    assert states.shape[1:] == (file.expert.knots, 2)
    assert np.abs(states[:, -1]).max() < 1.0
    angle, rate = states[..., 0], states[..., 1]
    torque = np.diff(rate) / task.dt - 10.0 * np.sin(0.5 * (angle[:, :-1] + angle[:, 1:]))
    np.testing.assert_allclose(np.diff(angle), task.dt * 0.5 * (rate[:, :-1] + rate[:, 1:]), atol=2e-2)
    assert np.abs(torque).max() < 5.5


def test_windows_are_runs_of_consecutive_states() -> None:
    trajectories = np.arange(24.0).reshape(2, 6, 2)
    cut = windows(trajectories, 4)
    assert cut.shape == (6, 4, 2)
    np.testing.assert_array_equal(cut[4], trajectories[1, 1:5])


def test_deq_mpc_learns_the_expert() -> None:
    """The error of the plan on unseen trajectories falls by more than a fifth in 100 short steps."""
    task, file = load_task("pendulum"), imitation(hidden=64)
    states = expert_trajectories(task, file.expert, np.random.default_rng(0), 40)
    training, validation = (windows(part, task.horizon + STREAM) for part in (states[:-6], states[-6:]))
    run, rng = trainer(task, file), np.random.default_rng(1)
    before = run.validate(validation)
    for _ in range(100):
        run.train_step(training[rng.choice(len(training), 64, replace=False)])
    assert run.validate(validation) < 0.8 * before


def test_training_is_a_function_of_its_seed() -> None:
    task = load_task("pendulum")
    runs = [trainer(task, imitation(), seed) for seed in (0, 0, 1)]
    for run in runs:
        run.train_step(samples(task, 8))
    weights = [torch.cat([p.flatten() for p in run.network.parameters()]) for run in runs]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", TASKS)
def test_closed_loop_steps_are_pure_warm_and_within_bounds(name: str) -> None:
    task, file = load_task(name), imitation()
    policy = RegulationPolicy(task, regulation_network(task, file.policy, 0), file.policy)
    x = task.random_starts(np.random.default_rng(2), 1)[0]
    nx, state, inputs = task.model.nx, None, []
    for _ in range(3):
        before = state
        u, state, last = policy.step(x, before)
        again, _, _ = policy.step(x, before)
        np.testing.assert_array_equal(u, again)
        assert (task.lower[nx:] <= u).all()
        assert (u <= task.upper[nx:]).all()
        assert last.solution.status[0] != Status.NUMERICAL_FAILURE
        inputs.append(u)
        x = last.tau[0, 1, :nx].numpy()
    assert not np.array_equal(inputs[0], inputs[2])
