"""Export of a trained policy: written, read back, held against the training-time policy, timed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deq_mpc_core.errors import UserError
from deq_mpc_core.outputs import check_file
from deq_mpc_core.policy.artefact import load_artefact, save_artefact
from deq_mpc_core.policy.flight_policy import DeqMpcPolicy
from deq_mpc_core.policy.program import make_program, read_flight_checkpoint
from deq_mpc_core.policy.rollout import roll_out
from deq_mpc_core.policy.verification import Agreement, training_policy, verify

TOLERANCE = 1e-5
"""Largest difference to the training-time policy's plan, SI units."""
_UNDECIDED_SHARE = 0.02
_CHECKED = 300
_TIMED = 2000
_LOAD = """
import sys, time
start = time.perf_counter()
from pathlib import Path
from deq_mpc_core.policy import load_policy
load_policy(Path(sys.argv[1]))
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Export:
    """What `export_policy` found.

    Attributes:
        agreement: with the training-time policy.
        load_seconds: in a fresh process, its imports included.
        step_ms: (n,) computing times of warm steps [ms].
    """

    agreement: Agreement
    load_seconds: float
    step_ms: tuple[float, ...]


def export_policy(checkpoint: Path | None, out: Path) -> Export:
    """Write the artefact of a checkpoint, by default of the shipped one, to ``out``; nothing if it is not equal.

    Raises:
        UserError: if the checkpoint cannot be read, ``out`` cannot be written, or the artefact is not the checkpoint.
    """
    check_file(out)
    config, weights = read_flight_checkpoint(checkpoint)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name[:32]}.") as folder:
        draft = Path(folder) / out.name
        save_artefact(draft, make_program(config, weights))
        flight = DeqMpcPolicy(load_artefact(draft))
        agreement = verify(flight, training_policy(config, weights), _CHECKED, TOLERANCE)
        _check(agreement)
        done = Export(agreement, measure_load(draft), time_steps(flight, _TIMED))
        draft.replace(out)
    return done


def _check(agreement: Agreement) -> None:
    if agreement.difference > TOLERANCE:
        raise UserError(
            f"the compiled policy differs from the trained one by {agreement.difference:.1e}, not at most "
            f"{TOLERANCE:.0e}, and was not written; report the checkpoint"
        )
    if agreement.undecided > _UNDECIDED_SHARE * agreement.steps:
        raise UserError(
            f"rounding decides {agreement.undecided} of {agreement.steps} steps of this checkpoint, which cannot be "
            "verified; train it on, so that its fixed point is contractive"
        )


def measure_load(path: Path) -> float:
    """Seconds that a fresh process needs to have the policy ready to step; the second of two, as the first compiles."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    seconds = 0.0
    for _ in range(2):
        command = [sys.executable, "-c", _LOAD, str(path)]
        seconds = float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    return seconds


def time_steps(policy: DeqMpcPolicy, count: int) -> tuple[float, ...]:
    """Computing times [ms] of the warm ones of ``count`` steps along flights."""
    times = []
    for obs, state in list(roll_out(policy, count, seed=1)):
        start = time.perf_counter()
        policy.step(obs, state)
        if state is not None:
            times.append(1e3 * (time.perf_counter() - start))
    return tuple(times)


def describe(export: Export, out: Path) -> str:
    """One line for people."""
    median, late = np.percentile(export.step_ms, [50, 99])
    found = export.agreement
    return (
        f"{out}: differs from the training-time policy by at most {found.difference:.1e} in {found.steps} steps "
        f"({found.undecided} left out, which rounding decides); loads in {export.load_seconds:.2f} s; "
        f"step {median:.3f} ms, p99 {late:.3f} ms"
    )
