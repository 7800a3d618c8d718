"""A rollout that is followed to its end, or to what keeps it from one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from windsock.cluster.api.client import MANAGED
from windsock.cluster.rollout import follow as rollout
from windsock.errors import ConfigurationError, DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.cluster.fake_api import FakeApi
    from windsock.cluster.api.client import Cluster

Object = dict[str, Any]

PATIENCE = 60.0
"""Seconds; what is waited for takes milliseconds."""

LABELS = MANAGED | {"app.kubernetes.io/component": "scheduler"}
REVISION = {"deployment.kubernetes.io/revision": "1"}
READY = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "observedGeneration": 1}
LOOPING = {
    "name": "main",
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 3}},
    "restartCount": 1,
}


def deployment(**status: int) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "airflow-scheduler",
            "labels": LABELS,
            "annotations": REVISION,
            "generation": 1,
        },
        "spec": {"replicas": 1},
        "status": status,
    }


def stateful_set(**status: Any) -> Object:
    return deployment() | {"kind": "StatefulSet", "status": status}


def pod(owner: Object, name: str = "airflow-scheduler-x", **status: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": LABELS,
            "ownerReferences": [{"uid": owner["metadata"]["uid"]}],
        },
        "spec": {"containers": [{"name": "main"}]},
        "status": {"phase": "Running", **status},
    }


def put_with_a_pod(api: FakeApi, **status: Any) -> Object:
    """A Deployment, its ReplicaSet and its pod."""
    owner = api.put(deployment())
    maker = api.put(
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": "airflow-scheduler-1",
                "labels": LABELS,
                "annotations": REVISION,
                "ownerReferences": [{"uid": owner["metadata"]["uid"]}],
            },
        }
    )
    return api.put(pod(maker, **status))


def wait(
    cluster: Cluster,
    progress: Callable[[str], None] = lambda _: None,
    *,
    items: tuple[Object, ...] = (deployment(),),
    timeout: float = PATIENCE,
) -> None:
    rollout.wait(cluster, items, progress=progress, timeout=timeout)


def test_it_ends_when_all_is_ready_and_shows_what_it_waits_for(
    api: FakeApi, cluster: Cluster
) -> None:
    put_with_a_pod(api)
    shown: list[str] = []

    def get_ready(text: str) -> None:
        shown.append(text)
        api.put(deployment(**READY))

    wait(cluster, get_ready)
    assert shown == ["scheduler 0/1: being placed on a node"]


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_cluster_that_is_ill_for_a_moment_fails_no_rollout(
    api: FakeApi, cluster: Cluster, code: int
) -> None:
    put_with_a_pod(api)

    def fall_ill_and_get_ready(_: str) -> None:
        api.answer("GET", "/deployments$", code, times=2)
        api.answer("WATCH", "/", code, times=3)
        api.end_watches()
        api.put(deployment(**READY))

    wait(cluster, fall_ill_and_get_ready)


@pytest.mark.parametrize(
    ("logged", "shown"),
    [([b"2026 my last words"], r"  \| .*my last words\nAbove: "), ([], "Its log is empty.")],
)
def test_a_crash_loop_ends_it_with_the_last_lines(
    api: FakeApi, cluster: Cluster, logged: list[bytes], shown: str
) -> None:
    api.logs["airflow-scheduler-x"] = logged

    def crash(_: str) -> None:
        put_with_a_pod(api, containerStatuses=[LOOPING])

    api.put(deployment())
    with pytest.raises(EnvironmentFailure, match="scheduler does not get ready: Pod airflow-") as f:
        wait(cluster, crash)
    assert "it ended with exit code 3, 2 times" in f.value.message
    assert re.match(shown, f.value.hint)


def test_a_finding_must_last_as_long_as_it_is_given_time(api: FakeApi, cluster: Cluster) -> None:
    """A container that ended once has fifteen seconds: this one is started again within them."""
    now = [0.0]
    ended = {"name": "main", "state": {"terminated": {"exitCode": 1}}, "restartCount": 0}
    put_with_a_pod(api, containerStatuses=[ended])

    def get_ready(_: str) -> None:
        now[0] += 14.0
        api.put(deployment(**READY))

    rollout.wait(
        cluster, [deployment()], progress=get_ready, timeout=PATIENCE, clock=lambda: now[0]
    )


def test_what_looked_wrong_is_in_the_hint_when_the_time_is_up(
    api: FakeApi, cluster: Cluster
) -> None:
    ended = {"name": "main", "state": {"terminated": {"exitCode": 1}}, "restartCount": 0}
    put_with_a_pod(api, containerStatuses=[ended])
    with pytest.raises(DeadlineExceeded, match="scheduler 0/1") as late:
        wait(cluster, timeout=0.05)
    assert "Pod airflow-scheduler-x: it ended with exit code 1\n" in late.value.hint


def test_pods_that_failed_before_are_made_anew(api: FakeApi, cluster: Cluster) -> None:
    put_with_a_pod(api, containerStatuses=[LOOPING])
    shown: list[str] = []

    def get_ready(text: str) -> None:
        shown.append(text)
        assert api.names("Pod") == []
        api.put(deployment(**READY))

    wait(cluster, get_ready)
    assert shown == ["scheduler 0/1: making a pod"]


def test_a_stateful_set_is_freed_of_a_broken_pod_of_before(api: FakeApi, cluster: Cluster) -> None:
    status = {"currentRevision": "a", "updateRevision": "b", "observedGeneration": 1}
    owner = api.put(stateful_set(**status))
    going: list[str] = []

    def break_then_get_ready(_: str) -> None:
        if not going:
            going.append("once")
            api.put(pod(owner, containerStatuses=[LOOPING]))
        elif not api.names("Pod"):
            api.put(stateful_set(**(READY | {"currentRevision": "b", "updateRevision": "b"})))

    wait(cluster, break_then_get_ready, items=(stateful_set(),))
    assert api.names("Pod") == []


def test_what_is_not_there_yet_is_waited_for_until_the_time_is_up(cluster: Cluster) -> None:
    with pytest.raises(DeadlineExceeded, match="airflow-scheduler is not there"):
        wait(cluster, timeout=0.0)


def test_a_cluster_without_rights_to_see_events_is_followed_all_the_same(
    api: FakeApi, cluster: Cluster
) -> None:
    api.answer("GET", "/(events|persistentvolumeclaims)$", 403, times=10)
    api.put(deployment(**READY))
    wait(cluster)


def test_a_restart_marks_the_pods_and_waits(api: FakeApi, cluster: Cluster) -> None:
    api.put(deployment(**READY))
    rollout.restart(cluster, ["scheduler"], progress=lambda _: None, timeout=PATIENCE)
    found = api.find("Deployment", "airflow-scheduler")
    assert found is not None
    assert rollout.RESTARTED in found["spec"]["template"]["metadata"]["annotations"]
    with pytest.raises(ConfigurationError, match="triggerer does not run") as unknown:
        rollout.restart(cluster, ["triggerer"], progress=lambda _: None, timeout=PATIENCE)
    assert "scheduler" in unknown.value.hint


def test_a_state_is_running_or_failed_with_a_detail(api: FakeApi, cluster: Cluster) -> None:
    put_with_a_pod(api, containerStatuses=[LOOPING])
    [state] = rollout.states(cluster)
    assert (state.component, state.state) == ("scheduler", "failed")
    assert "exit code 3" in state.detail
    api.put(deployment(**READY))
    [state] = rollout.states(cluster)
    assert (state.state, state.detail) == ("running", "1/1 ready, restarted 1 times")
