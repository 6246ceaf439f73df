"""Trajectory optimisation: augmented-Lagrangian Gauss-Newton over stages, its engines and its gradient.

``kernels/__init__.py`` states the problem. What needs torch is not imported here: `torch_engine`, `differentiable`.
"""

from deq_mpc_core.solver.arrays import Data, Duals, Gradients
from deq_mpc_core.solver.cpu_engine import CpuEngine
from deq_mpc_core.solver.engine import Engine
from deq_mpc_core.solver.several_starts import several_starts, solve_from_several
from deq_mpc_core.solver.solution import (
    AdjointKind,
    Solution,
    SolverOptions,
    SolverState,
    Status,
    cold_state,
    objective,
    shift_trajectory,
)

__all__ = [
    "AdjointKind",
    "CpuEngine",
    "Data",
    "Duals",
    "Engine",
    "Gradients",
    "Solution",
    "SolverOptions",
    "SolverState",
    "Status",
    "cold_state",
    "objective",
    "several_starts",
    "shift_trajectory",
    "solve_from_several",
]
