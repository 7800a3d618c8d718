"""The unix socket on which the dag-processor takes requests and reports what it does.

Each new client is greeted with the state, and gets every event from then on, one a line (see
`windsock.events`). A request is a JSON object with a `type`. All of it happens in the
dag-processor's own selector, next to the sockets of its parsers: no thread, no lock, and a request
wakes the parsing loop at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windsock import json_lines
from windsock.events import Event, RequestRefused, to_line

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Channel(json_lines.Server):
    """Greets each client, sends it every event, and answers its requests.

    Args:
        path: Of the socket; a stale one is replaced. Its owner alone may connect.
        greeting: Makes the first event for each client.
        requests: The type of a request → what makes its answer of it; None if there is none.
        selector: The loop that the caller runs, see `windsock.json_lines.Server`. None means that
            `start` will run one.
    """

    def __init__(
        self,
        path: Path,
        *,
        greeting: Callable[[], Event],
        requests: Mapping[str, Callable[[Mapping[str, Any]], Event | None]],
        selector: selectors.BaseSelector | None = None,
    ) -> None:
        super().__init__(
            path,
            self._answer,
            on_connect=lambda client: client.subscribe(to_line(greeting())),
            selector=selector,
        )
        self._requests = requests

    def broadcast(self, event: Event) -> None:
        """Send an event to every client."""
        self.publish(to_line(event))

    def _answer(self, line: bytes, client: json_lines.Connection) -> None:
        request = json_lines.decode(line)
        answer: Event | None
        if request is None:
            answer = RequestRefused(reason="the line is no JSON object")
        elif (make := self._requests.get(str(request.get("type")))) is None:
            answer = RequestRefused(reason=f"there is no request {request.get('type')!r}")
        else:
            try:
                answer = make(request)
            except Exception as error:  # noqa: BLE001 - as of a database that is away
                answer = RequestRefused(reason=repr(error))
        if answer is not None:
            client.send(to_line(answer))
