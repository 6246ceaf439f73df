"""Other solvers on the same problems: optional dependencies, one file a peer."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class MissingPeerError(Exception):
    """A peer cannot run here; the message says why."""


UNUSABLE = (MissingPeerError, ImportError, OSError, RuntimeError, AttributeError)
"""What setting up a peer raises that is missing, or that is there by half: without its libraries, or a part of it."""


class Found(NamedTuple):
    """What a peer returns for one sample: plan (T, nz), whether it says that it converged, its iterations."""

    tau: NDArray[np.float64]
    success: bool
    iterations: int


class Peer(Protocol):
    """A solver that has been set up for a batch of problems."""

    engine: str
    note: str

    def prepare(self, b: int) -> None:
        """Give it sample b and the cold start; not timed."""
        ...

    def run(self) -> object:
        """Solve what `prepare` gave."""
        ...

    def solve(self, b: int) -> Found:
        """Both, and the result."""
        ...
