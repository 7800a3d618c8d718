"""The reasons for a pod without a node, and what the pod may wait for."""

from __future__ import annotations

from tests.unit.cluster.rollout.reasons.pods import Object, event, found, pod


def unschedulable(message: str) -> Object:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return pod(conditions=[{**condition, "message": message}])


def test_a_full_cluster_counts_with_the_schedulers_message_and_sooner_if_no_pod_is_going() -> None:
    full = unschedulable("0/1 nodes are available: 1 Insufficient memory.")
    [only] = found(full)
    assert "1 Insufficient memory" in only.why
    going = pod()
    going["metadata"] = {"name": "old", "uid": "2", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    [patient] = found(full, beside=(going,))
    assert patient.patience > only.patience


def test_a_node_that_is_being_added_is_waited_for() -> None:
    full = unschedulable("Insufficient cpu")
    assert found(full, events=(event("TriggeredScaleUp", "pod triggered scale-up"),)) == []


BESIDE = {"app.kubernetes.io/component": "dag-processor"}
APART = "0/2 nodes are available: 2 node(s) didn't match pod affinity rules."


def neighbour(**spec: str) -> Object:
    item = pod(spec=dict(spec))
    item["metadata"] = {"name": "airflow-dag-processor-x", "uid": "2", "labels": BESIDE}
    return item


def dependent() -> Object:
    """A pod that may only run where the dag-processor does."""
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": BESIDE}}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    item = unschedulable(APART)
    item["spec"]["affinity"] = {"podAffinity": required}
    return item


def test_a_pod_that_must_run_beside_another_waits_until_that_one_has_a_node() -> None:
    assert found(dependent(), beside=(neighbour(),)) == []
    full = dependent()
    full["status"]["conditions"][0]["message"] += " 1 Insufficient cpu."
    assert found(full, beside=(neighbour(),)) == []


def test_a_pod_that_cannot_run_beside_another_counts_once_that_one_has_a_node() -> None:
    [only] = found(dependent(), beside=(neighbour(nodeName="one"), neighbour()))
    assert "didn't match pod affinity" in only.why
    assert only.patience > 10, "Kubernetes tries again within ten seconds"


def test_a_pod_that_must_run_beside_one_that_nobody_makes_counts() -> None:
    [only] = found(dependent())
    assert "affinity" in only.cause.value
