"""How much of the disk snapshots take."""

# Part of the agent, whose text is sent to where the store is (see bootstrap.py): it imports the
# standard library and other parts of the agent, nothing else.
# The names of files are bytes here; see store.py.
# ruff: noqa: PTH118

from __future__ import annotations

import contextlib
import os
from array import array
from typing import TYPE_CHECKING

from windsock.store.files import walk

if TYPE_CHECKING:
    from collections.abc import Collection, Generator

BLOCK = 512
"""What `st_blocks` counts in, whatever the file system's own blocks are."""
STEP = 100
"""Files that are looked at in one step."""
SHARE = 0.7
"""Of its volume, what snapshots may take; the rest is for a batch that arrives, and bytecode."""


class Usage:
    """What snapshots take. None of them ever changes, so each is walked once.

    Args:
        snapshots: The folder that they are in.
    """

    def __init__(self, snapshots: bytes) -> None:
        self._snapshots = snapshots
        self._known: dict[str, array[int]] = {}
        self._last: tuple[frozenset[str], int] = (frozenset(), 0)

    def look(self, trees: Collection[str]) -> Generator[None, None, None]:
        """Get to know these snapshots, a hundred files at each step, and forget all others."""
        for tree in self._known.keys() - set(trees):
            del self._known[tree]
        for tree in trees:
            if tree in self._known:
                continue
            found = array("Q")  # inode, blocks, inode, blocks, …: a tenth of what a dict takes
            with contextlib.suppress(OSError, UnicodeDecodeError):
                for count, (_, item) in enumerate(walk(self._path(tree)), start=1):
                    status = item.stat(follow_symlinks=False)
                    found.extend((status.st_ino, status.st_blocks))
                    if count % STEP == 0:
                        yield
                self._known[tree] = found
            yield

    def bytes_of(self, trees: Collection[str]) -> int:
        """What these take together, hardlinks counted once; one that is not known takes nothing."""
        asked = frozenset(trees).intersection(self._known)
        if asked != self._last[0]:
            union: dict[int, int] = {}
            for tree in asked:
                found = self._known[tree]
                union.update(zip(found[::2], found[1::2], strict=True))
            self._last = asked, sum(union.values()) * BLOCK
        return self._last[1]

    def limit(self, maximum_bytes: int) -> int:
        """So much of it, or what the volume can spare if that is less."""
        try:
            volume = os.statvfs(self._snapshots)
        except OSError:
            return maximum_bytes
        size = volume.f_blocks * volume.f_frsize
        return min(maximum_bytes, int(size * SHARE)) if size else maximum_bytes

    def _path(self, tree: str) -> bytes:
        return os.path.join(self._snapshots, tree.encode("ascii"))
