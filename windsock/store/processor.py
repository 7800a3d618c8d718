"""The connection of the agent to the dag-processor."""

# Part of the agent, whose text is sent to where the store is (see bootstrap.py): it imports the
# standard library and other parts of the agent, nothing else.

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from windsock.json_lines import Connection, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable


class ProcessorLine:
    """JSON lines to and from the dag-processor, whose unix socket comes and goes.

    Args:
        path: Where the dag-processor listens; empty means there is none.
        clock: Monotonic seconds.
    """

    FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5

    def __init__(self, path: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._socket: socket.socket | None = None
        self._connection: Connection | None = None
        self._pause = self.FIRST_PAUSE
        self._due = 0.0
        self.wants_to_write = False
        """Whether a line could not be sent whole yet."""

    @property
    def connected(self) -> bool:
        """Whether somebody listens."""
        return self._socket is not None

    def fileno(self) -> int:
        """For `select`; -1 while not connected."""
        return self._socket.fileno() if self._socket is not None else -1

    def connect(self) -> bool:
        """Try to connect if it is time to.

        Returns:
            Whether a connection has just been made.
        """
        if self._socket is not None or not self._path or self._clock() < self._due:
            return False
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            peer.settimeout(1.0)
            peer.connect(self._path)
        except OSError:
            peer.close()
            self._due = self._clock() + self._pause
            self._pause = min(self._pause * 2, self.LONGEST_PAUSE)
            return False
        peer.setblocking(False)
        self._socket, self._pause = peer, self.FIRST_PAUSE
        self._connection = Connection(peer, lambda waits: setattr(self, "wants_to_write", waits))
        return True

    def send(self, message: dict[str, Any]) -> bool:
        """Send a line, as far as it goes now; false if nobody listens."""
        if self._connection is None:
            return False
        self._connection.send(encode(message))
        return True

    def receive(self) -> list[dict[str, Any]]:
        """The messages that have come; a line that is none is passed over."""
        lines = self._connection.receive() if self._connection is not None else None
        if lines is None:
            self.close()
            return []
        return [message for line in lines if (message := decode(line)) is not None]

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._connection = None
        self.wants_to_write = False
        self._due = self._clock() + self._pause
