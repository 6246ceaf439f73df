"""The trained policy in flight: network and MPC as one compiled step, state in and out. Loads without torch.

The twin of ``deq_mpc.py``, which trains it; a test holds the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.checkpoint import read_safetensors
from deq_mpc_core.compiling import compile_apart
from deq_mpc_core.features.dimensions import THETA_SIZE
from deq_mpc_core.features.flight import scales, scan_rays
from deq_mpc_core.models.crazyflie import NU, NX, THRUST, hover_thrust
from deq_mpc_core.networks.flight_kernels import fixed_point_options
from deq_mpc_core.networks.flight_weights import network_sizes
from deq_mpc_core.policy.artefact import is_artefact, load_artefact
from deq_mpc_core.policy.compiled import load_step
from deq_mpc_core.policy.config import PolicyConfig
from deq_mpc_core.policy.flight_step import REPORT_SIZE, Constants, Line, Seen, Settings, Turns, Warm
from deq_mpc_core.policy.interface import Array, Command, Observation, PolicyInfo
from deq_mpc_core.policy.mpc import bounds, cost_weights
from deq_mpc_core.policy.program import FlightProgram, make_program, read_flight_checkpoint
from deq_mpc_core.policy.starts import usable_age
from deq_mpc_core.solver.arrays import Options
from deq_mpc_core.solver.solution import SolverOptions

Array32 = NDArray[np.float32]


@dataclass(frozen=True)
class FlightState:
    """Warm start of the joint fixed point.

    Attributes:
        t: time [s] of the first knot.
        tau: (T, nz) plan. theta: (T, 6) waypoints and velocities, world frame. z: (T, H) the network's, float32.
    """

    t: float
    tau: Array
    theta: Array
    z: Array32


def _turns(iterations: int, options: SolverOptions) -> Turns:
    return Turns(iterations, options.penalty_init, Options._make(getattr(options, name) for name in Options._fields))


def kernel_settings(config: PolicyConfig, nominal_hover: float) -> Settings:
    """The configuration as the kernel takes it. nominal_hover: thrust [N]."""
    network, alternation = config.network, config.alternation
    return Settings(
        dt=config.mpc.dt,
        margin=config.mpc.margin,
        nominal_hover=nominal_hover,
        sees_iterate=alternation.coupling == "deq-mpc",
        sizes=network_sizes(network, config.mpc.horizon),
        scales=scales(network.features),
        mixing=fixed_point_options(network.fixed_point),
        line=Line(network.reference_speed, network.approach_rate, network.goal_authority),
        cold=_turns(alternation.cold_iterations, alternation.cold),
        warm=_turns(alternation.warm_iterations, alternation.warm),
    )


def _own(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    """A writable, C-contiguous float64 copy: any other kind of array would be compiled for anew, in flight."""
    copy = np.array(array, dtype=np.float64, order="C")
    if copy.shape != shape:
        raise ValueError(f"{name} of the observation has shape {copy.shape}; it must be {shape}")
    return copy


class DeqMpcPolicy:
    """theta^i = NN(x, o, tau^{i-1}), tau^i = AL_m(theta^i): N iterations cold, a few warm."""

    def __init__(self, program: FlightProgram) -> None:
        config = self.config = program.config
        self.dt, self.horizon = config.mpc.dt, config.mpc.horizon
        self._shapes = [(self.horizon, size) for size in (NX + NU, THETA_SIZE, config.network.hidden)]
        self._fence = np.array([config.mpc.fence_low, config.mpc.fence_high])
        self._params, self._hover = program.params, hover_thrust(program.params)
        self._settings = kernel_settings(config, self._hover)
        limits = np.array([*bounds(config.mpc), np.concatenate(cost_weights(config.mpc))])
        self._constants = Constants(program.network, scan_rays(config.network.features), limits)
        self._step = load_step(program.slot).step
        self._warm_up()

    def step(self, obs: Observation, state: FlightState | None) -> tuple[Command, FlightState, PolicyInfo]:
        """See `Policy.step`."""
        seen = self._look(obs)
        shift = None if state is None else usable_age(obs.t - state.t, self.dt, self.horizon)
        after = self._empty()
        before = after if state is None or shift is None else Warm(state.tau, state.theta, state.z)
        if [a.shape for a in before] != self._shapes:
            raise ValueError("the state is another policy's; give the one that this policy returned, or None")
        report = np.empty(REPORT_SIZE)
        work = (seen, before, -1.0 if shift is None else shift, self._constants, self._settings, after, report)
        compile_apart(self._step, work)
        self._step(*work)
        status, dynamics, violation, theta, tau, network, iterations, *command = report.tolist()
        residuals = {"theta": theta, "tau": tau, "network": network, "dynamics": dynamics, "inequality": violation}
        info = PolicyInfo(int(status), after.tau[:, :NX], residuals, int(iterations))
        return Command(*command), FlightState(obs.t, *after), info

    def _warm_up(self) -> None:
        """Compile, or read what has been: the first step of a flight shall take no longer than the others."""
        x = np.zeros(NX)
        x[THRUST] = self._hover
        self.step(Observation(0.0, x, np.zeros(3), np.zeros((0, 7))), None)

    def _look(self, obs: Observation) -> Seen:
        if obs.model_params is None:
            params, hover = self._params, self._hover
        else:
            params = _own("model_params", obs.model_params, self._params.shape)
            hover = hover_thrust(params)
        fence = self._fence if obs.fence is None else _own("fence", obs.fence, (2, 3))
        x, goal = _own("x", obs.x, (NX,)), _own("goal", obs.goal, (3,))
        return Seen(x, goal, _own("obstacles", obs.obstacles, (len(obs.obstacles), 7)), fence, params, hover)

    def _empty(self) -> Warm:
        """Arrays that the step fills; they become the caller's."""
        tau, theta, z = self._shapes
        return Warm(np.empty(tau), np.empty(theta), np.empty(z, np.float32))


def read_program(path: Path | None = None) -> FlightProgram:
    """What flies, of a checkpoint or an exported artefact, by default of the shipped checkpoint.

    Raises:
        UserError: if the file is missing, damaged, of another task or of a version or configuration unknown here.
    """
    if path is not None and is_artefact(read_safetensors(path)[0]):
        return load_artefact(path)
    return make_program(*read_flight_checkpoint(path))


def load_flight_policy(path: Path | None = None) -> DeqMpcPolicy:
    """The policy of a checkpoint or an exported artefact; see `read_program`."""
    return DeqMpcPolicy(read_program(path))
