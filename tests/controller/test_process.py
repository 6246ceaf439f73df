"""The thread's clocks and the process's memory, on this kernel and on one that tells nothing."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from deq_mpc_controller.process import ThreadClock, resident_memory

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
TELLS = Path("/proc/thread-self/schedstat").exists()


@pytest.mark.skipif(not TELLS, reason="the kernel has no schedstat")
def test_a_thread_that_shares_its_cpu_waits() -> None:
    """Two threads on one CPU whose loops hold no lock: each waits while the other runs."""
    clocks: list[float] = []
    start = threading.Barrier(2)

    def compete() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        clock, load = ThreadClock(), np.ones((200, 200))
        start.wait()
        before = clock.now()
        while (now := clock.now()).waited - before.waited < 1e-4 and now.t - before.t < 30.0:
            load @ load
        clocks.append(now.waited - before.waited)

    threads = [threading.Thread(target=compete) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(clocks) >= 1e-4


def test_the_time_is_monotonic_time() -> None:
    clock = ThreadClock()
    before = time.monotonic()
    assert before <= clock.now().t <= time.monotonic()


def test_a_kernel_that_does_not_tell_is_no_failure(tmp_path: Path) -> None:
    clock = ThreadClock(tmp_path / "missing")
    assert clock.now().waited == 0.0
    assert resident_memory(tmp_path / "missing") is None


def test_numbers_are_read_from_their_places(tmp_path: Path) -> None:
    (tmp_path / "schedstat").write_text("5000000000 2500000000 77\n")
    clock = ThreadClock(tmp_path / "schedstat")
    assert clock.now().waited == pytest.approx(2.5)
    (tmp_path / "schedstat").write_text("5000000000 3500000000 78\n")
    assert clock.now().waited == pytest.approx(3.5)
    (tmp_path / "statm").write_text("9000 1000 10 1 0 100 0\n")
    assert resident_memory(tmp_path / "statm") == pytest.approx(1e-3 * os.sysconf("SC_PAGE_SIZE"))


@pytest.mark.skipif(resident_memory() is None, reason="the kernel does not tell")
def test_memory_that_is_taken_shows() -> None:
    before = resident_memory()
    taken = np.ones(5_000_000)  # 40 MB, each page written
    after = resident_memory()
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(1e-6 * taken.nbytes, rel=0.1)
