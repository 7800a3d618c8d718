"""What is in a namespace, kept up to date by watches, and a way to wait for the next change."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from windsock.cluster.failures import FORBIDDEN, GONE, Refusal, Unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from windsock.cluster.client import Cluster
    from windsock.cluster.connection import LineStream, Object

WATCH_SECONDS = 300
"""How long one watch lasts; then the kind is listed again, so that nothing stays missed."""

PAUSE_SECONDS = 0.5
"""Between a watch that broke and the next one."""


@dataclass(frozen=True, kw_only=True)
class Interest:
    """Objects to follow.

    Attributes:
        api_version: For example `v1`.
        kind: For example `Pod`.
        selector: Labels that they have; empty means all.
        optional: Whether one can do without, if the account may not see them.
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


class Observer:
    """Follows kinds of objects, one thread each, from `__enter__` to `__exit__`.

    Args:
        cluster: Where.
        interests: What; at most one of a kind.
    """

    def __init__(self, cluster: Cluster, interests: Sequence[Interest]) -> None:
        self._cluster = cluster
        self._followed = {interest.kind: _Followed(interest) for interest in interests}
        self._changed = threading.Condition()
        self._changes = 0
        self._failure: Exception | None = None
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Everything has been listed when this returns.

        Raises:
            Refusal: We may not see it.
            Unreachable: The cluster does not answer.
        """
        versions = {kind: self._list(followed) for kind, followed in self._followed.items()}
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(followed, versions[kind]),
                name=f"windsock-watch-{kind}",
                daemon=True,
            )
            for kind, followed in self._followed.items()
            if versions[kind] is not None
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all threads."""
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

    def check(self) -> None:
        """Raise what keeps us from seeing changes.

        Raises:
            Refusal: We may no longer see the objects.
        """
        with self._changed:
            if self._failure is not None:
                raise self._failure

    @property
    def changes(self) -> int:
        """How many changes have been seen."""
        with self._changed:
            return self._changes

    def wait(self, seen: int, *, timeout: float) -> int:
        """Wait for a change after `seen` of them, or for the time to pass; how many there are.

        Raises:
            Refusal: We may no longer see the objects.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._changes > seen or self._failure is not None, timeout
            )
            self.check()
            return self._changes

    # --- the threads --------------------------------------------------------------------------

    def _list(self, followed: _Followed) -> str | None:
        """List a kind anew; the resource version of the list, None where we do without."""
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
            self._tell()
        return version

    def _tell(self) -> None:
        self._changes += 1
        self._changed.notify_all()

    def _run(self, followed: _Followed, version: str | None) -> None:
        while not self._stopping.is_set():
            try:
                if version is None:
                    version = self._list(followed)
                else:
                    self._follow(followed, version)
                    version = None
            except Unreachable:
                version = None
                self._stopping.wait(PAUSE_SECONDS)
            except Refusal as error:
                version = None
                if error.code != GONE:
                    self._fail(error)
                    return

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    def _follow(self, followed: _Followed, version: str) -> None:
        """Take in the changes after a version, until the server ends the watch or it is too old."""
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
            for line in stream:
                if not line.strip():
                    continue
                event: dict[str, Any] = json.loads(line)
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
            self._tell()
