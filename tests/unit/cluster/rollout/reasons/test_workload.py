"""The reasons for a workload whose pods may not be made, and for a Job."""

from __future__ import annotations

from tests.unit.cluster.rollout.reasons.pods import Object, ended, event, found, pod, workload


def test_a_quota_that_forbids_the_pod_is_a_reason_of_what_should_make_it() -> None:
    refused = event("FailedCreate", "Error creating: pods is forbidden: exceeded quota", uid="9")
    [only] = found(events=(refused,))
    assert only.why.startswith("its pod may not be made: pods is forbidden: exceeded quota")
    assert "quota" in only.cause.value


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
