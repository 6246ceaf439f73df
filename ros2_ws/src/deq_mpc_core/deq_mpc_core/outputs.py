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
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error


def write_file(path: Path, content: bytes) -> None:
    """Write a file whose readers see the old one or the whole new one, never a part; what exists is replaced."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
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
