"""The reasons for containers that end or do not start, and how long each must last."""

from __future__ import annotations

from unittest.mock import ANY

import pytest
import yaml

from tests.unit.cluster.rollout.reasons.pods import ended, found, pod, waiting


def test_a_pod_on_its_way_is_no_finding() -> None:
    assert found(pod(container=waiting("ContainerCreating"))) == []
    assert found(pod(container={"state": {"running": {}}, "started": False}, phase="Running")) == []


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"])
def test_for_a_missing_image_the_hint_is_to_build_it_or_to_name_a_registry(reason: str) -> None:
    [only] = found(pod(container=waiting(reason, "not found")))
    assert "windsock-airflow:1" in only.why
    assert "invoke build" in only.cause.value
    assert only.patience < 5
    lines = only.cause.value.splitlines()[-3:]
    assert yaml.safe_load("\n".join(lines)) == {"windsock": {"cluster": {"registry": ANY}}}


def test_for_an_image_of_a_registry_the_hint_is_the_secret_to_pull_with() -> None:
    container = waiting("ImagePullBackOff") | {"image": "ghcr.io/anna/windsock-airflow:1"}
    [only] = found(pod(container=container))
    assert "windsock.cluster.pull_secret" in only.cause.value


@pytest.mark.parametrize("kind", ["secret", "configmap"])
def test_what_a_busy_node_has_not_read_yet_is_not_taken_for_missing(kind: str) -> None:
    reason = "CreateContainerConfigError"
    unread = f"failed to sync {kind} cache: timed out waiting for the condition"
    [waits] = found(pod(container=waiting(reason, unread)))
    [missing] = found(pod(container=waiting(reason, f'{kind} "airflow" not found')))
    assert waits.patience > 20
    assert missing.patience < 5


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


def test_the_reason_of_a_container_that_used_up_its_memory_is_the_limit() -> None:
    spec = {"containers": [{"name": "base", "resources": {"limits": {"memory": "2Gi"}}}]}
    loop = waiting("CrashLoopBackOff") | {"lastState": ended(137, "OOMKilled")}
    [only] = found(pod(container=loop, spec=spec))
    assert "more memory than 2Gi" in only.why
