"""What applying does beside the cases of tests/contract/cluster: its order, and what goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from windsock.cluster.api.client import MANAGED
from windsock.cluster.api.failures import Refusal
from windsock.cluster.manifests.apply import apply
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from tests.unit.cluster.fake_api import FakeApi
    from windsock.cluster.api.client import Cluster

Object = dict[str, Any]


def item(kind: str, name: str, *, version: str = "v1", **more: Any) -> Object:
    metadata = {"name": name, "labels": dict(MANAGED)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


MIGRATE = item("Job", "migrate", version="batch/v1", spec={})
EVERYTHING = [
    item("Deployment", "scheduler", version="apps/v1", spec={}),
    MIGRATE,
    item("StatefulSet", "postgres", version="apps/v1", spec={}),
    item("PersistentVolumeClaim", "dags"),
    item("ConfigMap", "settings", data={}),
]


def silent(_: str) -> None:
    """Take progress and say nothing."""


def written(api: FakeApi) -> list[str]:
    """The method and the kind of each change, in order."""
    lines = [line.split() for line in api.writes()]
    return [f"{method} {path.split('/')[-2]}" for method, path in lines]


def test_what_others_need_comes_first_and_what_is_outdated_goes_last(
    api: FakeApi, cluster: Cluster
) -> None:
    api.put(item("ConfigMap", "old"))
    done = apply(cluster, EVERYTHING, progress=silent)
    assert written(api) == [
        "PATCH configmaps",
        "PATCH persistentvolumeclaims",
        "PATCH statefulsets",
        "PATCH jobs",
        "PATCH deployments",
        "DELETE configmaps",
    ]
    assert str(done) == "5 created, 1 removed"
    api.asked.clear()
    assert str(apply(cluster, EVERYTHING, progress=silent)) == "nothing changed"
    assert api.writes() == []


def test_an_outdated_object_that_another_one_made_is_left_to_it(
    api: FakeApi, cluster: Cluster
) -> None:
    made = item("ConfigMap", "made")
    made["metadata"]["ownerReferences"] = [{"uid": "somebody"}]
    api.put(made)
    apply(cluster, EVERYTHING, progress=silent)
    assert "made" in api.names("ConfigMap")


def test_a_change_of_somebody_else_at_the_same_moment_is_an_error(
    api: FakeApi, cluster: Cluster
) -> None:
    api.answer("PATCH", "/configmaps/", 409, "the object has been modified")
    with pytest.raises(Refusal, match="apply ConfigMap settings: the object has been") as refused:
        apply(cluster, EVERYTHING, progress=silent)
    assert "Somebody else changed it" in refused.value.hint
    assert api.names("StatefulSet") == []


def test_nothing_is_pruned_where_applying_failed(api: FakeApi, cluster: Cluster) -> None:
    api.put(item("ConfigMap", "old"))
    api.answer("PATCH", "/deployments/", 422, "it is wrong")
    with pytest.raises(Refusal, match="it is wrong"):
        apply(cluster, EVERYTHING, progress=silent)
    assert "old" in api.names("ConfigMap")


def test_what_somebody_else_made_keeps_everything_from_being_changed(
    api: FakeApi, cluster: Cluster
) -> None:
    theirs = item("StatefulSet", "postgres", version="apps/v1")
    theirs["metadata"]["labels"] = {}
    api.put(theirs)
    with pytest.raises(EnvironmentFailure, match="StatefulSet postgres in namespace room was not"):
        apply(cluster, EVERYTHING, progress=silent)
    assert api.writes() == []


def test_a_job_that_failed_is_made_anew(api: FakeApi, cluster: Cluster) -> None:
    apply(cluster, [MIGRATE], progress=silent)
    failed = api.find("Job", "migrate")
    assert failed is not None
    before = failed["metadata"]["uid"]
    failed["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
    api.put(failed)
    shown: list[str] = []
    assert apply(cluster, [MIGRATE], progress=shown.append).created == ("Job migrate",)
    after = api.find("Job", "migrate")
    assert after is not None
    assert after["metadata"]["uid"] != before
    assert shown == ["waiting for the old Job migrate to go", "Job migrate"]


def test_the_account_needs_not_list_what_it_does_not_apply(api: FakeApi, cluster: Cluster) -> None:
    api.answer("GET", "/daemonsets$", 403, times=10)
    assert len(apply(cluster, EVERYTHING, progress=silent).created) == len(EVERYTHING)
