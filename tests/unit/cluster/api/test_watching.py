"""What an observer knows while watches end, break, are refused or talk nonsense."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.cluster.fake_api import status
from windsock.cluster.api import watching
from windsock.cluster.api.client import Cluster
from windsock.cluster.api.failures import Refusal
from windsock.cluster.api.watching import Interest, ObjectWatcher
from windsock.errors import EnvironmentFailure, WindsockError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.cluster.fake_api import FakeApi
    from windsock.cluster.api.connection import LineStream

CONFIG_MAPS = Interest(api_version="v1", kind="ConfigMap")
PATH = "/configmaps$"
PATIENCE = 30.0
"""Seconds; what is waited for takes milliseconds."""


def item(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


def names(observer: ObjectWatcher) -> set[str]:
    return {found["metadata"]["name"] for found in observer.items("ConfigMap")}


def until(observer: ObjectWatcher, condition: Callable[[], bool]) -> None:
    """Wait until a change makes it true."""
    while True:
        seen = observer.changes
        if condition():
            return
        assert observer.wait(seen, timeout=PATIENCE) > seen, "nothing changes"


def fails(observer: ObjectWatcher) -> WindsockError:
    with pytest.raises(WindsockError) as failed:
        until(observer, lambda: False)
    return failed.value


def sees_the_next(api: FakeApi, observer: ObjectWatcher, name: str = "next") -> None:
    api.put(item(name))
    until(observer, lambda: name in names(observer))


def test_what_comes_changes_and_goes_is_seen(api: FakeApi, cluster: Cluster) -> None:
    api.put(item("old"))
    with ObjectWatcher(cluster, [CONFIG_MAPS]) as observer:
        assert names(observer) == {"old"}
        sees_the_next(api, observer)
        api.remove(item("old"))
        until(observer, lambda: names(observer) == {"next"})


@pytest.mark.parametrize("end", ["end_watches", "cut"])
def test_a_watch_that_ends_is_followed_by_another(api: FakeApi, cluster: Cluster, end: str) -> None:
    with ObjectWatcher(cluster, [CONFIG_MAPS]) as observer:
        sees_the_next(api, observer, "first")
        getattr(api, end)()
        sees_the_next(api, observer, "second")


class Impatient(Cluster):
    """Nothing ends its watches but its own patience."""

    def watch(self, api_version: str, kind: str, *, version: str, **_: Any) -> LineStream:
        query = {"watch": "1", "resourceVersion": version}
        path = self.path(api_version, kind)
        return self.connection.stream(path, query=query, doing="watch", silence=0.01)


def test_a_watch_whose_other_side_is_gone_is_followed_by_another(
    api: FakeApi, cluster: Cluster
) -> None:
    impatient = Impatient(cluster.connection, namespace=cluster.namespace)
    with ObjectWatcher(impatient, [CONFIG_MAPS]) as observer:
        until(observer, lambda: sum(line.startswith("WATCH") for line in api.asked) > 3)
        sees_the_next(api, observer)


def test_what_went_while_nobody_watched_is_not_kept(api: FakeApi, cluster: Cluster) -> None:
    api.put(item("old"))
    refused = api.answer("WATCH", PATH, 503, times=1000)
    with ObjectWatcher(cluster, [CONFIG_MAPS]) as observer:
        api.remove(item("old"))
        refused.left = 0
        until(observer, lambda: not names(observer))


@pytest.mark.parametrize("code", [410, 429, 500, 503])
@pytest.mark.parametrize("method", ["GET", "WATCH"])
def test_a_server_that_cannot_just_now_is_asked_again(
    api: FakeApi, cluster: Cluster, method: str, code: int
) -> None:
    with ObjectWatcher(cluster, [CONFIG_MAPS]) as observer:
        sees_the_next(api, observer, "first")
        refused = api.answer(method, PATH, code, times=3)
        api.end_watches()
        sees_the_next(api, observer, "second")
        until(observer, lambda: not refused.left)


def test_a_server_that_cannot_at_the_beginning_is_asked_again_a_few_times(
    api: FakeApi, cluster: Cluster
) -> None:
    api.answer("GET", PATH, 503, times=watching.FIRST_ATTEMPTS - 1)
    with ObjectWatcher(cluster, [CONFIG_MAPS]) as observer:
        sees_the_next(api, observer)
    api.answer("GET", PATH, 503, "out of order", times=100)
    with pytest.raises(Refusal, match="out of order"), ObjectWatcher(cluster, [CONFIG_MAPS]):
        pass


def test_a_version_that_is_too_old_is_followed_by_a_new_list(
    api: FakeApi, cluster: Cluster
) -> None:
    expired = {"type": "ERROR", "object": json.loads(status(410, "too old"))}
    said = api.answer("WATCH", PATH, 200, json.dumps(expired).encode() + b"\n", times=3)
    with ObjectWatcher(cluster, [CONFIG_MAPS]) as observer:
        until(observer, lambda: not said.left)
        sees_the_next(api, observer)


def test_half_a_line_is_a_broken_connection(api: FakeApi, cluster: Cluster) -> None:
    half = b'{"type": "ADDED", "obj'
    answers = [api.answer("WATCH", PATH, 200, half, cut=cut) for cut in (False, True)]
    with ObjectWatcher(cluster, [CONFIG_MAPS]) as observer:
        until(observer, lambda: not any(answer.left for answer in answers))
        sees_the_next(api, observer)


def test_a_right_that_is_taken_away_ends_the_waiting(api: FakeApi, cluster: Cluster) -> None:
    api.answer("WATCH", PATH, 403, "not any more", times=100)
    with ObjectWatcher(cluster, [CONFIG_MAPS]) as observer:
        assert "not any more" in fails(observer).message


def test_a_sign_in_page_ends_the_waiting(api: FakeApi, cluster: Cluster) -> None:
    with ObjectWatcher(cluster, [CONFIG_MAPS]) as observer:
        sees_the_next(api, observer)
        api.answer("GET", PATH, 200, b"<html>Sign in</html>", times=100)
        api.end_watches()
        assert "does not speak Kubernetes" in fails(observer).message
        with pytest.raises(EnvironmentFailure):
            observer.wait(0, timeout=0)


def test_an_answer_that_nobody_foresaw_ends_the_waiting(api: FakeApi, cluster: Cluster) -> None:
    api.answer("WATCH", PATH, 200, b'{"type": "ADDED"}\n', times=100)
    with ObjectWatcher(cluster, [CONFIG_MAPS]) as observer:
        assert "ConfigMap can no longer be watched" in fails(observer).message


def test_a_kind_that_one_can_do_without_is_left_out(api: FakeApi, cluster: Cluster) -> None:
    api.answer("GET", PATH, 403, times=100)
    optional = Interest(api_version="v1", kind="ConfigMap", optional=True)
    with ObjectWatcher(cluster, [optional]) as observer:
        assert observer.items("ConfigMap") == []
    with pytest.raises(Refusal), ObjectWatcher(cluster, [CONFIG_MAPS]):
        pass


class Waits(threading.Event):
    """Waits for nothing, and notes for how long it should have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        return self.is_set()


def test_pauses_grow_while_watches_break_soon_and_begin_anew_after_one_that_lasted(
    api: FakeApi, cluster: Cluster
) -> None:
    waits, now, first = Waits(), [0.0], watching.FIRST_PAUSE_SECONDS
    refused = api.answer("WATCH", PATH, 503, times=20)
    with ObjectWatcher(cluster, [CONFIG_MAPS], clock=lambda: now[0], stopping=waits) as observer:
        until(observer, lambda: not refused.left)
        sees_the_next(api, observer)
        assert waits.seconds[:3] == [first, 2 * first, 4 * first]
        assert waits.seconds[19:] == [watching.LONGEST_PAUSE_SECONDS]
        with api.store.changed:
            assert api.store.changed.wait_for(lambda: api.watching, PATIENCE)
        now[0] += watching.LASTING_SECONDS
        api.answer("WATCH", PATH, 503)
        api.end_watches()
        until(observer, lambda: len(waits.seconds) > 20)
        assert waits.seconds[20] == first
