"""The logs of all pods together, also of those that come and go."""

from __future__ import annotations

import contextlib
import heapq
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from windsock.cluster.api.client import OURS
from windsock.cluster.api.failures import ClusterUnreachable, Refusal
from windsock.cluster.api.watching import Interest, ObjectWatcher
from windsock.cluster.api.workloads import component_of, containers, selector
from windsock.errors import WindsockError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import LineStream, Object

SILENCE_SECONDS = 300.0
"""Without a line; then a log is opened again: its connection may be broken without a sign."""

_PARALLEL = 8
_PAUSE_SECONDS = 0.5
_WIDTH = len("dag-processor")
_KEPT = 1000
"""Lines that wait for a reader; then the pods' logs wait, too."""


_Waiting = queue.Queue[str | Exception]


class Line(NamedTuple):
    """A line, and when it was written, in the node's time: sortable as text."""

    time: str
    text: str


class _Source(NamedTuple):
    """A container whose log is read."""

    pod: str
    uid: str
    container: str
    prefix: str


def stream(cluster: Cluster, component: str | None, *, follow: bool, lines: int) -> Iterator[str]:
    """The log lines of one component, or of all of them with their names before them.

    Args:
        cluster: With the namespace.
        component: For example `scheduler` or `worker`; None means all.
        follow: Go on with new lines, of new pods too, until the iterator is closed.
        lines: How many of the last lines of each container to begin with.
    """
    labels = OURS if component is None else selector(component)
    show = _follow if follow else _print
    return show(cluster, labels, prefixed=component is None, lines=lines)


def last_lines(
    cluster: Cluster, pod: str, container: str, *, lines: int, previous: bool = False
) -> list[str]:
    """The last lines of a container, or of the one before it; none if there is no log."""
    query = {"container": container, "tailLines": str(lines)}
    if previous:
        query["previous"] = "true"
    try:
        opened = _open(cluster, pod, query)
        return [line.decode("utf-8", "replace").rstrip("\r") for line in opened]
    except (Refusal, ClusterUnreachable):
        return []


def _open(cluster: Cluster, pod: str, query: dict[str, str]) -> LineStream:
    path = f"{cluster.path('v1', 'Pod', pod)}/log"
    return cluster.connection.stream(
        path, query=query, doing=f"show the log of pod {pod}", silence=SILENCE_SECONDS
    )


def _sources(pod: Object, *, prefixed: bool) -> Iterator[_Source]:
    component = component_of(pod)
    name = pod["metadata"]["name"]
    for status in containers(pod):
        state = status.get("state") or {}
        begun = "running" in state or "terminated" in state or status.get("lastState")
        if begun:
            # All workers have one component: the pod's name distinguishes them.
            shown = name if component == "worker" else component
            prefix = f"{shown:<{_WIDTH}} | " if prefixed or component == "worker" else ""
            yield _Source(name, pod["metadata"]["uid"], status["name"], prefix)


def _split(raw: bytes) -> Line:
    """Take the time off that the API puts before each line."""
    time, _, text = raw.decode("utf-8", "replace").rstrip("\r").partition(" ")
    return Line(time, text)


def _print(cluster: Cluster, labels: str, *, prefixed: bool, lines: int) -> Iterator[str]:
    sources = [
        source
        for pod in cluster.items("v1", "Pod", selector=labels)
        for source in _sources(pod, prefixed=prefixed)
    ]

    def read(source: _Source) -> list[Line]:
        query = {"container": source.container, "tailLines": str(lines), "timestamps": "true"}
        try:
            found = [_split(raw) for raw in _open(cluster, source.pod, query)]
        except Refusal:
            return []  # it is gone, or has not begun
        return [Line(line.time, f"{source.prefix}{line.text}") for line in found]

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="windsock-logs") as pool:
        together = heapq.merge(*pool.map(read, sources), key=lambda line: line.time)
        yield from (line.text for line in together)


class _Follower:
    """One container's log, read by a thread of its own until the container is no more."""

    def __init__(
        self,
        cluster: Cluster,
        source: _Source,
        *,
        lines: int | None,
        put: _Waiting,
        stopping: threading.Event,
    ) -> None:
        self._cluster = cluster
        self.source = source
        self._lines = lines
        self._put = put
        self._stopping = stopping
        self._gone = threading.Event()
        self._stream: LineStream | None = None
        self._last = ""
        self.thread = threading.Thread(
            target=self._run, name=f"windsock-log-{source.pod}", daemon=True
        )

    def finish(self) -> None:
        """The pod is gone: end after what is left of its log."""
        self._gone.set()

    def close(self) -> None:
        """End now."""
        self._gone.set()
        if self._stream is not None:
            self._stream.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(Refusal, ClusterUnreachable):
                self._read()
            if self._gone.wait(_PAUSE_SECONDS):
                return

    def _read(self) -> None:
        """Read until the log ends: the container has, or the connection was cut."""
        query = {"container": self.source.container, "follow": "true", "timestamps": "true"}
        known = self._last
        if known:
            query["sinceTime"] = known
        elif self._lines is not None:
            query["tailLines"] = str(self._lines)
        self._stream = _open(self._cluster, self.source.pod, query)
        if self._stopping.is_set():
            self._stream.close()
        for raw in self._stream:
            line = _split(raw)
            if line.time > known:  # what the API gives again when a log is opened again
                self._last = line.time
                text = f"{self.source.prefix}{line.text}"
                _hand_over(self._put, text, self._stopping)


def _hand_over(waiting: _Waiting, item: str | Exception, stopping: threading.Event) -> None:
    """Wait until the reader has room, or has left."""
    while not stopping.is_set():
        with contextlib.suppress(queue.Full):
            waiting.put(item, timeout=_PAUSE_SECONDS)
            return


class _Followers:
    """The logs of all pods that an observer sees, as long as they are there."""

    def __init__(
        self,
        cluster: Cluster,
        observer: ObjectWatcher,
        *,
        prefixed: bool,
        lines: int,
    ) -> None:
        self._cluster = cluster
        self._observer = observer
        self._prefixed = prefixed
        self._lines = lines
        self._stopping = threading.Event()
        self._followers: dict[tuple[str, str], _Follower] = {}
        self._thread = threading.Thread(target=self._run, name="windsock-logs", daemon=True)
        self.queue: _Waiting = queue.Queue(_KEPT)

    def start(self) -> None:
        """Begin with the containers that are there; later ones are read from their first line."""
        self._join(lines=self._lines)
        self._thread.start()

    def close(self) -> None:
        """End all threads."""
        self._stopping.set()
        self._thread.join()
        for follower in self._followers.values():
            follower.close()
        for follower in self._followers.values():
            follower.thread.join()

    def _run(self) -> None:
        seen = -1
        try:
            while not self._stopping.is_set():
                self._join(lines=None)
                seen = self._observer.wait(seen, timeout=_PAUSE_SECONDS)
        except WindsockError as error:
            _hand_over(self.queue, error, self._stopping)

    def _join(self, *, lines: int | None) -> None:
        """Begin with containers that are new, finish those that have ended."""
        lasting: set[tuple[str, str]] = set()
        there: set[tuple[str, str]] = set()
        for pod in self._observer.items("Pod"):
            for source in _sources(pod, prefixed=self._prefixed):
                key = (source.uid, source.container)
                there.add(key)
                if pod["status"].get("phase") in {"Pending", "Running"}:
                    lasting.add(key)
                if key not in self._followers:
                    self._followers[key] = follower = _Follower(
                        self._cluster,
                        source,
                        lines=lines,
                        put=self.queue,
                        stopping=self._stopping,
                    )
                    follower.thread.start()
        for key, follower in list(self._followers.items()):
            if key not in lasting:
                follower.finish()
            # One whose pod still exists stays in the list, so that its log is not read twice.
            if key not in there and not follower.thread.is_alive():
                del self._followers[key]


def _follow(cluster: Cluster, labels: str, *, prefixed: bool, lines: int) -> Iterator[str]:
    interest = Interest(api_version="v1", kind="Pod", selector=labels)
    with ObjectWatcher(cluster, [interest]) as observer:
        followers = _Followers(cluster, observer, prefixed=prefixed, lines=lines)
        followers.start()
        try:
            while True:
                line = followers.queue.get()
                if isinstance(line, Exception):
                    raise line
                yield line
        finally:
            followers.close()
