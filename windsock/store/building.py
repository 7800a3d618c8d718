"""Makes snapshots: hard links to the files of the current snapshot, and the content of a batch."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from windsock.store.files import check_links, digest_of, join, make_folders, write_all
from windsock.store.wire import MAXIMUM_PAYLOAD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from windsock.store.batch import Batch
    from windsock.store.entries import Row


class Builder:
    """Makes the snapshot of a batch; the callables are those of the `Store`."""

    def __init__(
        self,
        *,
        write: Callable[[int, bytes], int],
        link: Callable[[bytes, bytes], None],
        tick: Callable[[], None],
    ) -> None:
        self._write = write
        self._link = link
        self._tick = tick

    def build(self, batch: Batch, base: bytes, entries: Mapping[str, Row], *, made: float) -> bytes:
        """The folder of the whole snapshot, still inside the folder of the batch.

        Content that is in the current snapshot under another name or mode is copied and not
        linked: a mode and an mtime belong to the inode.

        Args:
            batch: All of whose content has arrived.
            base: The folder of the current snapshot.
            entries: Those of the current snapshot.
            made: When it was made current, in seconds of the wall clock.

        Raises:
            FileNotFoundError: The current snapshot lacks some of its entries, or something that
                runs has written into one.
            Refusal: A link would lead out of the snapshot.
            OSError: The disk is full, …
        """
        fresh = os.path.join(batch.folder, b"tree")
        os.mkdir(fresh)
        make_folders(fresh, batch.entries)
        known = {row[3]: join(base, path) for path, row in entries.items() if row[0] == "file"}
        for path, row in batch.entries.items():
            kind, mode, _, value = row
            end = join(fresh, path)
            if kind == "link":
                os.symlink(value.encode("utf-8"), end)
            elif entries.get(path) == row:
                self._check(join(base, path), value, made)
                self._link_or_copy(join(base, path), end, mode)
            elif value in known:
                self._check(known[value], value, made)
                self._copy(known[value], end, mode)
            else:
                os.rename(batch.blob(value), end)
                os.chmod(end, mode)
                known[value] = end
            self._tick()
        check_links(fresh, batch.entries)
        return fresh

    def _check(self, source: bytes, digest: str, made: float) -> None:
        """Find what was written into a file of the current snapshot: it must not go on from there.

        Raises:
            FileNotFoundError: The content is not what it was.
        """
        # A file that the batch brought is newer, too: reading it once more is cheap.
        written = os.lstat(source).st_mtime
        if written > made and digest_of(source, tick=self._tick) != digest:
            raise FileNotFoundError(f"something that runs has written to {os.fsdecode(source)}")

    def _link_or_copy(self, source: bytes, end: bytes, mode: int) -> None:
        try:
            self._link(source, end)
        except FileNotFoundError:
            raise
        except OSError:  # The file system has no hard links, or the file has too many of them.
            self._copy(source, end, mode)
            shutil.copystat(source, end)

    def _copy(self, source: bytes, end: bytes, mode: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(source, "rb") as file:
            descriptor = os.open(end, flags, 0o600)
            try:
                while data := file.read(MAXIMUM_PAYLOAD):
                    write_all(descriptor, data, write=self._write)
                    self._tick()
                os.fchmod(descriptor, mode)
            finally:
                os.close(descriptor)
