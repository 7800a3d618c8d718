"""Puts a snapshot together: hardlinks of what the one before has, and what a batch brought."""

# Part of the agent, whose text is sent to where the store is (see bootstrap.py): it imports the
# standard library and other parts of the agent, nothing else.
# The names of files are bytes here; see store.py.
# ruff: noqa: PTH101, PTH102, PTH104, PTH118, PTH123, PTH211

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

from windsock.store.files import check_links, join, make_folders, write_all
from windsock.store.wire import MAXIMUM_PAYLOAD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from windsock.store.batch import Batch
    from windsock.store.entries import Row

COPY_INSTEAD_OF_LINK = {
    errno.EXDEV,
    errno.EPERM,
    errno.EMLINK,
    errno.EACCES,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
}


class Builder:
    """Makes snapshots in `incoming/`, each from the current one.

    Args:
        store: The store's folder.
        write: Writes bytes to a file descriptor.
        link: Makes a hardlink.
    """

    def __init__(
        self,
        store: bytes,
        *,
        write: Callable[[int, bytes], int],
        link: Callable[[bytes, bytes], None],
    ) -> None:
        self._snapshots = os.path.join(store, b"snapshots")
        self._incoming = os.path.join(store, b"incoming")
        self._write = write
        self._link = link

    def build(
        self,
        batch: Batch,
        *,
        tree: str | None,
        entries: Mapping[str, Row],
        tick: Callable[[], None],
    ) -> bytes:
        """The batch's snapshot, whole, still in `incoming/`.

        Args:
            batch: All of whose content has arrived.
            tree: The current snapshot, if there is one.
            entries: Its entries.
            tick: Called often.

        Raises:
            FileNotFoundError: The current snapshot lacks some of its entries.
            Refusal: A link would lead out of the snapshot.
            OSError: The disk is full, …
        """
        base = self._snapshot(tree or "none")
        fresh = os.path.join(batch.folder, b"tree")
        os.mkdir(fresh)
        make_folders(fresh, batch.entries)
        changed = {path: row for path, row in batch.entries.items() if entries.get(path) != row}
        for path, row in batch.entries.items():
            if path not in changed:
                self._place_unchanged(base, fresh, path, row, tick=tick)
                tick()
        known = {row[3]: join(base, path) for path, row in entries.items() if row[0] == "file"}
        self._place_changed(batch, fresh, changed, known, tick=tick)
        check_links(fresh, batch.entries)
        return fresh

    def _snapshot(self, tree: str) -> bytes:
        return os.path.join(self._snapshots, tree.encode("ascii"))

    def _place_unchanged(
        self, base: bytes, fresh: bytes, path: str, row: Row, *, tick: Callable[[], None]
    ) -> None:
        if row[0] == "link":
            os.symlink(row[3].encode("utf-8"), join(fresh, path))
            return
        try:
            self._link(join(base, path), join(fresh, path))
        except OSError as error:
            if error.errno not in COPY_INSTEAD_OF_LINK:
                raise
            self._copy(join(base, path), join(fresh, path), mode=row[1], tick=tick)
            shutil.copystat(join(base, path), join(fresh, path))

    def _place_changed(
        self,
        batch: Batch,
        fresh: bytes,
        changed: Mapping[str, Row],
        known: dict[str, bytes],
        *,
        tick: Callable[[], None],
    ) -> None:
        """Put what has new content, another mode or another name into place; its mtime is now.

        Known content (digest → where it is) is copied, never linked: mode and mtime belong to the
        inode.
        """
        for path, (kind, mode, _, value) in changed.items():
            end = join(fresh, path)
            if kind == "link":
                os.symlink(value.encode("utf-8"), end)
            elif value in known:
                self._copy(known[value], end, mode=mode, tick=tick)
            else:
                os.rename(batch.blob(value), end)
                os.chmod(end, mode)
                known[value] = end
            tick()

    def _copy(self, source: bytes, end: bytes, *, mode: int, tick: Callable[[], None]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(source, "rb") as file:
            descriptor = os.open(end, flags, 0o600)
            try:
                while data := file.read(MAXIMUM_PAYLOAD):
                    write_all(descriptor, data, write=self._write)
                    tick()
                os.fchmod(descriptor, mode)
            finally:
                os.close(descriptor)
