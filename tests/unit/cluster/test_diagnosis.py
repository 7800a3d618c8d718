"""What is said of a pod that does not get ready, and how long it must last before it is said."""

from __future__ import annotations

from typing import Any
from unittest.mock import ANY

import pytest
import yaml

from windsock.cluster.diagnosis import Finding, Surroundings, findings

Object = dict[str, Any]

UID = "1"


def pod(*, container: Object | None = None, spec: Object | None = None, **status: Any) -> Object:
    if container is not None:
        status["containerStatuses"] = [{"name": "base", "image": "windsock-airflow:1", **container}]
    return {
        "kind": "Pod",
        "metadata": {"name": "airflow-scheduler-x", "uid": UID},
        "spec": {"containers": [{"name": "base"}], **(spec or {})},
        "status": {"phase": "Pending", **status},
    }


def event(reason: str, message: str, *, uid: str = UID, kind: str = "Warning") -> Object:
    return {
        "reason": reason,
        "message": message,
        "type": kind,
        "involvedObject": {"uid": uid},
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }


def workload(kind: str = "Deployment", **labels: str) -> Object:
    named = {"name": "airflow-scheduler", "uid": "9", "labels": labels}
    return {"kind": kind, "metadata": named, "spec": {}, "status": {}}


def found(
    *pods: Object,
    events: tuple[Object, ...] = (),
    claims: tuple[Object, ...] = (),
    of: Object | None = None,
    leaving: bool = False,
) -> list[Finding]:
    of = of or workload()
    around = Surroundings(events=events, claims=claims, leaving=leaving)
    return list(findings(of, pods=pods, makers=[of], around=around))


def waiting(reason: str, message: str = "") -> Object:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def ended(code: int, reason: str = "Error") -> Object:
    return {"terminated": {"exitCode": code, "reason": reason}}


def test_a_pod_on_its_way_is_no_finding() -> None:
    assert found(pod(container=waiting("ContainerCreating"))) == []
    assert found(pod(container={"state": {"running": {}}, "started": False}, phase="Running")) == []


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"])
def test_an_image_that_is_not_there_is_named_with_what_to_do(reason: str) -> None:
    [only] = found(pod(container=waiting(reason, "not found")))
    assert "windsock-airflow:1" in only.why
    assert "invoke build" in only.hint
    assert only.patience < 5


def test_an_image_that_no_registry_brings_is_told_with_the_setting_for_one() -> None:
    [only] = found(pod(container=waiting("ErrImagePull", "not found")))
    lines = only.hint.splitlines()[-3:]
    assert yaml.safe_load("\n".join(lines)) == {"windsock": {"cluster": {"registry": ANY}}}


def test_an_image_of_a_registry_is_told_with_the_secret_that_it_may_want() -> None:
    container = waiting("ImagePullBackOff") | {"image": "ghcr.io/anna/windsock-airflow:1"}
    [only] = found(pod(container=container))
    assert "windsock.cluster.pull_secret" in only.hint


def test_a_crash_loop_counts_at_once_and_points_at_the_lines_before() -> None:
    loop = waiting("CrashLoopBackOff") | {"lastState": ended(1), "restartCount": 2}
    [only] = found(pod(container=loop))
    assert (only.why, only.patience) == ("it ended with exit code 1, 3 times", 0.0)
    assert (only.container, only.previous) == ("base", True)


def test_a_first_end_is_given_time_and_the_second_less() -> None:
    [first] = found(pod(container={"state": ended(1), "restartCount": 0}))
    [second] = found(pod(container={"state": ended(1), "restartCount": 1}))
    assert first.patience > second.patience > 0
    assert not second.previous


def test_a_container_that_ate_its_memory_is_told_with_its_limit() -> None:
    spec = {"containers": [{"name": "base", "resources": {"limits": {"memory": "2Gi"}}}]}
    loop = waiting("CrashLoopBackOff") | {"lastState": ended(137, "OOMKilled")}
    [only] = found(pod(container=loop, spec=spec))
    assert "more memory than 2Gi" in only.why


def test_a_restart_by_a_probe_tells_what_the_probe_said() -> None:
    events = (
        event("Unhealthy", "Liveness probe failed: timeout"),
        event("Killing", "Container base failed liveness probe, will be restarted"),
    )
    crashed = {"state": {"running": {}}, "lastState": ended(137), "restartCount": 1}
    whys = [item.why for item in found(pod(container=crashed, phase="Running"), events=events)]
    assert "it was restarted, because its Liveness probe failed: timeout" in whys


def unschedulable(message: str) -> Object:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return pod(conditions=[{**condition, "message": message}])


def test_a_full_cluster_is_told_in_the_schedulers_words_and_sooner_if_nothing_leaves() -> None:
    full = unschedulable("0/1 nodes are available: 1 Insufficient memory.")
    [only] = found(full)
    assert "1 Insufficient memory" in only.why
    [patient] = found(full, leaving=True)
    assert patient.patience > only.patience


def test_a_node_that_is_being_added_is_waited_for() -> None:
    full = unschedulable("Insufficient cpu")
    assert found(full, events=(event("TriggeredScaleUp", "pod triggered scale-up"),)) == []


def claiming() -> tuple[Object, Object]:
    volumes = [{"name": "dags", "persistentVolumeClaim": {"claimName": "dags"}}]
    claim = {"metadata": {"name": "dags", "uid": "7"}, "status": {"phase": "Pending"}}
    return pod(spec={"volumes": volumes}), claim


def test_a_claim_without_a_storage_class_is_told_and_one_that_waits_for_its_pod_is_not() -> None:
    waits, claim = claiming()
    no_class = event("FailedBinding", "no storage class is set", uid="7", kind="Normal")
    [only] = found(waits, claims=(claim,), events=(no_class,))
    assert only.about == "PersistentVolumeClaim dags"
    assert "no storage class is set" in only.why
    later = event("WaitForFirstConsumer", "waiting for first consumer", uid="7", kind="Normal")
    assert found(waits, claims=(claim,), events=(later,)) == []


def test_a_volume_that_the_node_may_not_see_yet_is_given_more_time_than_one_that_is_missing() -> (
    None
):
    starting = pod(container=waiting("ContainerCreating"))
    early = "no relationship found between node 'one' and this object"
    [soon] = found(starting, events=(event("FailedMount", f"claim is forbidden: {early}"),))
    [never] = found(starting, events=(event("FailedMount", 'configmap "x" not found'),))
    assert "cannot be mounted" in soon.why
    assert soon.patience > 3 * never.patience


def test_a_quota_that_forbids_the_pod_is_told_of_what_should_make_it() -> None:
    refused = event("FailedCreate", "Error creating: pods is forbidden: exceeded quota", uid="9")
    [only] = found(events=(refused,))
    assert only.why.startswith("its pod may not be made: pods is forbidden: exceeded quota")
    assert "quota" in only.hint


def failed(name: str) -> Object:
    item = pod(container={"state": ended(1)}, phase="Failed")
    item["metadata"]["name"] = name
    return item


def test_a_migration_may_fail_once_but_not_twice() -> None:
    job = workload("Job", **{"app.kubernetes.io/component": "migrate"})
    [once] = found(failed("a"), of=job)
    [twice] = found(failed("a"), failed("b"), of=job)
    assert once.patience > 0
    assert (twice.patience, twice.about) == (0.0, "Pod b")
    assert twice.why == "the migration of the database failed: it ended with exit code 1"
