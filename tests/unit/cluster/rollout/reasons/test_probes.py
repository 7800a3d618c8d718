"""The reasons for a container whose probe fails, and from when on they count."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.cluster.rollout.reasons.pods import Object, at, ended, event, found, pod, workload
from windsock.cluster.api.workloads import COMPONENT


def test_the_reason_of_a_restart_by_a_probe_is_the_message_of_the_probe() -> None:
    events = (
        event("Unhealthy", "Liveness probe failed: timeout"),
        event("Killing", "Container base failed liveness probe, will be restarted"),
    )
    crashed = {"state": {"running": {}}, "lastState": ended(137), "restartCount": 1}
    whys = [item.why for item in found(pod(container=crashed, phase="Running"), events=events)]
    assert "it was restarted, because its Liveness probe failed: timeout" in whys


def test_the_message_of_another_probe_is_not_the_reason() -> None:
    item = running(lastState=ended(137), restartCount=1, started=False)
    [only] = found(item, events=(*killed(second=1), event("Unhealthy", REFUSED, second=2)))
    assert "Liveness probe failed" in only.why


REFUSED = "Readiness probe failed: dial tcp 10.0.0.5:8080: connect: connection refused"
NOT_FOUND = "Readiness probe failed: HTTP probe failed with statuscode: 404"
SECONDS = 20.0
"""More than anybody should wait where the cause is clear, and less than a slow start takes."""


def running(*, startup_probe: bool = False, **status: Any) -> Object:
    container: Object = {"name": "base"} | ({"startupProbe": {}} if startup_probe else {})
    now = {"state": {"running": {}}, "started": True, "ready": False, **status}
    return pod(container=now, spec={"containers": [container]}, phase="Running")


def database(*, ready: int) -> Object:
    item = workload("StatefulSet", **{COMPONENT: "postgres"})
    item["metadata"]["name"] = "postgres"
    return item | {
        "spec": {"replicas": 1},
        "status": {"replicas": 1, "updatedReplicas": 1, "readyReplicas": ready},
    }


def migration(*, second: int | None = None) -> Object:
    item = workload("Job", **{COMPONENT: "migrate"})
    if second is not None:
        complete = {"type": "Complete", "status": "True"}
        item["status"] = {"conditions": [complete], "completionTime": at(second)}
    return item


@pytest.mark.parametrize("message", [REFUSED, NOT_FOUND])
@pytest.mark.parametrize(
    "others", [(database(ready=0), migration(second=1)), (database(ready=1), migration())]
)
def test_a_component_that_waits_for_the_database_need_not_be_ready(
    message: str, others: tuple[Object, ...]
) -> None:
    assert found(running(), events=(event("Unhealthy", message),), others=others) == []


PREPARED = (database(ready=1), migration(second=30))


def test_a_component_that_does_not_listen_is_given_time_to_start() -> None:
    [only] = found(running(), events=(event("Unhealthy", REFUSED),), others=PREPARED)
    assert "connection refused" in only.why
    assert only.patience > SECONDS
    assert only.container == "base"


@pytest.mark.parametrize(
    "message", [NOT_FOUND, "Readiness probe errored: exec: no such file", NOT_FOUND[:-3] + "500"]
)
def test_a_wrong_answer_counts_within_seconds(message: str) -> None:
    [only] = found(running(), events=(event("Unhealthy", message),), others=PREPARED)
    assert message in only.why
    assert only.patience < SECONDS


def test_a_component_that_answers_that_it_is_busy_is_given_time_to_start() -> None:
    busy = event("Unhealthy", NOT_FOUND[:-3] + "503")
    [only] = found(running(), events=(busy,), others=PREPARED)
    assert only.patience > SECONDS


def test_a_container_that_has_started_and_is_not_ready_counts_within_seconds() -> None:
    item = running(startup_probe=True)
    others = (database(ready=0), migration())
    [only] = found(item, events=(event("Unhealthy", "Readiness probe failed: "),), others=others)
    assert only.patience < SECONDS
    starting = running(startup_probe=True, started=False)
    assert found(starting, events=(event("Unhealthy", "Startup probe failed: "),)) == []


@pytest.mark.parametrize(
    "message", ["Readiness probe failed: command timed out", "Startup probe failed: not yet"]
)
def test_a_container_that_has_started_and_answers_late_is_given_time(message: str) -> None:
    [only] = found(running(startup_probe=True), events=(event("Unhealthy", message),))
    assert message in only.why
    assert only.patience > SECONDS


def test_the_database_itself_is_waited_for_by_nobody() -> None:
    events = (event("Unhealthy", REFUSED),)
    [only] = found(running(), events=events, of=database(ready=0), others=(migration(),))
    assert "connection refused" in only.why


def test_the_readiness_probe_counts_beside_a_later_message_of_another_probe() -> None:
    events = (
        event("Unhealthy", NOT_FOUND, second=1),
        event("Unhealthy", "Liveness probe failed: timeout", second=2),
    )
    [only] = found(running(), events=events)
    assert "404" in only.why


def killed(*, second: int) -> tuple[Object, ...]:
    return (
        event("Unhealthy", "Liveness probe failed: timeout", second=second),
        event("Killing", "Container base failed liveness probe", second=second),
    )


def test_a_restart_while_the_database_was_waited_for_is_no_finding_then_nor_later() -> None:
    item = running(lastState=ended(137), restartCount=1, started=False)
    waits = (database(ready=1), migration())
    assert found(item, events=killed(second=10), others=waits) == []
    assert found(item, events=killed(second=10), others=PREPARED) == []
    [only] = found(item, events=killed(second=40), others=PREPARED)
    assert "Liveness probe failed" in only.why
    assert only.patience == 0


def test_a_database_that_is_ready_again_is_what_counts_not_its_old_migration() -> None:
    item = running(lastState=ended(137), restartCount=1, started=False)
    base = pod(conditions=[{"type": "Ready", "status": "True", "lastTransitionTime": at(50)}])
    base["metadata"] = {"name": "postgres-0", "uid": "3", "labels": {COMPONENT: "postgres"}}
    events = killed(second=40)
    assert found(item, events=events, others=PREPARED, beside=(base,)) == []
