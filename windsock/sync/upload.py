"""Sends one batch: the changes, the content that the store lacks, and the commit."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from windsock.store.entries import content_digest
from windsock.store.wire import MAXIMUM_PAYLOAD, Frame, WireError, head
from windsock.sync.scan import signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from windsock.sync.protocol import Link
    from windsock.sync.scan import Difference, Tree

WRITE_BYTES = 256 * 1024
"""Small files are sent together, so many bytes in one write."""
ANSWER_TIMEOUT = 600.0
"""Seconds for one answer; the `Link` notices a dead agent much earlier."""


class Moved(Exception):
    """A file has changed since the scan."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class BatchRefused(Exception):
    """The store did not take the batch.

    Args:
        code: See `entries.Refusal`; too_large if it does not fit into one message.
        message: For a person.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A batch to send.

    Attributes:
        number: Counts up within a session.
        place: Path of the tree → the file with its content.
        base: The id of the store's tree; None for an empty store.
        tree: The new tree.
        difference: Between the two.
        contents: Digest → content, of files that need not be read again.
        settled: Path of the tree, digest → the signature of the file as long as it has this
            content; empty if only reading the file can show that.
    """

    number: int
    place: Callable[[str], bytes]
    base: str | None
    tree: Tree
    difference: Difference
    contents: Mapping[str, bytes]
    settled: Callable[[str, str], tuple[int, ...]] = lambda *_: ()

    def send(self, link: Link) -> int:
        """Send the batch and wait until the agent has applied it.

        Returns:
            The number of bytes of content that were sent.

        Raises:
            BatchRefused: The store stays as it was.
            Moved: A file changed since the scan; the store stays as it was.
            LinkLost: Nobody knows whether it was applied; the next welcome shows it.
            DeadlineExceeded: The same; the agent lives and does not answer.
        """
        entries = self.tree.entries
        changed = self.difference.added + self.difference.modified
        self._begin(link, changed)
        needed = self._answer(link, "need").header["digests"]
        paths = {entries[path].value: path for path in changed if entries[path].kind == "file"}
        try:
            self._send_contents(link, {digest: paths[digest] for digest in needed})
        except Moved:
            link.send({"type": "abort", "batch": self.number})
            raise
        link.send({"type": "commit", "batch": self.number})
        self._answer(link, "applied")
        return sum(entries[paths[digest]].size for digest in needed)

    def _begin(self, link: Link, changed: Iterable[str]) -> None:
        entries = self.tree.entries
        header = {
            "type": "begin",
            "batch": self.number,
            "base": self.base,
            "target": self.tree.id,
            "deleted": self.difference.deleted,
            "entries": {path: entries[path].row for path in changed},
        }
        try:
            link.send(header)
        except WireError as error:
            raise BatchRefused("too_large", f"too many files at once: {error}") from None

    def _answer(self, link: Link, expected: str) -> Frame:
        while True:
            frame = link.receive(expected, "refused", timeout=ANSWER_TIMEOUT)
            if frame.header["batch"] == self.number:
                break
        if frame.type == "refused":
            raise BatchRefused(str(frame.header["code"]), str(frame.header["message"]))
        return frame

    def _send_contents(self, link: Link, paths: Mapping[str, str]) -> None:
        gathered: list[bytes] = []
        size = 0
        for digest, path in paths.items():
            for data, last in self._pieces(path, digest):
                header = {
                    "type": "content",
                    "batch": self.number,
                    "digest": digest,
                    "last": last,
                }
                start = head(header, len(data))
                gathered += (start, data)
                size += len(start) + len(data)
                if size >= WRITE_BYTES:
                    link.send_raw(b"".join(gathered))
                    gathered.clear()
                    size = 0
            if link.answer_waits:
                return  # It can only be a refusal: the agent ignores the rest.
        link.send_raw(b"".join(gathered))

    def _pieces(self, path: str, digest: str) -> Iterator[tuple[bytes, bool]]:
        """A file's content, in pieces, each with whether it is the last one.

        Raises:
            Moved: The content does not have the digest; the last piece did not come then.
        """
        content = self.contents.get(digest)
        if content is not None:
            yield content, True
            return
        state, piece, expected = content_digest(), b"", self.settled(path, digest)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self.place(path), flags)
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise Moved(path)
                while data := file.read(MAXIMUM_PAYLOAD):
                    if piece:
                        yield piece, False
                    piece = data
                    if not expected:
                        state.update(data)
                status = os.fstat(descriptor)
        except OSError:
            raise Moved(path) from None
        if not (signature(status) == expected if expected else state.hexdigest() == digest):
            raise Moved(path)
        yield piece, True
