"""What a process prints, read so that it never waits, and kept as far as its last lines."""

from __future__ import annotations

import os
import threading
from collections import deque

LINES_KEPT = 10
LAST_WORDS_SECONDS = 1.0
"""How long they are waited for: a process that a DAG file has left behind may print for ever."""


class Printed:
    """Reads what is printed to the end of a pipe.

    Attributes:
        writer: The file descriptor to print to, for the process that is started next.
    """

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._thread = threading.Thread(target=self._read, daemon=True)

    def read(self) -> None:
        """Read, from now on; call it once the process is started."""
        os.close(self.writer)
        self._thread.start()

    def end(self) -> str:
        """The last lines."""
        self._thread.join(LAST_WORDS_SECONDS)
        return "".join(self._lines.copy()).rstrip()

    def _read(self) -> None:
        with open(self._reader, errors="replace") as lines:  # noqa: PTH123 - a descriptor
            self._lines.extend(lines)
