"""Write small files whole or not at all, and explain why a file could not be written."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from windsock.errors import EnvironmentFailure


def private_folder(folder: Path) -> Path:
    """Make a folder that only its owner may list; returns it.

    Raises:
        EnvironmentFailure: It cannot be made.
    """
    try:
        made = not folder.is_dir()
        folder.mkdir(parents=True, exist_ok=True)
        if made:
            folder.chmod(0o700)
    except OSError as error:
        raise cannot(f"make the folder {folder}", error) from error
    return folder


def write_whole(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file so that a reader, or a crash, sees the old text or the new one, never half.

    Args:
        path: The file; its folder must exist.
        text: All of it, stored as UTF-8.
        mode: Its permissions, from the first moment on.

    Raises:
        EnvironmentFailure: It cannot be written.
    """
    fresh: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
            fresh = Path(file.name)
            os.fchmod(file.fileno(), mode)
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise cannot(f"write {path}", error) from error
    finally:
        if fresh is not None:
            fresh.unlink(missing_ok=True)


def cannot(purpose: str, error: OSError) -> EnvironmentFailure:
    """The error for a person, made of what was wanted and how the system answered.

    Args:
        purpose: Completes "cannot …", for example `write /some/file`.
        error: What the operating system answered.
    """
    return EnvironmentFailure(f"cannot {purpose}: {error.strerror or error}", _advice(error))


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full: free some space, then run the command again."
    if error.errno in (errno.EACCES, errno.EPERM):
        return "Check who owns it: windsock must be able to write there."
    if error.errno == errno.EROFS:
        return "The file system is read-only: set `windsock.state` to a folder that is not."
    return ""
