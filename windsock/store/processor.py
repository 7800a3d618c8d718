"""The connection of the agent to the dag-processor."""

from __future__ import annotations

import socket
import time
from typing import Any

from windsock.json_lines import Connection, decode, encode
from windsock.store.wire import MAXIMUM_HEADER


class ProcessorLine:
    """JSON lines to and from the dag-processor, whose unix socket comes and goes.

    Args:
        path: Where the dag-processor listens; empty means there is none.
    """

    FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5

    def __init__(self, path: str) -> None:
        self._path = path
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
        if self._socket is not None or not self._path or time.monotonic() < self._due:
            return False
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            peer.settimeout(1.0)
            peer.connect(self._path)
        except OSError:
            peer.close()
            self._due = time.monotonic() + self._pause
            self._pause = min(self._pause * 2, self.LONGEST_PAUSE)
            return False
        peer.setblocking(False)
        self._socket, self._pause = peer, self.FIRST_PAUSE
        # Its greeting is all that it knows: some hundred bytes for each DAG file.
        self._connection = Connection(
            peer,
            lambda waits: setattr(self, "wants_to_write", waits),
            longest=MAXIMUM_HEADER,
        )
        return True

    def send(self, message: dict[str, Any]) -> bool:
        """Send a line, as far as it goes now; false if nobody listens."""
        if self._connection is None:
            return False
        self._connection.send(encode(message))
        return True

    def receive(self) -> list[dict[str, Any]]:
        """The messages that have come; a line that is no message is ignored."""
        lines = self._connection.receive() if self._connection is not None else None
        if lines is None:
            self.close()
            return []
        return [message for line in lines if (message := decode(line)) is not None]

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._connection = None
        self.wants_to_write = False
        self._due = time.monotonic() + self._pause
