"""A batch over threads, for compiled kernels that release the GIL."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from deq_mpc_core.compiling import compile_apart

_RANGES_PER_THREAD = 4
"""Samples take different numbers of iterations: with more ranges than threads, whoever is done first takes the next."""


def available_threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="deq_mpc")


os.register_at_fork(after_in_child=_pool.cache_clear)  # the parent's threads do not exist in the child


def over_batch(threads: int, batch: int, kernel: Callable[..., None], *args: Any) -> None:
    """Call ``kernel(*args, first, last)`` on ranges that cover 0..batch, and wait; what a range raises, this raises."""
    compile_apart(kernel, (*args, 0, batch))
    if threads == 1 or batch < 2:
        kernel(*args, 0, batch)
        return
    cuts = np.linspace(0, batch, min(_RANGES_PER_THREAD * threads, batch) + 1).astype(int)
    jobs = [_pool(threads).submit(kernel, *args, int(a), int(b)) for a, b in itertools.pairwise(cuts)]
    for job in jobs:
        job.result()
