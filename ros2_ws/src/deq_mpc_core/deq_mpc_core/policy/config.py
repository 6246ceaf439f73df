"""Configuration of a DEQ-MPC policy: what a checkpoint carries besides its weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deq_mpc_core.config import Config, load_config
from deq_mpc_core.networks.config import NetworkConfig
from deq_mpc_core.policy.mpc import MpcConfig, load_mpc_config
from deq_mpc_core.solver.solution import SolverOptions


class AlternationConfig(Config):
    """How network and solver take turns."""

    coupling: Literal["deq-mpc", "diff-mpc"]
    cold_iterations: int = Field(ge=1)
    warm_iterations: int = Field(ge=1)
    cold: SolverOptions
    warm: SolverOptions


class _PolicyFile(Config):
    network: NetworkConfig
    alternation: AlternationConfig


class PolicyConfig(Config):
    """Network, alternation and MPC of one policy."""

    network: NetworkConfig
    alternation: AlternationConfig
    mpc: MpcConfig


def load_policy_config(name_or_path: str = "policy") -> PolicyConfig:
    """``config/policy.yaml`` (or another file of its form) with the shipped MPC."""
    file = load_config(name_or_path, _PolicyFile)
    return PolicyConfig(network=file.network, alternation=file.alternation, mpc=load_mpc_config())
