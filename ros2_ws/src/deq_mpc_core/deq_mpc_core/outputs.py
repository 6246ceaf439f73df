"""Outputs are refused before the work begins, not after it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile

from deq_mpc_core.errors import UserError


def check_folder(folder: Path) -> None:
    """Refuse a folder in which no file can be written; one that does not exist is not made, its parent is tried.

    Raises:
        UserError: if it cannot be written.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
