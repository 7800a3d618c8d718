"""The control socket of the sync process: the serving side of `windsock.sync_process.control`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from windsock.errors import DeadlineExceeded, WindsockError
from windsock.events import Attached, to_line
from windsock.json_lines import Connection, Server, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Message = dict[str, Any]


class ControlServer:
    """Answers requests, and sends every published event to the attached clients.

    Args:
        path: Of the unix socket; a stale one is replaced. Only its owner may connect.
        handlers: Request name → what answers it. A handler runs in its own thread, so it may block;
            a WindsockError that it raises becomes the answer.
    """

    def __init__(self, path: Path, handlers: Mapping[str, Callable[[Message], Message]]) -> None:
        self._handlers = dict(handlers)
        self._server = Server(path, self._take)

    def start(self) -> None:
        """Serve, in a new thread."""
        self._server.start("windsock-control")

    def publish(self, line: bytes) -> None:
        """Send the line of an event to every attached client."""
        self._server.publish(line)

    def close(self) -> None:
        """Stop listening, and end all connections."""
        self._server.stop()

    def _take(self, line: bytes, client: Connection) -> None:
        request = decode(line)
        if request is None:
            client.send(encode(_failure("the line is no JSON object", hint=_HINT)))
        elif request.get("request") == "attach":
            client.subscribe(to_line(Attached()))
        else:
            threading.Thread(
                target=lambda: client.send(encode(self._answer(request))), daemon=True
            ).start()

    def _answer(self, request: Message) -> Message:
        handler = self._handlers.get(str(request.get("request")))
        if handler is None:
            return _failure(f"there is no request {request.get('request')!r}", hint=_HINT)
        try:
            return handler(request)
        except WindsockError as error:
            kind = "deadline" if isinstance(error, DeadlineExceeded) else "environment"
            return _failure(error.message, hint=error.hint, kind=kind)
        except Exception as error:  # noqa: BLE001 - whoever asks must not wait for ever
            return _failure(f"the request failed: {error!r}", hint=_HINT)


_HINT = "docs/events.md describes the requests."


def _failure(message: str, *, hint: str, kind: str = "request") -> Message:
    return {"error": message, "hint": hint, "kind": kind}
