"""Beside a stock dag-processor: holds the socket of the live one, and says what runs instead.

Who waits for the socket (a probe, the sync's agent) finds it; who asks what Airflow made of a save
is told that this dag-processor cannot say, and asks Airflow's API instead.
"""

from __future__ import annotations

import json
import os
import selectors
import threading
from typing import TYPE_CHECKING, Any

from windsock.runtime.processor.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    Message = dict[str, Any]

PREFIX = "AIRFLOW__DAG_PROCESSOR__"
BUNDLES = f"{PREFIX}DAG_BUNDLE_CONFIG_LIST"
CLOCK = {
    f"{PREFIX}BUNDLE_REFRESH_CHECK_INTERVAL": "1",
    f"{PREFIX}MIN_FILE_PROCESS_INTERVAL": "2",
}
"""The pace of a dag-processor that nobody wakes: each file is parsed again, changed or not."""
REFRESH_SECONDS = 1


def clock(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that let a stock dag-processor find a save within seconds.

    Args:
        environment: With the list of the bundles, as every target sets it.
    """
    bundles = json.loads(environment.get(BUNDLES) or "[]")
    for bundle in bundles:
        bundle.setdefault("kwargs", {})["refresh_interval"] = REFRESH_SECONDS
    return {**CLOCK, **({BUNDLES: json.dumps(bundles)} if bundles else {})}


class Listener:
    """Answers on the socket, from a thread of its own.

    Args:
        path: Of the socket; a stale one is replaced.
        missing: The seams that this Airflow lacks.
        references: The snapshots that something may still run.
    """

    def __init__(
        self, path: Path, *, missing: Sequence[str], references: Callable[[], Sequence[str]]
    ) -> None:
        self._hello = {"type": "stock", "missing": list(missing)}
        self._references = references
        self._selector = selectors.DefaultSelector()
        self._channel = Channel(path, self._selector, self._answer)
        # A parser is a fork of this process, and must not keep a client waiting.
        os.register_at_fork(after_in_child=self._channel.close)

    def start(self) -> None:
        """Answer from now on, as long as this process lives."""
        threading.Thread(target=self._serve, name="windsock-stock", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self.turn()

    def turn(self, timeout: float | None = None) -> None:
        """Wait for a request, and answer it.

        Args:
            timeout: Seconds; None waits for as long as it takes.
        """
        for key, _ in self._selector.select(timeout):
            handle, forget = key.data
            peer: Any = key.fileobj
            if not handle(peer):
                forget(peer)
                peer.close()

    def close(self) -> None:
        """Listen no more; what holds it is about to end."""
        self._channel.close()
        self._selector.close()

    def _answer(self, message: Message, answer: Callable[[Message], None]) -> None:
        kind = message.get("type")
        if kind in {"connected", "state"}:
            answer(self._hello)
        elif kind == "references":
            try:
                snapshots = sorted(self._references())
            except Exception as error:  # noqa: BLE001 - the database may be away; they ask again
                answer({"type": "refused", "reason": repr(error)})
            else:
                answer({"type": "references", "snapshots": snapshots})
