"""File systems that report no changes, and those that are mounted inside a folder."""

from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from pathlib import Path

    from windsock.sync.rules import Rules

SILENT = frozenset(
    {
        *("9p", "drvfs", "fakeowner", "prl_fs", "vboxsf", "virtiofs", "vmhgfs"),  # shared by a host
        *("afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs"),
        *("nfs4", "ocfs2", "orangefs", "smb2", "smb3", "smbfs", "webdav"),
        *("fuse", "macfuse", "osxfuse", "osxfs"),
    }
)
"""Changes made on the other side of these cause no events on this one; also all of `fuse.*`."""

TABLE = "/proc/self/mounts"


def is_silent(fstype: str) -> bool:
    """Whether a file system may change without an event here."""
    return fstype in SILENT or fstype.startswith("fuse.")


def reports_nothing(place: str, fstype: str) -> str:
    """The sentence about a silent file system."""
    return f"{place} is a {fstype} file system, which reports no changes"


def silent_file_system(root: Path) -> str:
    """Why the folder's file system causes no events; empty if it causes some."""
    place = root.resolve()
    mounts = [mount for mount in _partitions() if place.is_relative_to(mount.mountpoint)]
    # Of two at the same place the later one is seen.
    mount = max(reversed(mounts), key=lambda each: len(each.mountpoint), default=None)
    if mount is None or not is_silent(mount.fstype):
        return ""
    return reports_nothing(mount.mountpoint, mount.fstype)


def inner_mounts(root: Path, rules: Rules) -> list[tuple[str, str]]:
    """The file systems that are mounted inside the folder: the place and the type of each."""
    place = root.resolve()
    found = []
    for mount in _partitions():
        inside = os.path.relpath(mount.mountpoint, place)
        if inside != "." and inside.split("/")[0] != ".." and not rules.ignores_below(inside):
            found.append((mount.mountpoint, mount.fstype))
    return found


def _partitions() -> list[Any]:
    try:
        return list(psutil.disk_partitions(all=True))
    except OSError:
        return []


class MountChanges:
    """Tells whether the table of mounts has changed; where the system cannot say, it never has."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        if sys.platform == "linux":
            try:
                self._descriptor = os.open(TABLE, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return
            self._poll = select.poll()
            self._poll.register(self._descriptor, select.POLLPRI)

    def happened(self) -> bool:
        """Whether something was mounted or unmounted since the last call."""
        return self._descriptor is not None and bool(self._poll.poll(0))

    def close(self) -> None:
        """Look no more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
