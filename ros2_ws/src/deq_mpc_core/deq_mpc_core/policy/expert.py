"""The expert as a policy: its long plan is the reference of the MPC that everybody flies with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deq_mpc_core.expert.planner import ExpertConfig, Plan, Planner
from deq_mpc_core.policy.interface import Command, Observation, PolicyInfo
from deq_mpc_core.policy.mpc import Mpc, MpcConfig, MpcState


@dataclass(frozen=True)
class ExpertState:
    """The MPC's warm start and the plan in use."""

    mpc: MpcState
    plan: Plan


class ExpertPolicy:
    """Replans every ``replan_period`` and tracks the plan in between."""

    def __init__(self, config: MpcConfig | None = None, expert: ExpertConfig | None = None) -> None:
        self._mpc = Mpc(config)
        self._planner = Planner(expert, self._mpc.config)
        self.dt, self.horizon = self._mpc.config.dt, self._mpc.config.horizon

    def step(self, obs: Observation, state: ExpertState | None) -> tuple[Command, ExpertState, PolicyInfo]:
        """See `Policy.step`."""
        if state is None or not 0.0 <= obs.t - state.plan.t < self._planner.config.replan_period:
            plan = self._planner.plan(obs.t, obs.x[:6], obs.goal, obs.obstacles, obs.fence)
        else:
            plan = state.plan
        knots = plan.sample(obs.t + self.dt * np.arange(self.horizon, dtype=np.float64))
        command, mpc_state, info = self._mpc.track(obs, knots, None if state is None else state.mpc)
        return command, ExpertState(mpc_state, plan), info
