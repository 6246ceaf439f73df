"""A batch over threads: every sample once, errors reach the caller, forked children have threads of their own."""

from __future__ import annotations

import multiprocessing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deq_mpc_core.threads import available_threads, over_batch


@settings(max_examples=40, deadline=None)
@given(threads=st.integers(1, 5), batch=st.integers(0, 50))
def test_every_sample_is_done_once(threads: int, batch: int) -> None:
    done = [0] * batch

    def kernel(step: int, first: int, last: int) -> None:
        for b in range(first, last):
            done[b] += step

    over_batch(threads, batch, kernel, 3)
    assert done == [3] * batch


def test_what_a_range_raises_reaches_the_caller() -> None:
    def kernel(first: int, last: int) -> None:
        if first <= 7 < last:
            raise ArithmeticError("sample 7")

    with pytest.raises(ArithmeticError, match="sample 7"):
        over_batch(2, 10, kernel)


def _in_child() -> None:
    over_batch(2, 10, lambda first, last: None)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_its_own_threads() -> None:
    over_batch(2, 10, lambda first, last: None)
    child = multiprocessing.get_context("fork").Process(target=_in_child)
    child.start()
    child.join(timeout=30.0)
    stuck = child.exitcode is None
    child.kill()
    assert not stuck
    assert child.exitcode == 0


def test_there_is_a_core() -> None:
    assert available_threads() >= 1
