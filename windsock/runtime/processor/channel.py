"""A unix socket on which the dag-processor takes requests and tells what it did.

One JSON object a line, both ways. The channel lives in the dag-processor's own selector, beside
the sockets of its parsers: no thread, no lock, and a request wakes the parsing loop at once.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Message = dict[str, Any]

LONGEST_LINE = 4 * 1024 * 1024
BACKLOG = 16


class Connection:
    """One client: what it sent so far, and what it has not taken yet."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self.incoming = bytearray()
        self.outgoing = bytearray()


class Channel:
    """Listens at `path`; hands every request to `on_request`, and `broadcast`s to all clients.

    Args:
        path: Of the socket; a stale one is replaced. It is readable by its owner only.
        selector: The loop that the caller runs. Its keys carry Airflow's pair of callbacks
            (`handler(socket) -> keep`, `on_close(socket)`).
        on_request: Gets the request and a function that answers to its sender alone.
    """

    def __init__(
        self,
        path: Path,
        selector: selectors.BaseSelector,
        on_request: Callable[[Message, Callable[[Message], None]], None],
    ) -> None:
        self._selector = selector
        self._on_request = on_request
        self._connections: dict[socket.socket, Connection] = {}
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        selector.register(self._listener, selectors.EVENT_READ, (self._accept, lambda _: None))

    def broadcast(self, message: Message) -> None:
        """Send to every client."""
        for connection in list(self._connections.values()):
            self._send(connection, message)

    def close(self) -> None:
        """End all connections and stop listening; for the forked parser, which must not talk."""
        for peer in (self._listener, *self._connections):
            peer.close()
        self._connections.clear()

    def _accept(self, listener: socket.socket) -> bool:
        with contextlib.suppress(OSError):
            peer, _ = listener.accept()
            peer.setblocking(False)
            self._connections[peer] = Connection(peer)
            self._selector.register(peer, selectors.EVENT_READ, (self._read, self._forget))
            self._on_request({"type": "connected"}, self._answer(self._connections[peer]))
        return True

    def _read(self, peer: socket.socket) -> bool:
        connection = self._connections.get(peer)
        if connection is None:
            return False
        self._flush(connection)
        try:
            data = peer.recv(65536)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        connection.incoming += data
        if not data or len(connection.incoming) > LONGEST_LINE:
            return False
        while (end := connection.incoming.find(b"\n")) >= 0:
            line = bytes(connection.incoming[:end])
            del connection.incoming[: end + 1]
            self._handle(line, connection)
        return True

    def _handle(self, line: bytes, connection: Connection) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if isinstance(message, dict):
            self._on_request(message, self._answer(connection))
        else:
            self._send(connection, {"type": "refused", "reason": "not a JSON object"})

    def _answer(self, connection: Connection) -> Callable[[Message], None]:
        return lambda message: self._send(connection, message)

    def _send(self, connection: Connection, message: Message) -> None:
        if len(connection.outgoing) > LONGEST_LINE:
            return  # A client that does not read must not fill our memory; it will ask again.
        connection.outgoing += json.dumps(message).encode() + b"\n"
        self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        """Write what the peer takes now; what is left waits for writability."""
        try:
            while connection.outgoing:
                sent = connection.peer.send(connection.outgoing)
                del connection.outgoing[:sent]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            connection.outgoing.clear()
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.outgoing else 0)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.modify(connection.peer, events, (self._read, self._forget))

    def _forget(self, peer: socket.socket) -> None:
        self._connections.pop(peer, None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(peer)
