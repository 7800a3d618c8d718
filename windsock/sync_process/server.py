"""The control socket of the sync process: the serving side of `windsock.sync_process.control`."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from typing import TYPE_CHECKING, Any

from windsock.errors import DeadlineExceeded, WindsockError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from io import BufferedRWPair
    from pathlib import Path

Message = dict[str, Any]

ACCEPT_PAUSE = 0.1
"""Seconds until clients are waited for again, after that failed: too many files may be open."""

EVENTS_KEPT = 10_000
"""How far an attached terminal may fall behind before it is dropped."""


class ControlServer:
    """Answers requests, and passes every published event to the attached clients.

    Args:
        path: Of the unix socket; a stale one is replaced. Its owner alone may connect.
        handlers: Request name → what answers it. A handler runs in its client's own thread and may
            take its time; a WindsockError it raises becomes the answer.
    """

    def __init__(self, path: Path, handlers: Mapping[str, Callable[[Message], Message]]) -> None:
        self._path = path
        self._handlers = dict(handlers)
        self._attached: list[queue.Queue[Message | None]] = []
        self._lock = threading.Lock()
        self._closed = False
        self._closing = threading.Event()
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(64)

    def start(self) -> None:
        """Serve from a thread of its own."""
        threading.Thread(target=self._accept, name="windsock-control", daemon=True).start()

    def publish(self, message: Message) -> None:
        """Hand an event to every attached client; one that does not read is dropped."""
        with self._lock:
            for waiting in list(self._attached):
                try:
                    waiting.put_nowait(message)
                except queue.Full:
                    self._attached.remove(waiting)
                    self._end(waiting)

    def close(self) -> None:
        """Stop listening and end all attached clients: what they then find is our successor."""
        self._closing.set()
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # Closing alone would not wake `accept`.
        self._listener.close()
        with self._lock:
            self._closed = True
            for waiting in self._attached:
                self._end(waiting)
            self._attached.clear()

    @staticmethod
    def _end(waiting: queue.Queue[Message | None]) -> None:
        """Let a client come to its end; one that is too far behind loses an event for it."""
        if waiting.full():
            with contextlib.suppress(queue.Empty):
                waiting.get_nowait()
        with contextlib.suppress(queue.Full):
            waiting.put_nowait(None)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                if self._closing.wait(ACCEPT_PAUSE):
                    return
                continue
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), peer, peer.makefile("rwb") as stream:
            for line in stream:
                request = json.loads(line)
                if request.get("request") == "attach":
                    self._pass_on(stream)
                    return
                _write(stream, self._answer(request))

    def _answer(self, request: Message) -> Message:
        handler = self._handlers.get(request.get("request", ""))
        if handler is None:
            return {"error": f"unknown request {request.get('request')!r}"}
        try:
            return handler(request)
        except WindsockError as error:
            kind = "deadline" if isinstance(error, DeadlineExceeded) else "environment"
            return {"error": error.message, "hint": error.hint, "kind": kind}

    def _pass_on(self, stream: BufferedRWPair) -> None:
        waiting: queue.Queue[Message | None] = queue.Queue(EVENTS_KEPT)
        with self._lock:
            if self._closed:
                return
            self._attached.append(waiting)
        try:
            _write(stream, {"type": "attached"})
            while (message := waiting.get()) is not None:
                _write(stream, message)
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._attached.remove(waiting)


def _write(stream: BufferedRWPair, message: Message) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()
