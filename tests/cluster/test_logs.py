"""Logs of real pods, also of those that come and go."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.cluster.deployed import Kubectl
from tests.cluster.room import DEADLINE, deployment, eventually, namespace, silent, worker
from windsock.cluster.access import logs
from windsock.cluster.manifests.apply import apply
from windsock.cluster.rollout import follow as rollout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import ClusterAccess
    from windsock.cluster.api.client import Cluster

pytestmark = pytest.mark.cluster

COUNT = "import time\nfor n in range(100): print('line', n)\ntime.sleep(10000)"
RESTARTING = """
import os, sys, time
if os.path.exists('/data/end'):
    print('life', 2)
    time.sleep(10000)
print('life', 1)
while not os.path.exists('/data/end'):
    time.sleep(0.1)
sys.exit(1)
"""


@pytest.fixture(scope="module")
def room(cluster: ClusterAccess) -> Iterator[Cluster]:
    with namespace(cluster) as room:
        items = [deployment("scheduler", COUNT), deployment("triggerer", COUNT)]
        apply(room, items, progress=silent)
        rollout.wait(room, items, progress=silent, timeout=120)

        def begun() -> bool:
            return len(list(logs.stream(room, None, follow=False, lines=100))) == 200

        eventually(begun, "all lines")
        yield room


class Reader:
    """Reads an endless stream in a thread, as a terminal would show it."""

    def __init__(self, stream: Iterator[str]) -> None:
        self.lines: list[str] = []
        self._stream = stream
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._done = threading.Event()
        self._thread.start()

    def _run(self) -> None:
        for line in self._stream:
            self.lines.append(line)
            if self._done.is_set():
                break
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()

    def stop(self) -> None:
        """End it with the next line."""
        self._done.set()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()


def test_the_last_lines_of_one_component_have_no_prefix(room: Cluster) -> None:
    found = list(logs.stream(room, "scheduler", follow=False, lines=3))
    assert found == ["line 97", "line 98", "line 99"]


def test_the_lines_of_all_components_are_prefixed(room: Cluster) -> None:
    found = list(logs.stream(room, None, follow=False, lines=1))
    assert sorted(line.split()[0] for line in found) == ["scheduler", "triggerer"]
    assert all(line.endswith("| line 99") for line in found)


def test_a_component_without_pods_has_no_lines(room: Cluster) -> None:
    assert list(logs.stream(room, "postgres", follow=False, lines=3)) == []


def test_a_stream_that_is_closed_leaves_no_thread(room: Cluster) -> None:
    before = threading.active_count()
    stream = logs.stream(room, None, follow=True, lines=1)
    assert "line 99" in next(stream)
    with contextlib.closing(stream):  # type: ignore[type-var] # a generator, as it happens
        pass
    assert threading.active_count() == before


def has_spoken(reader: Reader, name: str) -> bool:
    return any(line.startswith(name) and "speaks" in line for line in list(reader.lines))


def test_workers_are_joined_as_they_come_and_go(room: Cluster) -> None:
    reader = Reader(logs.stream(room, None, follow=True, lines=1))
    eventually(lambda: len(reader.lines) == 2, "the last line of both components")
    for number in range(2):
        name = f"task-{number}"
        room.create(worker(name, "print('it speaks')"))
        eventually(partial(has_spoken, reader, name), "the worker's line")
        for pod in room.items("v1", "Pod"):
            if pod["metadata"]["name"] == name:
                room.delete(pod)
    room.create(worker("task-last", "print('the end')"))
    reader.stop()
    spoken = [line for line in reader.lines if "speaks" in line]
    assert len(spoken) == 2


def test_a_container_that_is_restarted_is_followed_without_repeating(
    room: Cluster, cluster: ClusterAccess
) -> None:
    pod = worker("again", RESTARTING)
    pod["spec"]["restartPolicy"] = "Always"
    pod["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}]
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    reader = Reader(logs.stream(room, "worker", follow=True, lines=10))
    room.create(pod)

    def lives() -> list[str]:
        return [line for line in list(reader.lines) if line.startswith("again") and "life" in line]

    eventually(lives, "the first life")
    Kubectl(cluster, room.namespace).run("exec", "again", "--", "touch", "/data/end")
    eventually(lambda: len(lives()) >= 2, "both lives")
    room.create(worker("closing", "print('over')"))
    reader.stop()
    assert [line.split()[-1] for line in lives()] == ["1", "2"]
