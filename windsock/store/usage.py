"""The disk space that snapshots take."""

from __future__ import annotations

import contextlib
import os
from array import array
from typing import TYPE_CHECKING

from windsock.store.files import walk

if TYPE_CHECKING:
    from collections.abc import Collection, Generator

BLOCK = 512
"""Bytes of a unit of `st_blocks`, on every file system."""
STEP = 100
"""Files that are looked at in one step."""
SHARE = 0.7
"""The part of the volume that snapshots may take; a new batch and bytecode need the rest."""


class Usage:
    """Counts each snapshot once: it never changes.

    Args:
        snapshots: The folder that they are in.
    """

    def __init__(self, snapshots: bytes) -> None:
        self._snapshots = snapshots
        self._known: dict[str, array[int]] = {}
        self._last: tuple[frozenset[str], int] = (frozenset(), 0)

    def look(self, trees: Collection[str]) -> Generator[None, None, None]:
        """Count these snapshots, a hundred files at each step, and forget all others."""
        for tree in self._known.keys() - set(trees):
            del self._known[tree]
        for tree in trees:
            if tree in self._known:
                continue
            found = array("Q")  # inode, blocks, inode, blocks, …: a tenth of what a dict takes
            with contextlib.suppress(OSError, UnicodeDecodeError):
                folder = os.path.join(self._snapshots, tree.encode("ascii"))
                for count, (_, item) in enumerate(walk(folder), start=1):
                    status = item.stat(follow_symlinks=False)
                    found.extend((status.st_ino, status.st_blocks))
                    if count % STEP == 0:
                        yield
                self._known[tree] = found
            yield

    def bytes_of(self, trees: Collection[str]) -> int:
        """What those that `look` has seen take together; hard links count once."""
        asked = frozenset(trees).intersection(self._known)
        if asked != self._last[0]:
            union: dict[int, int] = {}
            for tree in asked:
                found = self._known[tree]
                union.update(zip(found[::2], found[1::2], strict=True))
            self._last = asked, sum(union.values()) * BLOCK
        return self._last[1]

    def limit(self, maximum_bytes: int) -> int:
        """The maximum, or the share of a small volume."""
        try:
            volume = os.statvfs(self._snapshots)
        except OSError:
            return maximum_bytes
        size = volume.f_blocks * volume.f_frsize
        return min(maximum_bytes, int(size * SHARE)) if size else maximum_bytes
