"""Why a queued task's pod has not started, by what the cluster and the scheduler's log say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from windsock.cluster.api.client import MANAGED
from windsock.cluster.worker_pods import failed_pods, waiting_pods
from windsock.model import TaskPod

if TYPE_CHECKING:
    from tests.unit.cluster.fake_api import FakeApi
    from windsock.cluster.api.client import Cluster

QUOTA = "exceeded quota: few, requested: limits.memory=1Gi, used: limits.memory=3Gi"


def pod(
    name: str, component: str = "worker", *, run_id: str = "r", **status: Any
) -> dict[str, Any]:
    annotations = {"dag_id": "sales", "run_id": run_id, "task_id": name, "map_index": "2"}
    labels = MANAGED | {"app.kubernetes.io/component": component}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {"containers": [{"name": "base"}]},
        "status": {"phase": "Pending", **status},
    }


def waits(reason: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": "no such host"}}
    return {"containerStatuses": [{"name": "base", "image": "x.invalid/y:1", "state": state}]}


def refusal(task_id: str, *, run_id: str = "r", map_index: int = -1) -> bytes:
    key = (
        f"TaskInstanceKey(dag_id='sales', task_id='{task_id}', run_id='{run_id}', "
        f"try_number=1, map_index={map_index})"
    )
    said = f"[Try 1 of -1] Kube ApiException for Task: ({key}). Reason: 'Forbidden'. Message: "
    where = "[airflow.providers.cncf.kubernetes.executors.kubernetes_executor] loc=x.py:1"
    return f"2026-01-01T00:00:01Z 2026 [warning] {said}pods is forbidden: {QUOTA}  {where}".encode()


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (waits("ErrImagePull"), "does not start: ErrImagePull x.invalid/y:1: no such host"),
        (waits("ContainerCreating"), "has not started yet: making the container"),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/1 nodes: 1 Insufficient memory.",
                    }
                ]
            },
            "does not start: it cannot be scheduled: 0/1 nodes: 1 Insufficient memory.",
        ),
    ],
)
def test_a_pod_that_waits_says_for_what(
    api: FakeApi, cluster: Cluster, status: dict[str, Any], why: str
) -> None:
    api.put(pod("load", **status))
    api.put(pod("other", run_id="another", **status))
    [found] = waiting_pods(cluster, "sales", "r")
    assert (found.task_id, found.map_index, found.why) == ("load", 2, f"its pod load {why}")
    assert bool(found.hint) is ("does not start" in why)


def test_a_pod_that_runs_waits_for_nothing(api: FakeApi, cluster: Cluster) -> None:
    api.put(pod("load", phase="Running"))
    assert waiting_pods(cluster, "sales", "r") == []


def test_a_pod_that_is_refused_is_known_from_the_schedulers_log(
    api: FakeApi, cluster: Cluster
) -> None:
    api.put(pod("scheduler", "scheduler", phase="Running"))
    api.put(pod("made", phase="Running"))
    api.logs["scheduler"] = [
        refusal("made", map_index=2),
        refusal("other", run_id="another"),
        refusal("load", map_index=3),
        b"2026-01-01T00:00:02Z something else",
        refusal("load", map_index=3),
    ]
    why = f"its pod may not be made now: pods is forbidden: {QUOTA}"
    [found] = waiting_pods(cluster, "sales", "r")
    assert found == TaskPod(task_id="load", map_index=3, why=why, hint=found.hint)
    assert "kubectl get quota" in found.hint


def failure(task_id: str, words: str) -> bytes:
    key = refusal(task_id).decode().partition("Task: (")[2].partition("). Reason")[0]
    said = f"Task {key} failed in pod room/{task_id}-x{words} [airflow.providers.x] loc=y.py:1"
    return f"2026-01-01T00:00:01Z [warning] {said}".encode()


DETAILS = (
    ". Pod phase: Failed, reason: {}, message: {}, container_type: main, container_name: base, "
    "container_state: terminated, container_reason: {}, container_message: None, exit_code: 137"
)


def test_what_ended_a_pod_is_told_in_the_words_of_the_cluster(
    api: FakeApi, cluster: Cluster
) -> None:
    api.put(pod("scheduler", "scheduler", phase="Running"))
    api.logs["scheduler"] = [
        failure("hungry", DETAILS.format("None", "None", "OOMKilled")),
        failure("evicted", DETAILS.format("Evicted", "The node was low on memory.", "None")),
        failure("image", " (no details available)"),
        failure("unknown", " (no details available)"),
    ]
    for kind, message in [
        ("Warning", "Failed to pull image: no such host"),
        ("Warning", "Error: ErrImagePull"),
        ("Normal", "Back-off pulling image of a registry that does not answer"),
    ]:
        event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": message[:5].lower()}}
        about = {"involvedObject": {"name": "image-x"}}
        api.put({**event, **about, "type": kind, "message": message})
    found = {each.task_id: each.why for each in failed_pods(cluster, "sales", "r")}
    assert found == {
        "hungry": "its pod hungry-x failed: OOMKilled",
        "evicted": "its pod evicted-x failed: Evicted: The node was low on memory.",
        "image": "its pod image-x failed: Failed to pull image: no such host",
        "unknown": "its pod unknown-x failed: the cluster does not say why",
    }
    assert failed_pods(cluster, "sales", "another") == []
