"""What is removed, in which order, what is waited for, and what an account need not see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from windsock.cluster.api.client import MANAGED
from windsock.cluster.api.failures import Refusal
from windsock.cluster.manifests.removal import delete_all
from windsock.errors import DeadlineExceeded

if TYPE_CHECKING:
    from tests.unit.cluster.fake_api import FakeApi
    from windsock.cluster.api.client import Cluster

Object = dict[str, Any]

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "room"}}
OURS = {**NAMESPACE, "metadata": {"name": "room", "labels": dict(MANAGED)}}


def item(kind: str, name: str, *, version: str = "v1", **metadata: Any) -> Object:
    labels = {"labels": dict(MANAGED)}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **labels, **metadata}}


def silent(_: str) -> None:
    """Take progress and say nothing."""


@pytest.fixture
def everything(api: FakeApi) -> None:
    for each in (
        item("ConfigMap", "settings"),
        item("ConfigMap", "theirs", labels={}),
        item("Secret", "airflow-secrets"),
        item("PersistentVolumeClaim", "dags"),
        item("StatefulSet", "postgres", version="apps/v1"),
        item("Deployment", "scheduler", version="apps/v1"),
        item("Pod", "worker"),
    ):
        api.put(each)


def left(api: FakeApi) -> list[str]:
    return sorted(
        f"{each['kind']} {each['metadata']['name']}"
        for each in api.store.all()
        if each["kind"] != "Namespace"
    )


@pytest.mark.usefixtures("everything")
def test_all_goes_but_what_keeps_data_and_what_others_made(api: FakeApi, cluster: Cluster) -> None:
    assert delete_all(cluster, volumes=False, progress=silent) == ()
    assert left(api) == [
        "ConfigMap theirs",
        "PersistentVolumeClaim dags",
        "Secret airflow-secrets",
    ]
    kinds = [line.split("/")[-2] for line in api.writes()]
    assert kinds == ["deployments", "statefulsets", "configmaps", "pods"], "who needs it goes first"


@pytest.mark.usefixtures("everything")
def test_with_the_volumes_all_of_ours_goes_and_a_namespace_of_others_stays(
    api: FakeApi, cluster: Cluster
) -> None:
    delete_all(cluster, volumes=True, progress=silent)
    assert left(api) == ["ConfigMap theirs"]
    assert api.names("Namespace") == ["room"]


@pytest.mark.usefixtures("everything")
def test_a_namespace_of_ours_stays_as_long_as_something_of_others_is_in_it(
    api: FakeApi, cluster: Cluster
) -> None:
    api.put(OURS)
    shown: list[str] = []
    delete_all(cluster, volumes=True, progress=shown.append)
    assert shown[-1] == "namespace room stays: ConfigMap theirs is in it"
    api.remove(item("ConfigMap", "theirs"))
    delete_all(cluster, volumes=True, progress=silent)
    assert api.names("Namespace") == []


def test_a_namespace_stays_where_something_of_others_may_be_hidden(
    api: FakeApi, cluster: Cluster
) -> None:
    api.put(OURS)
    api.answer("GET", "/daemonsets$", 403, times=100)
    shown: list[str] = []
    delete_all(cluster, volumes=True, progress=shown.append)
    assert shown[-1] == "namespace room stays: DaemonSet of others may be in it"
    assert api.names("Namespace") == ["room"]


@pytest.mark.usefixtures("everything")
def test_it_waits_until_what_takes_its_time_is_gone(api: FakeApi, cluster: Cluster) -> None:
    api.put(item("Pod", "worker", finalizers=["slow"]))
    shown: list[str] = []

    def let_it_go(text: str) -> None:
        shown.append(text)
        if text == "waiting for Pod worker to go":
            found = api.find("Pod", "worker")
            assert found is not None
            assert found["metadata"]["deletionTimestamp"]
            api.remove(found)

    delete_all(cluster, volumes=False, progress=let_it_go)
    assert "waiting for Pod worker to go" in shown
    assert api.names("Pod") == []


@pytest.mark.usefixtures("everything")
def test_a_worker_that_is_made_meanwhile_is_deleted_as_well(api: FakeApi, cluster: Cluster) -> None:
    def make_another(text: str) -> None:
        if text == "deleted Pod worker":
            api.put(item("Pod", "late"))

    delete_all(cluster, volumes=False, progress=make_another)
    assert api.names("Pod") == []


def test_what_never_goes_is_named(api: FakeApi, cluster: Cluster) -> None:
    api.put(item("Pod", "stuck", finalizers=["never"]))
    with pytest.raises(DeadlineExceeded, match="Pod stuck"):
        delete_all(cluster, volumes=False, progress=silent, timeout=0.0)


@pytest.mark.usefixtures("everything")
def test_kinds_that_the_account_may_not_list_are_returned_and_the_others_removed(
    api: FakeApi, cluster: Cluster
) -> None:
    api.answer("GET", "/(daemonsets|replicasets|networkpolicies)$", 403, times=100)
    hidden = delete_all(cluster, volumes=False, progress=silent)
    assert sorted(hidden) == ["DaemonSet", "NetworkPolicy"]
    assert "Deployment scheduler" not in left(api)


@pytest.mark.parametrize("kind", ["pods", "deployments", "statefulsets", "jobs"])
@pytest.mark.usefixtures("everything")
def test_who_may_not_look_for_what_runs_is_refused_before_anything_is_deleted(
    api: FakeApi, cluster: Cluster, kind: str
) -> None:
    api.answer("GET", f"/{kind}$", 403, "may not list", times=100)
    with pytest.raises(Refusal, match="may not list"):
        delete_all(cluster, volumes=False, progress=silent)
    assert api.writes() == []
