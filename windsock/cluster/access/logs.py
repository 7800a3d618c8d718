"""The logs of all pods together, also of those that come and go."""

from __future__ import annotations

import contextlib
import heapq
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from windsock.cluster.api.client import OURS
from windsock.cluster.api.failures import ClusterUnreachable, Refusal
from windsock.cluster.api.watching import Interest, ObjectWatcher
from windsock.cluster.api.workloads import component_of, containers, selector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import LineStream, Object

PAUSE_SECONDS = 0.5
"""Until a log whose connection has ended is opened again."""
SILENCE_SECONDS = 300.0
"""Without a line; then a log is opened again: its connection may be broken without a sign."""

_LOOK_SECONDS = 0.1
"""Until new pods are noticed while no line arrives."""
_PARALLEL = 8
_WIDTH = len("dag-processor")
_WAITING_LINES = 1000
"""So many lines wait for the reader; then the logs of the pods wait, too."""


class _Source(NamedTuple):
    """A container whose log is read."""

    pod: str
    uid: str
    container: str
    prefix: str


def stream(
    cluster: Cluster,
    component: str | None,
    *,
    follow: bool,
    lines: int,
    pause: float = PAUSE_SECONDS,
    silence: float = SILENCE_SECONDS,
) -> Iterator[str]:
    """The log lines of one component, or of all of them with their names before them.

    Args:
        cluster: With the namespace.
        component: For example `scheduler` or `worker`; None means all.
        follow: Go on with new lines, of new pods too, until the iterator is closed.
        lines: How many of the last lines of each container to begin with.
        pause: Seconds until a log whose connection has ended is opened again.
        silence: Seconds without a line, after which a log is opened again.
    """
    labels = OURS if component is None else selector(component)
    prefixed = component is None
    if follow:
        return _follow(cluster, labels, prefixed=prefixed, lines=lines, times=(pause, silence))
    return _print(cluster, labels, prefixed=prefixed, lines=lines)


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


def _open(
    cluster: Cluster, pod: str, query: dict[str, str], silence: float = SILENCE_SECONDS
) -> LineStream:
    path = f"{cluster.path('v1', 'Pod', pod)}/log"
    return cluster.connection.stream(
        path, query=query, doing=f"show the log of pod {pod}", silence=silence
    )


def _sources(pod: Object, *, prefixed: bool) -> Iterator[_Source]:
    component = component_of(pod)
    name = pod["metadata"]["name"]
    for status in containers(pod):
        state = status.get("state") or {}
        if "running" in state or "terminated" in state or status.get("lastState"):
            # All workers have one component: the pod's name distinguishes them.
            shown = name if component == "worker" else component
            prefix = f"{shown:<{_WIDTH}} | " if prefixed or component == "worker" else ""
            yield _Source(name, pod["metadata"]["uid"], status["name"], prefix)


def _split(raw: bytes, source: _Source) -> tuple[str, str]:
    """The time that the API puts before each line, sortable as text, and the line to show."""
    time, _, text = raw.decode("utf-8", "replace").rstrip("\r").partition(" ")
    return time, f"{source.prefix}{text}"


def _print(cluster: Cluster, labels: str, *, prefixed: bool, lines: int) -> Iterator[str]:
    sources = [
        source
        for pod in cluster.items("v1", "Pod", selector=labels)
        for source in _sources(pod, prefixed=prefixed)
    ]

    def read(source: _Source) -> list[tuple[str, str]]:
        query = {"container": source.container, "tailLines": str(lines), "timestamps": "true"}
        try:
            return [_split(raw, source) for raw in _open(cluster, source.pod, query)]
        except Refusal:
            return []  # it is gone, or has not begun

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="windsock-logs") as pool:
        for _, text in heapq.merge(*pool.map(read, sources), key=itemgetter(0)):
            yield text


class _Follower:
    """Reads one container's log, in a thread, until the container is gone or `close`.

    Args:
        cluster: With the namespace.
        source: The container.
        lines: How many of the last lines to begin with; None means all.
        waiting: Gets the lines.
        times: The seconds `pause` and `silence` of `stream`.
    """

    def __init__(
        self,
        cluster: Cluster,
        source: _Source,
        lines: int | None,
        waiting: queue.Queue[str],
        times: tuple[float, float],
    ) -> None:
        self._cluster = cluster
        self._source = source
        self._lines = lines
        self._waiting = waiting
        self._pause, self._silence = times
        self._gone = threading.Event()
        self._closed = threading.Event()
        self._stream: LineStream | None = None
        self._last = ""
        name = f"windsock-log-{source.pod}"
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def finish(self) -> None:
        """The container is gone: end after the rest of its log."""
        self._gone.set()

    def close(self) -> None:
        """End now."""
        self._closed.set()
        self._gone.set()
        if self._stream is not None:
            self._stream.close()

    def _run(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(Refusal, ClusterUnreachable):
                self._read()
            if self._gone.wait(self._pause):
                return

    def _read(self) -> None:
        """Read until the log ends: the container has ended, or the connection was cut."""
        query = {"container": self._source.container, "follow": "true", "timestamps": "true"}
        known = self._last
        if known:
            query["sinceTime"] = known
        elif self._lines is not None:
            query["tailLines"] = str(self._lines)
        self._stream = _open(self._cluster, self._source.pod, query, self._silence)
        if self._closed.is_set():
            self._stream.close()
        for raw in self._stream:
            time, text = _split(raw, self._source)
            if time > known:  # else the API gives it again, as the log was opened again
                self._last = time
                self._put(text)

    def _put(self, text: str) -> None:
        """Wait until there is room for a line, or nobody reads any more."""
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._waiting.put(text, timeout=self._pause)
                return


class _Followers:
    """The logs of all containers, as long as these are there, in one queue of lines."""

    def __init__(self, cluster: Cluster, *, prefixed: bool, times: tuple[float, float]) -> None:
        self._cluster = cluster
        self._prefixed = prefixed
        self._times = times
        self._followers: dict[tuple[str, str], _Follower] = {}
        self.lines: queue.Queue[str] = queue.Queue(_WAITING_LINES)

    def update(self, pods: list[Object], *, lines: int | None) -> None:
        """Begin with containers that are new, finish those that have ended."""
        lasting: set[tuple[str, str]] = set()
        there: set[tuple[str, str]] = set()
        for pod in pods:
            for source in _sources(pod, prefixed=self._prefixed):
                key = (source.uid, source.container)
                there.add(key)
                if pod["status"].get("phase") in {"Pending", "Running"}:
                    lasting.add(key)
                if key not in self._followers:
                    self._followers[key] = _Follower(
                        self._cluster, source, lines, self.lines, self._times
                    )
        for key, follower in list(self._followers.items()):
            if key not in lasting:
                follower.finish()
            # One whose pod still exists stays in the list, so that its log is not read twice.
            if key not in there and not follower.thread.is_alive():
                del self._followers[key]

    def close(self) -> None:
        """End all threads."""
        for follower in self._followers.values():
            follower.close()
        for follower in self._followers.values():
            follower.thread.join()


def _follow(
    cluster: Cluster, labels: str, *, prefixed: bool, lines: int, times: tuple[float, float]
) -> Iterator[str]:
    followers = _Followers(cluster, prefixed=prefixed, times=times)
    interest = Interest(api_version="v1", kind="Pod", selector=labels)
    first: int | None = lines  # what comes later is read from its first line
    seen = -1
    with ObjectWatcher(cluster, [interest]) as watcher, contextlib.closing(followers):
        while True:
            if (changes := watcher.changes) != seen:
                followers.update(watcher.items("Pod"), lines=first)
                seen, first = changes, None
            if followers.lines.empty():
                watcher.wait(seen, timeout=0)  # raises what has ended the watch
            with contextlib.suppress(queue.Empty):
                yield followers.lines.get(timeout=_LOOK_SECONDS)
