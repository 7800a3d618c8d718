"""Logs of pods that come and go, whatever becomes of the connections to them."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from windsock.cluster.access import logs
from windsock.cluster.api.client import MANAGED
from windsock.errors import WindsockError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.cluster.fake_api import FakeApi
    from windsock.cluster.api.client import Cluster

Object = dict[str, Any]

PATIENCE = 30.0
"""Seconds; what is waited for takes milliseconds."""


def pod(name: str, component: str = "worker", *, phase: str = "Running") -> Object:
    labels = MANAGED | {"app.kubernetes.io/component": component}
    status = {"name": "main", "state": {"running": {}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "status": {"phase": phase, "containerStatuses": [status]},
    }


def line(second: int, text: str) -> bytes:
    return f"2026-01-01T00:00:{second:02}Z {text}".encode()


@contextlib.contextmanager
def following(
    cluster: Cluster, component: str | None = None, *, silence: float = 300
) -> Iterator[Iterator[str]]:
    lines = logs.stream(cluster, component, follow=True, lines=10, pause=0.001, silence=silence)
    try:
        yield lines
    finally:
        lines.close()  # type: ignore[attr-defined] # it is a generator


def test_lines_of_all_pods_are_shown_in_the_order_of_their_times(
    api: FakeApi, cluster: Cluster
) -> None:
    api.put(pod("a", "scheduler"))
    api.put(pod("b", "triggerer"))
    api.logs |= {"a": [line(1, "one"), line(3, "three")], "b": [line(2, "two")]}
    assert list(logs.stream(cluster, None, follow=False, lines=10)) == [
        "scheduler     | one",
        "triggerer     | two",
        "scheduler     | three",
    ]
    assert list(logs.stream(cluster, "triggerer", follow=False, lines=10)) == ["two"]


def test_a_pod_whose_log_is_gone_has_no_lines(api: FakeApi, cluster: Cluster) -> None:
    api.put(pod("a"))
    assert list(logs.stream(cluster, None, follow=False, lines=10)) == []
    assert logs.last_lines(cluster, "a", "main", lines=3) == []


def test_pods_that_come_later_are_followed_from_their_first_line(
    api: FakeApi, cluster: Cluster
) -> None:
    api.put(pod("a"))
    api.logs["a"] = [line(1, "first")]
    with following(cluster) as lines:
        assert next(lines) == "a             | first"
        api.logs["b"] = [line(2, "second")]
        api.put(pod("b"))
        assert next(lines) == "b             | second"


def test_a_log_that_is_cut_goes_on_where_it_was(api: FakeApi, cluster: Cluster) -> None:
    api.put(pod("a", "scheduler"))
    api.logs["a"] = [line(1, "first")]
    with following(cluster, "scheduler") as lines:
        assert next(lines) == "first"
        api.cut()
        api.logs["a"] = [line(1, "first"), line(2, "second")]
        assert next(lines) == "second"


def test_a_log_whose_connection_is_dead_is_opened_again(api: FakeApi, cluster: Cluster) -> None:
    api.put(pod("a", "scheduler"))
    api.logs["a"] = [line(1, "first")]
    with following(cluster, "scheduler", silence=0.02) as lines:
        assert next(lines) == "first"
        # The open log knows nothing of these: whoever reads on there waits for ever.
        api.logs["a"] = [line(1, "first"), line(2, "second")]
        assert next(lines) == "second"


def test_who_may_no_longer_see_pods_is_told(api: FakeApi, cluster: Cluster) -> None:
    api.put(pod("a"))
    api.logs["a"] = [line(1, "first")]
    with following(cluster) as lines:
        assert next(lines)
        api.answer("GET", "/pods$", 403, "not any more", times=100)
        api.answer("WATCH", "/pods$", 403, "not any more", times=100)
        api.end_watches()
        with pytest.raises(WindsockError, match="not any more"):
            next(lines)


def readers(pod: str) -> list[threading.Thread]:
    """The threads that read the log of a pod."""
    return [each for each in threading.enumerate() if each.name == f"windsock-log-{pod}"]


def test_the_log_of_a_pod_that_has_ended_is_not_read_again(api: FakeApi, cluster: Cluster) -> None:
    api.put(pod("a"))
    api.logs["a"] = [line(1, "first")]
    with following(cluster) as lines:
        assert next(lines) == "a             | first"
        [reader] = readers("a")
        api.put(pod("a", phase="Succeeded"))
        api.logs["b"] = [line(2, "second")]
        api.put(pod("b"))
        assert next(lines) == "b             | second"
        api.end_watches()  # and the open logs
        reader.join(PATIENCE)
        assert not reader.is_alive()
        api.logs["c"] = [line(3, "third")]
        api.put(pod("c"))
        assert next(lines) == "c             | third"
        assert not readers("a")
