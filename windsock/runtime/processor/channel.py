"""The unix socket on which the dag-processor takes requests and reports what it does.

Each new client is greeted with the state, and gets every event from then on, one a line (see
`windsock.events`). A request is a JSON object with a `type`. All of it happens in the
dag-processor's own selector, next to the sockets of its parsers: no thread, no lock, and a request
wakes the parsing loop at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock import json_lines
from windsock.events import Event, RequestRefused, to_line

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Channel:
    """Listens at `path`.

    Args:
        path: Of the socket; a stale one is replaced. Its owner alone may connect.
        greeting: Makes the first event for each client.
        requests: The type of a request → what makes its answer; None if there is none.
        selector: The loop that the caller runs, see `windsock.json_lines.Server`. None means that
            `start` will run one.
    """

    def __init__(
        self,
        path: Path,
        *,
        greeting: Callable[[], Event],
        requests: Mapping[str, Callable[[], Event | None]],
        selector: selectors.BaseSelector | None = None,
    ) -> None:
        self._requests = requests
        self._server = json_lines.Server(
            path,
            self._take,
            on_connect=lambda client: client.subscribe(to_line(greeting())),
            selector=selector,
        )

    def start(self, name: str) -> None:
        """Serve from a thread of its own, until `stop`."""
        self._server.start(name)

    def stop(self) -> None:
        """Hang up on all clients, and listen no more."""
        self._server.stop()

    def close(self) -> None:
        """Close this process's sockets; for a forked parser, which must not talk."""
        self._server.close()

    def broadcast(self, event: Event) -> None:
        """Send an event to every client."""
        self._server.publish(to_line(event))

    def _take(self, line: bytes, client: json_lines.Connection) -> None:
        answer = self._answer(json_lines.decode(line))
        if answer is not None:
            client.send(to_line(answer))

    def _answer(self, request: dict[str, object] | None) -> Event | None:
        if request is None:
            return RequestRefused(reason="the line is no JSON object")
        make = self._requests.get(str(request.get("type")))
        if make is None:
            return RequestRefused(reason=f"there is no request {request.get('type')!r}")
        try:
            return make()
        except Exception as error:  # noqa: BLE001 - the database may be away; the client asks again
            return RequestRefused(reason=repr(error))
