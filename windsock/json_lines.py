"""Lines over a unix socket, one JSON object each: a server, and a client.

Runs in Airflow's processes, too, and travels with the agent: it needs the standard library alone.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Self

MAXIMUM_BYTES = 16 * 1024 * 1024
"""Of a line that a client sends, and of the lines that wait for a client that does not read."""

BACKLOG = 64

ACCEPT_PAUSE = 0.1
"""Seconds until the next client is accepted after that failed: too many files may be open."""


def encode(message: dict[str, Any]) -> bytes:
    """A JSON object as a line."""
    return json.dumps(message).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line; None if there is none in it."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


class Connection:
    """A client, as the server sees it. Any thread may send; none is ever blocked by it.

    Args:
        peer: The socket.
        changed: Called when lines wait, or wait no more, for the socket to take them.
        longest: The bytes of a line that this client sends; 0 means `MAXIMUM_BYTES`.
    """

    def __init__(
        self, peer: socket.socket, changed: Callable[[bool], None], *, longest: int = 0
    ) -> None:
        self._peer = peer
        self._changed = changed
        self._longest = longest
        self._greeting = 0
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._subscribed = False
        self._sending = threading.Lock()

    def send(self, line: bytes) -> None:
        """Send a line to this client."""
        with self._sending:
            self._send(line)

    def subscribe(self, line: bytes) -> None:
        """Send a line, and from then on all that is published."""
        with self._sending:
            self._subscribed = True
            self._greeting = len(line)
            self._send(line)

    def publish(self, line: bytes) -> None:
        """Send a line if the client has subscribed."""
        with self._sending:
            if self._subscribed:
                self._send(line)

    def receive(self) -> list[bytes] | None:
        """The whole lines that have come; None when the client has gone."""
        with self._sending:
            self._flush()
        try:
            data = self._peer.recv(65536)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            return None
        first, *others = data.split(b"\n")
        self._incoming += first
        lines = []
        for other in others:
            lines.append(bytes(self._incoming))
            self._incoming = bytearray(other)
        if not data or len(self._incoming) > (self._longest or MAXIMUM_BYTES):
            return None
        return lines

    def hang_up(self) -> None:
        """End the connection, for both sides and all processes that share it."""
        with contextlib.suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)

    def _send(self, line: bytes) -> None:
        # A long greeting must not count, or the client would never get to the end of it.
        room = MAXIMUM_BYTES + self._greeting - len(self._outgoing)
        if self._outgoing and len(line) > room:
            # A client that misses a line would know something wrong. It may connect again.
            self._outgoing.clear()
            self.hang_up()
            return
        self._outgoing += line
        self._flush()

    def _flush(self) -> None:
        """Write what the socket takes now; the rest waits until it takes more."""
        try:
            while self._outgoing:
                del self._outgoing[: self._peer.send(self._outgoing)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._outgoing.clear()
        self._changed(bool(self._outgoing))


class Server:
    """Serves clients at a unix socket, in the loop of a selector: the caller's, or its own.

    Args:
        path: Of the socket; a stale one is replaced. Its owner alone may connect.
        on_line: Takes each line of a client. It must not block.
        on_connect: Greets each new client.
        selector: The loop that the caller runs. Its keys carry two callbacks, as those of Airflow's
            dag-processor do: `handler(socket)`, and `on_close(socket)` for when the handler returns
            False. None means a loop in a thread, which `start` runs.
    """

    def __init__(
        self,
        path: Path,
        on_line: Callable[[bytes, Connection], None],
        *,
        on_connect: Callable[[Connection], None] = lambda _: None,
        selector: selectors.BaseSelector | None = None,
    ) -> None:
        self._path = path
        self._on_line = on_line
        self._on_connect = on_connect
        self._selector = selector or selectors.DefaultSelector()
        self._connections: dict[socket.socket, Connection] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._register(self._listener, self._accept)

    def start(self, name: str) -> None:
        """Serve from a new thread, until `stop`."""
        self._waker, self._woken = socket.socketpair()
        self._register(self._woken, lambda _: False)
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def publish(self, line: bytes) -> None:
        """Send a line to every client that has subscribed."""
        for connection in list(self._connections.values()):
            connection.publish(line)

    def stop(self) -> None:
        """End the thread of `start`, and hang up on all clients."""
        # First: a client that connects from now on finds the next server at this path.
        self._path.unlink(missing_ok=True)
        self._stopping.set()
        if self._thread is not None:
            self._waker.close()
            self._thread.join()
            self._woken.close()
        for connection in list(self._connections.values()):
            connection.hang_up()
        self.close()
        self._selector.close()

    def close(self) -> None:
        """Close this process's sockets; after a fork the parent's connections go on."""
        for peer in (self._listener, *self._connections):
            peer.close()
        self._connections.clear()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select():
                handler, on_close = key.data
                peer: Any = key.fileobj
                if not handler(peer):
                    on_close(peer)
                    peer.close()

    def _register(self, peer: socket.socket, handler: Callable[[socket.socket], bool]) -> None:
        self._selector.register(peer, selectors.EVENT_READ, (handler, self._forget))

    def _accept(self, listener: socket.socket) -> bool:
        try:
            peer, _ = listener.accept()
        except BlockingIOError:
            return True
        except OSError:
            time.sleep(ACCEPT_PAUSE)
            return True
        peer.setblocking(False)
        connection = Connection(peer, lambda waits: self._watch(peer, writable=waits))
        self._connections[peer] = connection
        self._register(peer, self._read)
        self._on_connect(connection)
        return True

    def _read(self, peer: socket.socket) -> bool:
        connection = self._connections.get(peer)
        lines = connection.receive() if connection is not None else None
        if connection is None or lines is None:
            return False
        for line in lines:
            self._on_line(line, connection)
        return True

    def _watch(self, peer: socket.socket, *, writable: bool) -> None:
        watched = selectors.EVENT_READ | (selectors.EVENT_WRITE if writable else 0)
        with contextlib.suppress(KeyError, ValueError):  # It has just been forgotten.
            self._selector.modify(peer, watched, (self._read, self._forget))

    def _forget(self, peer: socket.socket) -> None:
        self._connections.pop(peer, None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(peer)


class Client:
    """A connection to the server at `path`; it blocks.

    Args:
        path: Of the socket.
        timeout: In seconds, of each step; None waits for as long as it takes.

    Raises:
        OSError: Nobody listens.
    """

    def __init__(self, path: Path, *, timeout: float | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._stream = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()

    def send(self, line: bytes) -> None:
        """Send a line."""
        self._socket.sendall(line)

    def lines(self) -> Iterator[bytes]:
        """Every whole line, until the server hangs up; what is cut off by that is no line."""
        for line in self._stream:
            if line.endswith(b"\n"):
                yield line
