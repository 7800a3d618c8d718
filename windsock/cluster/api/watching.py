"""The objects of a namespace, updated by watches, and a way to wait for the next change."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from windsock.cluster.api.failures import FORBIDDEN, ClusterUnreachable, Refusal
from windsock.errors import EnvironmentFailure, WindsockError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import LineStream, Object

WATCH_SECONDS = 300
"""How long one watch lasts; then the kind is listed again, so that no change stays unseen."""

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0
"""Between a watch that broke soon and the next one; each pause is twice as long as the last."""

LASTING_SECONDS = 10.0
"""A watch that broke earlier broke soon."""

FIRST_ATTEMPTS = 4
"""How often a kind is listed at the beginning, while the cluster cannot answer."""


@dataclass(frozen=True, kw_only=True)
class Interest:
    """Objects to follow.

    Attributes:
        api_version: For example `v1`.
        kind: For example `Pod`.
        selector: Labels that they have; empty means all.
        optional: Do without them if the account may not see them.
    """

    api_version: str
    kind: str
    selector: str = ""
    optional: bool = False


@dataclass
class _Followed:
    interest: Interest
    objects: dict[str, Object] = field(default_factory=dict)
    stream: LineStream | None = None


class ObjectWatcher:
    """Follows kinds of objects, one thread each, from `__enter__` to `__exit__`.

    A cluster that does not answer, or is too busy, is asked again until it does. `wait` raises any
    other failure.

    Args:
        cluster: Where.
        interests: What; at most one of a kind.
        clock: Monotonic seconds.
        stopping: Ends the threads, and waits between two looks; a fresh event if not given.
    """

    def __init__(
        self,
        cluster: Cluster,
        interests: Sequence[Interest],
        *,
        clock: Callable[[], float] = time.monotonic,
        stopping: threading.Event | None = None,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._followed = {interest.kind: _Followed(interest) for interest in interests}
        self._changed = threading.Condition()
        self._changes = 0
        self._losses = 0
        self._failure: Exception | None = None
        self._stopping = stopping or threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """List everything, and follow it from now on.

        Raises:
            Refusal: We may not see it, or the cluster cannot show it, more than once.
            ClusterUnreachable: The cluster does not answer.
        """
        versions = [(followed, self._first_list(followed)) for followed in self._followed.values()]
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(followed, version),
                name=f"windsock-watch-{followed.interest.kind}",
                daemon=True,
            )
            for followed, version in versions
            if version is not None
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for followed in self._followed.values():
            with self._changed:
                stream = followed.stream
            if stream is not None:
                stream.close()
        for thread in self._threads:
            thread.join()

    def items(self, kind: str) -> list[Object]:
        """The objects of a kind as they are now; they must not be changed."""
        with self._changed:
            return list(self._followed[kind].objects.values())

    @property
    def changes(self) -> int:
        """How many changes have been seen."""
        with self._changed:
            return self._changes

    @property
    def losses(self) -> int:
        """How often the connection to the cluster was lost."""
        with self._changed:
            return self._losses

    def wait(self, seen: int, *, timeout: float) -> int:
        """Wait for a change after `seen` of them, or for the timeout; returns how many there are.

        Raises:
            Refusal: A watch has ended: we may no longer see the objects.
            EnvironmentFailure: A watch has ended: what answers is no cluster, …
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._changes > seen or self._failure is not None, timeout
            )
            if self._failure is not None:
                raise self._failure
            return self._changes

    # --- the threads --------------------------------------------------------------------------

    def _list(self, followed: _Followed) -> str | None:
        """List a kind; returns the resource version of the list, or None if we do without it."""
        interest = followed.interest
        try:
            found, version = self._cluster.listing(
                interest.api_version, interest.kind, selector=interest.selector
            )
        except Refusal as error:
            if interest.optional and error.code == FORBIDDEN:
                return None
            raise
        with self._changed:
            followed.objects = {item["metadata"]["uid"]: item for item in found}
            self._notify()
        return version

    def _notify(self) -> None:
        self._changes += 1
        self._changed.notify_all()

    def _first_list(self, followed: _Followed) -> str | None:
        for number in range(FIRST_ATTEMPTS - 1):
            try:
                return self._list(followed)
            except Refusal as error:
                if not error.passes:
                    raise
            self._stopping.wait(FIRST_PAUSE_SECONDS * 2**number)
        return self._list(followed)

    def _run(self, followed: _Followed, version: str | None) -> None:
        pause = FIRST_PAUSE_SECONDS
        try:
            while not self._stopping.is_set():
                begun = self._clock()
                self._look(followed, version)
                version = None
                if self._clock() - begun >= LASTING_SECONDS:
                    pause = FIRST_PAUSE_SECONDS
                else:
                    self._stopping.wait(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        except Exception as error:  # noqa: BLE001 - a thread that ends in silence is a blind one
            kind, failure = followed.interest.kind, error
            if not isinstance(error, WindsockError):
                failure = EnvironmentFailure(f"{kind} can no longer be watched: {error!r}")
            with self._changed:
                self._failure = failure
                self._changed.notify_all()

    def _look(self, followed: _Followed, version: str | None) -> None:
        """Follow a kind once, from a version or from a new list, until that watch ends."""
        try:
            if version is None:
                version = self._list(followed)
            if version is not None:
                self._follow(followed, version)
        except ClusterUnreachable:
            with self._changed:
                self._losses += 1
                self._notify()
        except Refusal as error:
            if not error.passes:
                raise

    def _follow(self, followed: _Followed, version: str) -> None:
        """Take in the changes after a version, until the server ends the watch."""
        interest = followed.interest
        stream = self._cluster.watch(
            interest.api_version,
            interest.kind,
            version=version,
            selector=interest.selector,
            seconds=WATCH_SECONDS,
        )
        with self._changed:
            followed.stream = stream
        if self._stopping.is_set():
            stream.close()
        with contextlib.closing(stream):
            for line in filter(bytes.strip, stream):
                try:
                    event = json.loads(line)
                except ValueError:  # the line is cut off
                    return
                if event["type"] == "ERROR":  # almost always: the version is too old by now
                    return
                self._take(followed, event["type"], event["object"])

    def _take(self, followed: _Followed, change: str, item: Object) -> None:
        uid = item["metadata"].get("uid", "")
        with self._changed:
            if change == "DELETED":
                followed.objects.pop(uid, None)
            elif change in {"ADDED", "MODIFIED"}:
                followed.objects[uid] = item
            self._notify()
