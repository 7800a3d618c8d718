"""Why a queued task's pod has not started, by what the cluster and the scheduler's log say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from windsock.cluster.api.client import MANAGED
from windsock.cluster.worker_pods import waiting_pods
from windsock.model import WaitingPod

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
    assert found == WaitingPod(task_id="load", map_index=3, why=why, hint=found.hint)
    assert "kubectl get quota" in found.hint
