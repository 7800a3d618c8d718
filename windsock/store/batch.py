"""A batch that arrives: the tree that it leads to, and the content that the store lacked."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from windsock.store.entries import Refusal, content_digest
from windsock.store.files import matches, write_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from windsock.store.entries import Row

ARRIVING = 0o600
"""The mode of content that is not yet part of a snapshot."""


class Batch:
    """What has arrived between `begin` and `commit`.

    Attributes:
        number: The client's number of the batch.
        target: The id of the tree that it leads to, with its `entries` and their canonical `text`.
        exists: The store has that snapshot already, so nothing needs to be sent or built.
        needed: Digests of content that has not arrived.
        folder: Where the content waits until it is put into the snapshot.
    """

    def __init__(
        self,
        *,
        number: int,
        target: str,
        entries: dict[str, Row],
        text: str,
        write: Callable[[int, bytes], int],
    ) -> None:
        self.number = number
        self.target = target
        self.entries = entries
        self.text = text
        self.exists = False
        self.needed: set[str] = set()
        self.folder = b""
        self._write = write
        self._sizes = {row[3]: row[2] for row in entries.values() if row[0] == "file"}
        self._descriptor = -1
        self._digest = ""
        self._state = content_digest()
        self._size = 0

    @property
    def digests(self) -> set[str]:
        """The digests of all files in the tree."""
        return set(self._sizes)

    @property
    def complete(self) -> bool:
        """Whether all content has arrived."""
        return not self.needed and self._descriptor < 0

    def blob(self, digest: str) -> bytes:
        """The file with this content."""
        return os.path.join(self.folder, digest.encode("ascii"))

    def adopt(self, folder: bytes, *, tick: Callable[[], None]) -> None:
        """Use the folder of an interrupted batch, and its content that this batch needs too.

        Each file is read and compared: the last one may be half written.

        Raises:
            OSError: A file cannot be read or removed.
        """
        self.folder = folder
        with os.scandir(folder) as items:
            for item in items:
                digest = os.fsdecode(item.name)
                row: Row = ("file", ARRIVING, self._sizes.get(digest, -1), digest)
                if digest in self.needed and matches(item, row, thorough=True, tick=tick):
                    self.needed.discard(digest)
                elif item.is_dir(follow_symlinks=False):
                    shutil.rmtree(item.path, ignore_errors=True)
                else:
                    os.unlink(item.path)

    def receive(self, *, digest: str, data: bytes, last: bool) -> None:
        """Take a piece of content.

        Raises:
            Refusal: The store did not ask for it, or what came does not have the digest.
            OSError: The disk is full, …
        """
        if self._descriptor < 0:
            if digest not in self.needed:
                raise Refusal("out_of_order", f"nobody asked for {digest}")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = os.open(self.blob(digest), flags, ARRIVING)
            self._digest, self._state, self._size = digest, content_digest(), 0
        if digest != self._digest:
            raise Refusal("out_of_order", f"{digest} came before the end of {self._digest}")
        write_all(self._descriptor, data, write=self._write)
        self._state.update(data)
        self._size += len(data)
        if last:
            self.close()
            if self._state.hexdigest() != digest or self._size != self._sizes[digest]:
                raise Refusal("digest_mismatch", f"content arrived that is not {digest}")
            self.needed.discard(digest)

    def close(self) -> None:
        """Close the file that is being received, if any."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
