from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.cluster.fake_api import FakeApi
from windsock.cluster.api.client import MANAGED
from windsock.errors import EnvironmentFailure
from windsock.events import ComponentFailing, ComponentRecovered, Event
from windsock.sync_process.failing import RECOVERED_SECONDS
from windsock.sync_process.failing_pods import FailingPods

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECOVERED = ComponentRecovered(component="scheduler")


LOOPS = {"waiting": {"reason": "CrashLoopBackOff"}}
ENDED = {"terminated": {"exitCode": 1}}


def pod(
    name: str = "scheduler-1", *, ends: int = 4, runs: bool = False, state: Any = LOOPS, **more: Any
) -> Any:
    """A pod whose container has ended so often; unless it runs again, it waits for a start."""
    state = {"running": {}} if runs else state
    container = {
        "name": "scheduler",
        "ready": runs,
        "restartCount": ends - 1,
        "state": state,
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
    }
    component = more.pop("component", "scheduler")
    labels = MANAGED | {"app.kubernetes.io/component": component}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, **more},
        "spec": {"containers": [{"name": "scheduler"}]},
        "status": {"phase": "Running", "containerStatuses": [container]},
    }


class Room:
    """A namespace, and the time, as `FailingPods` sees them."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.now = 0.0
        self.told: list[Event] = []
        self.cluster: Any = api.cluster
        self._pods = FailingPods(self._connect, publish=self.told.append, clock=lambda: self.now)

    def _connect(self) -> Any:
        return self.cluster()

    def after(self, seconds: float, *pods: Any) -> list[Event]:
        """What is told when some time has passed, and these pods are as they are."""
        self.now += seconds
        for each in pods:
            self.api.put(each)
        self.told.clear()
        self._pods.look()
        return list(self.told)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with FakeApi(tmp_path) as api:
        yield Room(api)


def test_a_component_in_a_crash_loop_is_told_once_with_its_last_words(room: Room) -> None:
    room.api.logs["scheduler-1"] = [b"time no such table", b"time bye"]
    [told] = room.after(0, pod())
    assert isinstance(told, ComponentFailing)
    assert told.component == "scheduler"
    assert told.message == "scheduler ends again and again: it ended with exit code 1, 4 times"
    assert "no such table\nbye\n" in told.hint
    assert "invoke logs scheduler" in told.hint
    assert room.after(30, pod(ends=5)) == []


@pytest.mark.parametrize(
    "harmless",
    [pod(ends=3), pod(ends=9, runs=True), pod(component="worker"), pod(ends=9, state=ENDED)],
    ids=["ended a few times", "runs", "of a task", "ended now and then"],
)
def test_what_is_no_crash_loop_of_a_component_is_not_told(room: Room, harmless: Any) -> None:
    assert room.after(0, harmless) == []


def test_a_component_that_lives_for_a_minute_has_recovered_and_may_fail_again(room: Room) -> None:
    room.after(0, pod())
    assert room.after(RECOVERED_SECONDS - 1, pod(runs=True)) == []
    assert room.after(0, pod(ends=5)) == []
    assert room.after(RECOVERED_SECONDS - 1, pod(ends=5, runs=True)) == []
    assert room.after(1) == [RECOVERED]
    assert room.after(1) == []
    assert [type(each) for each in room.after(1, pod(ends=6))] == [ComponentFailing]


def test_a_component_has_recovered_when_it_got_another_pod(room: Room) -> None:
    room.after(0, pod())
    assert room.after(1, pod("scheduler-2", ends=1, runs=True)) == []
    room.api.remove(pod())
    assert room.after(1) == [RECOVERED]


def test_a_cluster_that_does_not_answer_tells_nothing(room: Room) -> None:
    def gone() -> None:
        raise EnvironmentFailure("there is no such context")

    room.cluster, there = gone, room.cluster
    assert room.after(0, pod()) == []
    room.cluster = there
    [told] = room.after(1)
    assert isinstance(told, ComponentFailing)
    room.api.answer("GET", "/pods", 503, times=10**6)
    assert room.after(600) == []
