"""Kernels that are compiled by a process of their own."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numba import typeof

from deq_mpc_core import compiling, threads
from deq_mpc_core.compiling import GENERATED, compile_apart, import_package
from deq_mpc_core.errors import UserError

NAME = f"{GENERATED}test"
SOURCE = """
from numba import njit

@njit(cache=True)
def half(x):
    return 0.5 * x

@njit(cache=True, nogil=True)
def halve(x, first, last):
    for b in range(first, last):
        x[b] = half(x[b])
"""


@pytest.fixture
def package(tmp_path: Path) -> Iterator[ModuleType]:
    """A generated package, new to the disk."""
    (tmp_path / "__init__.py").write_text(SOURCE)
    yield import_package(NAME, tmp_path)
    del sys.modules[NAME]


def test_what_is_not_on_the_disk_is_compiled_there_and_read(package: ModuleType) -> None:
    x = np.array([2.0, 4.0])
    compile_apart(package.halve, (x, 0, 2))
    assert package.halve.overloads
    package.halve(x, 0, 2)
    np.testing.assert_array_equal(x, [1.0, 2.0])
    assert sum(package.halve.stats.cache_hits.values()) == 1
    assert not package.halve.stats.cache_misses
    assert not package.half.overloads


def test_a_batch_is_never_computed_by_what_this_process_compiled(package: ModuleType) -> None:
    x = np.array([2.0, 4.0])
    threads.over_batch(2, 2, package.halve, x)
    np.testing.assert_array_equal(x, [1.0, 2.0])
    assert not package.halve.stats.cache_misses


def test_what_is_on_the_disk_is_not_compiled_again(package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.ones(2)
    compile_apart(package.halve, (x, 0, 2))
    monkeypatch.setattr(compiling.subprocess, "run", lambda *_args, **_options: pytest.fail("compiled again"))
    compile_apart(package.halve, (x, 0, 2))
    package.halve(x, 0, 2)
    compile_apart(package.halve, (x, 0, 2))


def test_machine_code_of_an_older_source_does_not_count(package: ModuleType) -> None:
    compile_apart(package.halve, (np.ones(2), 0, 2))
    assert compiling._is_on_disk(package.halve)
    Path(package.__file__).touch()
    assert not compiling._is_on_disk(package.halve)


@pytest.mark.parametrize("executable", ["/bin/false", "/nonexistent/python", ""])
def test_if_the_other_process_fails_this_one_compiles(
    executable: str, package: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling.sys, "executable", executable)
    x = np.array([2.0])
    compile_apart(package.halve, (x, 0, 1))
    package.halve(x, 0, 1)
    np.testing.assert_array_equal(x, [1.0])


@pytest.mark.parametrize("left", [b"", b"\0" * 4096])
@pytest.mark.parametrize("which", ["*.nbi", "*.nbc", "*halve-*", "*half-*"])
def test_what_a_power_cut_left_is_compiled_anew(package: ModuleType, which: str, left: bytes) -> None:
    x = np.array([2.0, 4.0])
    compiling._compile_elsewhere(package.halve, (typeof(x), typeof(0), typeof(2)))
    damaged = [file for file in Path(package.halve.stats.cache_path).glob(which) if file.suffix in (".nbi", ".nbc")]
    assert damaged
    for file in damaged:
        file.write_bytes(left)
    threads.over_batch(1, 2, package.halve, x)
    np.testing.assert_array_equal(x, [1.0, 2.0])
    assert not package.halve.stats.cache_misses


def test_machine_code_that_cannot_be_written_is_said_in_a_line(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(compiling, "_compile_elsewhere", lambda *_: None)
    monkeypatch.setattr(package.halve._cache, "save_overload", fail)
    with pytest.raises(UserError, match=r"cannot be kept \(No space left on device\); make room"):
        compile_apart(package.halve, (np.ones(1), 0, 1))


def test_the_other_process_imports_nothing_from_the_working_directory(
    package: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pickle.py").write_text("raise SystemExit")
    compiling._compile_elsewhere(package.halve, tuple(map(typeof, (np.ones(1), 0, 1))))
    assert compiling._is_on_disk(package.halve)


def test_plain_functions_are_left_alone() -> None:
    compile_apart(lambda x: x, (1,))
