"""Nothing that runs may change a snapshot: other runs, and the next snapshots, use its files.

Two things see to that. As root, Airflow's processes on Linux get a view of the file system in which
the snapshots are read-only, whatever program a task starts. (In a cluster the volume is mounted
read-only where tasks run.) For all others, and for the message, Python refuses to write there. What
was changed all the same is found when the next snapshot is made (`windsock.store`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 0x1, 0x20, 0x1000, 0x4000, 0x80000
"""Source: <linux/sched.h>, <linux/mount.h>."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

CHANGES = {
    "os.chmod": ((0, 2),),
    "os.link": ((0, 2), (1, 3)),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.utime": ((0, 3),),
    "shutil.rmtree": ((0, 1),),
}
"""Python's audit events of what changes a folder → where the arguments have each path that is
changed, and the descriptor of the folder that it is relative to. What a new symbolic link leads to
is not changed; a file that gets a hard link can be changed through it."""

REASON = (
    "this is a snapshot of the DAG folder, which other runs use too, so it cannot be written. "
    "Write to a folder of your own, for example tempfile.mkdtemp(), or to a database"
)


def mount_read_only(folder: Path) -> bool:
    """Make a folder read-only for this process and all that it starts; Linux, as root.

    The process must have one thread only. Others see the folder as before, and what they write
    there is seen here.

    Args:
        folder: It is made if it does not exist.

    Returns:
        Whether it is read-only now: a container may not allow it, or the folder cannot be made.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    library = ctypes.CDLL(None, use_errno=True)
    path = os.fsencode(folder.resolve())
    if library.unshare(CLONE_NEWNS) != 0:
        return False
    calls = (
        (b"none", b"/", MS_REC | MS_SLAVE),
        (path, path, MS_BIND),
        (b"none", path, MS_REMOUNT | MS_BIND | MS_RDONLY),
    )
    return all(
        library.mount(source, target, None, ctypes.c_ulong(flags), None) == 0
        for source, target, flags in calls
    )


_refused: set[str] = set()
"""The folders that this process refuses to write to."""


def refuse_writes(folder: Path) -> None:
    """Let Python refuse to write below a folder, for the life of this process and of its forks."""
    if not _refused:
        sys.addaudithook(_refuse)
    _refused.add(f"{folder.resolve()}/")


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        if not (isinstance(arguments[2], int) and arguments[2] & WRITING):
            return
        places: tuple[tuple[int, int | None], ...] = ((0, None),)
    else:
        places = CHANGES.get(event, ())
    for position, folder in places:
        path = arguments[position]
        if not isinstance(path, (str, bytes, os.PathLike)):
            continue
        name = os.fsdecode(path)
        descriptor = arguments[folder] if folder is not None and folder < len(arguments) else None
        if descriptor not in {None, -1} and not name.startswith("/"):
            continue  # It is not relative to the working folder: so `shutil.rmtree` removes files.
        if _is_refused(name, event):
            raise OSError(errno.EROFS, REASON, name)


def _is_refused(text: str, event: str) -> bool:
    try:
        if event == "open":
            place = os.path.realpath(text)
        else:  # A link itself may be removed.
            folder, name = os.path.split(os.path.abspath(text))  # noqa: PTH100 - Path is slow here
            place = f"{os.path.realpath(folder)}/{name}"
    except (OSError, ValueError):
        return False
    return any(f"{place}/".startswith(refused) for refused in _refused)
