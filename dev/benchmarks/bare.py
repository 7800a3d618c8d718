"""The sync alone, without Airflow: a folder, a store in a pod, and a session between them."""

from __future__ import annotations

import random
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from windsock.cluster.access.streams import exec_transport
from windsock.store.agent import Options
from windsock.sync.session import SyncSession

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from windsock.cluster.api.client import Cluster
    from windsock.sync.transport import Transport

PATIENCE = 120.0
"""Seconds until a sync counts as failed."""


class Bare:
    """A session of the sync.

    Args:
        root: The folder.
        cluster: With the namespace.
        store: A folder in the pod of the dag-processor.
    """

    def __init__(self, root: Path, *, cluster: Cluster, store: str) -> None:
        self.root = root
        self.store = store
        self._cluster = cluster
        self._transports: list[Transport] = []
        self._session: SyncSession | None = None

    def _connect(self) -> Transport:
        self._transports.append(exec_transport(self._cluster, Options(store=self.store)))
        return self._transports[-1]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Sync meanwhile."""
        self._session = SyncSession(self.root, connect=self._connect, on_event=lambda _: None)
        stop = threading.Event()
        thread = threading.Thread(target=self._session.run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def seconds_until_equal(self, *, since: float) -> float:
        """Seconds from `since` until the agent has reported that store and folder are equal."""
        if self._session is None:
            raise AssertionError("it does not run")
        self._session.request_scan(timeout=PATIENCE)
        return time.monotonic() - since

    def cut(self) -> None:
        """Break the connection, as a network does."""
        self._transports[-1].close()


def fill(folder: Path, *, files: int, size: int) -> None:
    """Write files of random bytes: nothing can be left out, or packed, by chance.

    Args:
        folder: Made if it is not there.
        files: How many, in folders of a hundred.
        size: Of each, in bytes.
    """
    for number in range(files):
        path = folder / f"{number // 100:03}" / f"{number % 100:02}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.randbytes(size))  # noqa: S311 - no secret
