"""Applying, comparing and removing on a real API server: tests/contract/cluster, and more."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest

from tests.cluster.room import (
    CLAIM,
    SLEEP,
    deployment,
    eventually,
    gone_together,
    job,
    namespace,
    settings,
    silent,
    stateful_set,
    worker,
)
from tests.contract.cluster.test_apply import *  # noqa: F403 - its cases are the point
from tests.contract.cluster.test_apply import everything
from windsock.cluster.api.failures import Refusal
from windsock.cluster.manifests.apply import apply
from windsock.cluster.manifests.removal import delete_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import ClusterAccess
    from windsock.cluster.api.client import Cluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def going(cluster: ClusterAccess) -> Iterator[list[Cluster]]:
    del cluster  # It must be there until they are gone.
    with gone_together() as going:
        yield going


@pytest.fixture
def room(cluster: ClusterAccess, going: list[Cluster]) -> Iterator[Cluster]:
    with namespace(cluster, going=going) as room:
        yield room


def test_what_cannot_be_changed_says_what_to_do(room: Cluster) -> None:
    before = stateful_set("postgres", SLEEP, replicas=0, claim=CLAIM)
    apply(room, [before], progress=silent)
    after = copy.deepcopy(before)
    after["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = "128Mi"
    with pytest.raises(Refusal, match="StatefulSet postgres") as refused:
        apply(room, [after], progress=silent)
    assert "invoke down" in refused.value.hint


def test_an_object_the_server_does_not_understand_is_refused_with_its_words(room: Cluster) -> None:
    broken = settings(key="value")
    broken["data"]["key"] = {"not": "a string"}
    with pytest.raises(Refusal, match="apply ConfigMap settings"):
        apply(room, [broken], progress=silent)


def test_a_job_that_failed_is_tried_again(room: Cluster) -> None:
    failing = job("migrate", "raise SystemExit(3)")
    apply(room, [failing], progress=silent)

    def failed() -> bool:
        found = room.get("batch/v1", "Job", "migrate") or {"status": {}}
        return any(item["type"] == "Failed" for item in found["status"].get("conditions") or [])

    eventually(failed, "the Job has failed")
    assert apply(room, [failing], progress=silent).created == ("Job migrate",)


def test_removing_waits_until_pods_are_gone_and_keeps_volumes_and_what_others_made(
    room: Cluster,
) -> None:
    room.create({**settings(), "metadata": {"name": "theirs"}})
    apply(room, [deployment("scheduler", SLEEP), everything()[-1]], progress=silent)
    room.create(worker("task", SLEEP))
    eventually(lambda: len(room.items("v1", "Pod")) == 2, "both pods")
    delete_all(room, volumes=False, progress=silent)
    assert room.items("v1", "Pod") == []
    assert room.items("apps/v1", "Deployment") == []
    assert room.get("v1", "PersistentVolumeClaim", "dags") is not None
    delete_all(room, volumes=True, progress=silent)
    assert room.items("v1", "PersistentVolumeClaim") == []
    assert room.get("v1", "ConfigMap", "theirs") is not None


def test_the_namespace_goes_with_the_volumes_if_windsock_made_it(room: Cluster) -> None:
    apply(room, everything(), progress=silent)
    delete_all(room, volumes=True, progress=silent)
    assert room.get("v1", "Namespace", room.namespace) is None
