"""The reasons that are found for volumes that are missing, and none for those that came late."""

from __future__ import annotations

import pytest

from tests.unit.cluster.rollout.reasons.pods import Object, event, found, pod, waiting


def claiming() -> tuple[Object, Object]:
    volumes = [{"name": "dags", "persistentVolumeClaim": {"claimName": "dags"}}]
    claim = {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "dags", "uid": "7"},
        "status": {"phase": "Pending"},
    }
    return pod(spec={"volumes": volumes}), claim


def test_a_claim_without_a_storage_class_is_found_and_one_that_waits_for_its_pod_is_not() -> None:
    waits, claim = claiming()
    no_class = event("FailedBinding", "no storage class is set", uid="7", kind="Normal")
    [only] = found(waits, claims=(claim,), events=(no_class,))
    assert only.about == "PersistentVolumeClaim dags"
    assert "no storage class is set" in only.why
    later = event("WaitForFirstConsumer", "waiting for first consumer", uid="7", kind="Normal")
    assert found(waits, claims=(claim,), events=(later,)) == []


@pytest.mark.parametrize(
    "early",
    [
        "claim is forbidden: no relationship found between node 'one' and this object",
        "failed to sync secret cache: timed out waiting for the condition",
    ],
)
def test_what_the_node_may_not_see_yet_is_given_more_time_than_what_is_missing(early: str) -> None:
    starting = pod(container=waiting("ContainerCreating"))
    [soon] = found(starting, events=(event("FailedMount", f'for volume "token-x": {early}'),))
    [never] = found(starting, events=(event("FailedMount", 'configmap "x" not found'),))
    assert "cannot be mounted" in soon.why
    assert soon.patience > 3 * never.patience


STARTING = pod(container=waiting("ContainerCreating"))


@pytest.mark.parametrize("reason", ["Pulling", "Pulled", "Created", "Started"])
def test_a_volume_that_was_mounted_in_the_end_is_no_finding(reason: str) -> None:
    failed = event("FailedMount", 'configmap "x" not found', second=3)
    assert found(STARTING, events=(failed, event(reason, "x", kind="Normal", second=3))) == []
    [only] = found(STARTING, events=(failed, event(reason, "x", kind="Normal", second=2)))
    assert 'configmap "x" not found' in only.why


def attached(volume: str, *, second: int) -> Object:
    message = f'AttachVolume.Attach succeeded for volume "{volume}"'
    return event("SuccessfulAttachVolume", message, kind="Normal", second=second)


def test_a_volume_that_was_attached_in_the_end_is_no_finding_and_another_one_is() -> None:
    message = 'Multi-Attach error for volume "one" Volume is already used by pod(s) old'
    failed = event("FailedAttachVolume", message, second=1)
    assert found(STARTING, events=(failed, attached("one", second=9))) == []
    [only] = found(STARTING, events=(failed, attached("two", second=9)))
    assert "Multi-Attach error" in only.why
    late = event("FailedMount", "unmounted volumes=[dags]: timed out", second=5)
    assert found(STARTING, events=(late, attached("one", second=6))) == []


def test_a_volume_that_was_attached_hides_no_other_failure() -> None:
    first = event("FailedAttachVolume", 'failed for volume "one"', second=1)
    second = event("FailedAttachVolume", 'failed for volume "two"', second=2)
    [only] = found(STARTING, events=(first, second, attached("two", second=3)))
    assert '"one"' in only.why
