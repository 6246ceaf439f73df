"""What Linux tells of this process: how long a thread waited for a CPU, how much memory is resident."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

_SCHEDSTAT = Path("/proc/thread-self/schedstat")
"""ns on a CPU, ns ready to run without one, number of turns; Documentation/scheduler/sched-stats of the kernel."""
_STATM = Path("/proc/self/statm")
"""Sizes in pages: the whole, then what is resident; proc(5)."""
_NANO = 1e-9
_LONGEST = 128  # bytes: three numbers of 64 bits and more


class Instant(NamedTuple):
    """A thread's clocks at one moment.

    Attributes:
        t: monotonic time [s].
        waited: how long the thread has been ready to run while others had the CPUs, since it began [s].
    """

    t: float
    waited: float = 0.0


class ThreadClock:
    """Reads the clocks of the thread that made it; ``waited`` stays 0 where the kernel does not tell.

    It keeps a file open for as long as the process lives.
    """

    def __init__(self, path: Path = _SCHEDSTAT) -> None:
        """``path``: the statistics of the calling thread."""
        try:
            self._file: int | None = os.open(path, os.O_RDONLY)
        except OSError:
            self._file = None

    def now(self) -> Instant:
        """The present; takes a few microseconds."""
        t = time.monotonic()
        if self._file is None:
            return Instant(t)
        return Instant(t, _NANO * int(os.pread(self._file, _LONGEST, 0).split()[1]))


def resident_memory(path: Path = _STATM) -> float | None:
    """Resident memory of this process [MB]; None where the kernel does not tell."""
    try:
        pages = int(path.read_bytes().split()[1])
    except OSError:
        return None
    return 1e-6 * pages * os.sysconf("SC_PAGE_SIZE")
