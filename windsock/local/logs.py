"""Read the logs of the supervised programs, together and as they grow."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

POLL_SECONDS = 0.1


@dataclass
class Tail:
    """One log that is read as it grows, and again from its start when it is rotated."""

    name: str
    path: Path
    file: IO[str] | None = None
    inode: int = 0

    def last(self, lines: int) -> list[str]:
        """The last lines; `new` goes on after them."""
        return list(deque(self.new(), maxlen=lines)) if self._open() else []

    def new(self) -> Iterator[str]:
        """The whole lines that were written since the last read."""
        if self.file is None and not self._open():
            return
        while self.file is not None:
            place = self.file.tell()
            line = self.file.readline()
            if line.endswith("\n"):
                yield line[:-1]
                continue
            self.file.seek(place)  # Nothing, or half a line: it will come whole.
            if not self._rotated():
                return
            self.close()
            self._open()

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def _open(self) -> bool:
        try:
            self.file = self.path.open(encoding="utf-8", errors="replace")
        except OSError:
            return False
        self.inode = os.fstat(self.file.fileno()).st_ino
        return True

    def _rotated(self) -> bool:
        try:
            return self.path.stat().st_ino != self.inode
        except OSError:
            return False


def last_lines(log: Path, lines: int) -> str:
    """The end of a log; empty if there is none."""
    tail = Tail(name=log.stem, path=log)
    try:
        return "\n".join(tail.last(lines))
    finally:
        tail.close()


def follow_logs(
    files: Mapping[str, Path],
    *,
    follow: bool,
    lines: int,
    prefixed: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """The lines of some logs.

    Args:
        files: Name → log file; one that does not exist yet is waited for.
        follow: Whether to go on with new lines for ever.
        lines: How many of the last lines of each to begin with.
        prefixed: Whether to put the name before each line.
        sleep: Waits so many seconds.
    """
    tails = [Tail(name=name, path=path) for name, path in files.items()]
    width = max(len(name) for name in files)

    def show(tail: Tail, line: str) -> str:
        return f"{tail.name:<{width}} | {line}" if prefixed else line

    try:
        for tail in tails:
            for line in tail.last(lines):
                yield show(tail, line)
        while follow:
            quiet = True
            for tail in tails:
                for line in tail.new():
                    quiet = False
                    yield show(tail, line)
            if quiet:
                sleep(POLL_SECONDS)
    finally:
        for tail in tails:
            tail.close()
