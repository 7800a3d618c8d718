"""The events of a running environment, as an attached terminal gets them."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

from tests.e2e.project import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.project import Project

Message = dict[str, Any]


class Events:
    """All events that the sync process publishes during the `with` block.

    `ControlClient.attach` cannot be used, because no other thread can end it.
    """

    def __init__(self, project: Project) -> None:
        self._changed = threading.Condition()
        self._peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = project.model.control_socket
        self._reader = threading.Thread(target=self._read, daemon=True)
        self.all: list[Message] = []

    def __enter__(self) -> Self:
        self._peer.connect(self._path)
        self._peer.sendall(json.dumps({"request": "attach"}).encode() + b"\n")
        self._reader.start()
        self.wait_for(lambda event: event["type"] == "attached", "the sync process answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._peer.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._peer.close()

    def _read(self) -> None:
        with self._peer.makefile("rb") as stream:
            for line in stream:
                with self._changed:
                    self.all.append(json.loads(line))
                    self._changed.notify_all()

    def of(self, kind: str) -> list[Message]:
        """The events of one type so far."""
        return [event for event in list(self.all) if event["type"] == kind]

    def wait_for(
        self, wanted: Callable[[Message], bool], what: str, *, timeout: float = PATIENCE
    ) -> Message:
        """The first event that is wanted, also one that came before."""

        def found() -> Message | None:
            return next((event for event in self.all if wanted(event)), None)

        with self._changed:
            self._changed.wait_for(found, timeout=timeout)
            event = found()
        assert event is not None, f"no event within {timeout} s: {what}; events: {self.all}"
        return event
