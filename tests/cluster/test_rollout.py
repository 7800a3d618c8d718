"""Rollouts that succeed, and that fail in every way a real cluster has for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.room import (
    CLAIM,
    DEADLINE,
    SLEEP,
    deployment,
    eventually,
    job,
    namespace,
    silent,
    stateful_set,
)
from windsock.cluster.api import workloads
from windsock.cluster.api.client import MANAGED
from windsock.cluster.manifests.apply import apply
from windsock.cluster.rollout import follow as rollout
from windsock.errors import DeadlineExceeded, EnvironmentFailure, WindsockError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import ClusterAccess
    from tests.cluster.room import Object
    from windsock.cluster.api.client import Cluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def room(cluster: ClusterAccess) -> Iterator[Cluster]:
    with namespace(cluster) as room:
        yield room


SOON = 30.0
"""Seconds, a pod's start and a second one included: who looks at the terminal still waits."""


def failure(room: Cluster, item: Object) -> WindsockError:
    """What a rollout fails with, while its time (`SOON`) is not up."""
    apply(room, [item], progress=silent)
    with pytest.raises(EnvironmentFailure) as failed:
        rollout.wait(room, [item], progress=silent, timeout=SOON)
    return failed.value


def says(words: str, *, code: int = 1, often: int = 3) -> dict[str, Any]:
    """A probe that says something, each second, and counts when it has said it so often."""
    command = ["sh", "-c", f"echo {words}; exit {code}"]
    return {
        "exec": {"command": command},
        "periodSeconds": 1,
        "failureThreshold": often,
        "timeoutSeconds": 10,
    }


def crashing(script: str) -> dict[str, Any]:
    """A container that ends soon, and is never ready: without a probe it would be for a moment."""
    return {"script": script, "readinessProbe": says("not yet")}


def test_workloads_are_followed_until_all_are_ready(room: Cluster) -> None:
    items = [
        stateful_set("postgres", SLEEP, claim=CLAIM),
        job("migrate", "print('done')"),
        deployment("scheduler", SLEEP),
    ]
    apply(room, items, progress=silent)
    told: list[str] = []
    rollout.wait(room, items, progress=told.append, timeout=120)
    assert any("scheduler 0/1" in line for line in told)
    states = {state.component: state.state for state in rollout.states(room)}
    assert states == {"postgres": "running", "scheduler": "running"}
    again: list[str] = []
    rollout.wait(room, items, progress=again.append, timeout=120)
    assert again == []


def test_a_restart_gives_new_pods(room: Cluster) -> None:
    item = deployment("scheduler", SLEEP)
    apply(room, [item], progress=silent)
    rollout.wait(room, [item], progress=silent, timeout=120)
    before = {pod["metadata"]["uid"] for pod in room.items("v1", "Pod")}
    rollout.restart(room, ["scheduler"], progress=silent, timeout=120)
    ready = {
        pod["metadata"]["uid"]
        for pod in room.items("v1", "Pod")
        if not pod["metadata"].get("deletionTimestamp")
    }
    assert ready
    assert not ready & before
    assert "Deployment scheduler" in apply(room, [item], progress=silent).unchanged


def test_a_component_that_is_not_there_cannot_be_restarted(room: Cluster) -> None:
    with pytest.raises(WindsockError, match="nobody does not run"):
        rollout.restart(room, ["nobody"], progress=silent, timeout=10)


def test_an_image_that_is_not_on_the_node(room: Cluster) -> None:
    item = deployment("missing", SLEEP, image="windsock-airflow:nowhere", imagePullPolicy="Never")
    told = failure(room, item)
    assert "ErrImageNeverPull" in told.message
    assert "windsock-airflow:nowhere" in told.message
    assert "invoke build" in told.hint


def test_an_image_that_no_registry_has(room: Cluster) -> None:
    item = deployment("unknown", SLEEP, image="127.0.0.1:1/windsock:nowhere")
    assert "127.0.0.1:1/windsock:nowhere" in failure(room, item).message


def test_a_pod_that_fits_on_no_node(room: Cluster) -> None:
    big = {"requests": {"cpu": "1000"}}
    told = failure(room, deployment("big", SLEEP, resources=big))
    assert "Insufficient cpu" in told.message


def test_a_crash_loop_shows_the_last_lines(room: Cluster) -> None:
    told = failure(
        room, deployment("looping", **crashing("print('my last words'); raise SystemExit(3)"))
    )
    assert "exit code 3" in told.message
    assert "my last words" in told.hint


def test_a_repaired_pod_is_not_blamed_for_what_was(room: Cluster) -> None:
    failure(room, deployment("repaired", **crashing("raise SystemExit(3)")))
    item = deployment("repaired", SLEEP)
    apply(room, [item], progress=silent)
    rollout.wait(room, [item], progress=silent, timeout=DEADLINE)


def test_a_missing_secret(room: Cluster) -> None:
    variable = {
        "name": "X",
        "valueFrom": {"secretKeyRef": {"name": "no-such-secret", "key": "x"}},
    }
    told = failure(room, deployment("secretive", SLEEP, env=[variable]))
    assert "no-such-secret" in told.message


def test_a_volume_that_nobody_provides(room: Cluster) -> None:
    claim = {**CLAIM, "storageClassName": "no-such-class"}
    told = failure(room, stateful_set("nowhere", SLEEP, claim=claim))
    assert "no-such-class" in told.message


def test_a_migration_that_fails_shows_its_log(room: Cluster) -> None:
    item = job("migrate", "print('no such table'); raise SystemExit(1)", tries=1)
    told = failure(room, item)
    assert "the migration of the database failed" in told.message
    assert "no such table" in told.hint


def test_a_startup_probe_that_never_passes(room: Cluster) -> None:
    probe: dict[str, Any] = {
        "exec": {"command": ["python3", "-c", "import sys; sys.exit('not yet')"]},
        "periodSeconds": 1,
        "failureThreshold": 2,
        "timeoutSeconds": 10,
    }
    told = failure(room, deployment("probed", SLEEP, startupProbe=probe))
    assert "not yet" in told.message


def test_a_readiness_probe_that_gets_a_wrong_answer(room: Cluster) -> None:
    page = {"path": "/no-such-page", "port": 8080}
    probe = {"httpGet": page, "periodSeconds": 1, "timeoutSeconds": 10}
    serve = "import http.server as http;http.test(http.SimpleHTTPRequestHandler, port=8080)"
    told = failure(room, deployment("unready", serve, readinessProbe=probe))
    assert "it runs, but is not ready" in told.message
    assert "404" in told.message
    assert "GET /no-such-page" in told.hint


def test_a_readiness_probe_that_fails_after_the_startup_probe_has_passed(room: Cluster) -> None:
    item = deployment(
        "unready",
        f"print('it serves'); {SLEEP}",
        startupProbe=says("started", code=0),
        readinessProbe=says("not any more"),
    )
    told = failure(room, item)
    assert "not any more" in told.message
    assert "it serves" in told.hint


def test_a_liveness_probe_that_fails(room: Cluster) -> None:
    item = deployment(
        "stuck",
        f"print('it serves'); {SLEEP}",
        livenessProbe=says("stuck", often=1),
        readinessProbe=says("not yet"),
    )
    told = failure(room, item)
    assert "it was restarted, because its Liveness probe failed: stuck" in told.message
    assert "it serves" in told.hint


def test_what_was_restarted_while_it_waited_for_the_database_has_not_failed(room: Cluster) -> None:
    items = [
        stateful_set("postgres", SLEEP, readinessProbe=says("not yet")),
        deployment(
            "scheduler",
            SLEEP,
            livenessProbe=says("waiting", often=8),
            readinessProbe=says("waiting"),
        ),
    ]
    apply(room, items, progress=silent)

    def restarted() -> bool:
        pods = room.items("v1", "Pod", selector=workloads.selector("scheduler"))
        statuses = [each for pod in pods for each in workloads.containers(pod)]
        return any(status.get("restartCount") for status in statuses)

    eventually(restarted, "the scheduler was restarted by its probe")
    with pytest.raises(DeadlineExceeded, match="scheduler 0/1"):
        rollout.wait(room, items, progress=silent, timeout=3)


def test_a_quota_that_is_exceeded(cluster: ClusterAccess) -> None:
    with namespace(cluster) as room:
        room.create(
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "small", "labels": dict(MANAGED)},
                "spec": {"hard": {"pods": "0"}},
            }
        )

        def known() -> bool:
            quota = room.get("v1", "ResourceQuota", "small") or {}
            return bool((quota.get("status") or {}).get("hard"))

        eventually(known, "the quota counts")
        labels = MANAGED | {"x": "y"}
        assert labels
        item = deployment("scheduler", SLEEP)
        room.apply(item)
        with pytest.raises(EnvironmentFailure, match="exceeded quota"):
            rollout.wait(room, [item], progress=silent, timeout=DEADLINE)


def test_a_stateful_set_recovers_from_a_pod_that_never_got_ready(room: Cluster) -> None:
    failure(room, stateful_set("base", **crashing("raise SystemExit(3)")))
    item = stateful_set("base", SLEEP, readinessProbe=says("ready", code=0))
    apply(room, [item], progress=silent)
    rollout.wait(room, [item], progress=silent, timeout=DEADLINE)


def test_a_timeout_tells_what_is_waited_for(room: Cluster) -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1}
    item = deployment("slow", SLEEP, readinessProbe=probe)
    apply(room, [item], progress=silent)
    with pytest.raises(DeadlineExceeded, match="slow 0/1"):
        rollout.wait(room, [item], progress=silent, timeout=3)
