"""Outputs: refused before the work begins, not after it, and written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from deq_mpc_core.errors import UserError


def check_folder(folder: Path) -> None:
    """Refuse a folder in which no file can be written; one that does not exist is not made, its parent is tried.

    Raises:
        UserError: if it cannot be written.
    """
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error


def check_file(path: Path) -> None:
    """Refuse a file that cannot be written; see `check_folder`.

    Raises:
        UserError: if there is something else of that name, no file can have it, or its folder cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "no regular file"
            raise UserError(f"{path}: is {kind}; choose the name of a file")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another name") from error
    check_folder(path.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write a file whose readers see the old one or the whole new one, never a part; what exists is replaced.

    Raises:
        UserError: if it cannot be written; nothing is left behind.
    """
    try:
        _replace(path, content)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be written ({reason}); make room or choose another place") from error


def _replace(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:32]}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
