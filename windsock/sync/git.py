"""Whether git is changing the files of a working tree right now.

While it does, the file `index.lock` exists in the repository's git directory.
https://git-scm.com/docs/api-lockfile
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOCK_SECONDS = 5.0
"""An older lock is that of a git that has crashed, or that waits in an editor for a message."""


def is_at_work(folder: Path, *, clock: Callable[[], float] = time.time) -> bool:
    """Whether git is changing the working tree that the folder is in.

    Args:
        folder: It may be in no repository.
        clock: The time of day, as files have it.
    """
    for parent in (folder, *folder.parents):
        try:
            lock = _git_directory(parent / ".git") / "index.lock"
        except OSError:
            continue
        try:
            return clock() - lock.stat().st_mtime < LOCK_SECONDS
        except OSError:
            return False
    return False


def _git_directory(path: Path) -> Path:
    """The git directory; in a further working tree, and in a submodule, `.git` is a file.

    Raises:
        OSError: There is none.
    """
    if path.is_dir():
        return path
    _, _, named = path.read_text(encoding="utf-8", errors="replace").strip().partition("gitdir: ")
    return path.parent / named
