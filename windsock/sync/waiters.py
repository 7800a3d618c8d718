"""Threads that wait until the store equals the folders."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeAlias

from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from windsock.errors import WindsockError

Waiter: TypeAlias = "Future[str]"
"""Gets the id of the tree that the store and the folders have, or an error."""


class Waiters:
    """Those who wait for the next round of the session."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Waiter] = []
        self._ended = ""

    def add(self) -> Waiter:
        """A new one.

        Raises:
            EnvironmentFailure: The session has ended.
        """
        waiter: Waiter = Future()
        with self._lock:
            if self._ended:
                raise EnvironmentFailure(self._ended, "Start the sync again.")
            self._waiting.append(waiter)
        return waiter

    def take(self) -> list[Waiter]:
        """All of them, for the round that begins."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return waiting

    def put_back(self, waiters: Iterable[Waiter]) -> None:
        """Let those without an answer wait for the next round."""
        with self._lock:
            self._waiting[:0] = [waiter for waiter in waiters if not waiter.done()]

    def end(self, reason: str) -> None:
        """The session has ended: all get an error, and all who come later."""
        with self._lock:
            self._ended = reason
        answer(self.take(), EnvironmentFailure(reason))


def answer(waiters: Iterable[Waiter], result: str | WindsockError) -> None:
    """Give all of them a tree id, or an error."""
    for waiter in waiters:
        if not waiter.set_running_or_notify_cancel():
            continue
        if isinstance(result, str):
            waiter.set_result(result)
        else:
            waiter.set_exception(result)
