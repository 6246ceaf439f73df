"""Outputs are refused in a line before the work begins, and written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deq_mpc_core.errors import UserError
from deq_mpc_core.outputs import check_file, check_folder, write_file

LONG = "a" * 300


def test_a_file_that_can_be_written_is_not_made(tmp_path: Path) -> None:
    check_file(tmp_path / "new" / "out.txt")
    assert not list(tmp_path.iterdir())
    (tmp_path / "old.txt").write_text("old")
    check_file(tmp_path / "old.txt")
    assert (tmp_path / "old.txt").read_text() == "old"


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for path, message in {
        tmp_path: "is a folder; choose the name of a file",
        tmp_path / "pipe": "is no regular file",
        Path(os.devnull): "is no regular file",
        tmp_path / LONG: "cannot be written",
        tmp_path / LONG / "out.txt": "cannot be written",
        tmp_path / "file" / "out.txt": "cannot be written",
    }.items():
        with pytest.raises(UserError, match=message):
            check_file(path)
    with pytest.raises(UserError, match="cannot be written"):
        check_folder(tmp_path / LONG)


def test_the_longest_name_is_written(tmp_path: Path) -> None:
    write_file(tmp_path / LONG[:255], b"content")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"content"]


def test_a_folder_that_is_none_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be written \(No such file or directory\)"):
        write_file(tmp_path / "none" / "out.txt", b"")
