"""Somebody's `okteto up` in the namespace that windsock deploys to."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from windsock.cluster.api.client import MANAGED
from windsock.cluster.dev_mode import CLONE, DEV, is_clone, is_replaced
from windsock.cluster.manifests.apply import apply
from windsock.cluster.manifests.difference import diff
from windsock.cluster.manifests.inventory import outdated
from windsock.cluster.rollout import follow as rollout

if TYPE_CHECKING:
    from tests.unit.cluster.fake_api import FakeApi
    from windsock.cluster.api.client import Cluster

Object = dict[str, Any]

NAME = "airflow-triggerer"
CONTAINER = {"name": "main", "image": "airflow:1"}
TRIGGERER: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": NAME,
        "labels": {**MANAGED, "app.kubernetes.io/component": "triggerer"},
    },
    "spec": {"replicas": 1, "template": {"spec": {"containers": [CONTAINER]}}},
}


def silent(_: str) -> None:
    pass


def labelled(name: str, label: str, value: str, *, replicas: int) -> Object:
    item = copy.deepcopy(TRIGGERER)
    item["metadata"]["name"] = name
    item["metadata"]["labels"][label] = value
    item["spec"]["replicas"] = replicas
    return item


@pytest.fixture(autouse=True)
def api(api: FakeApi) -> FakeApi:
    """A namespace in which `okteto up` has taken the triggerer's place."""
    api.put(labelled(NAME, DEV, "true", replicas=0))
    api.put(labelled(f"{NAME}-okteto", CLONE, "8d3f2c1e", replicas=1))
    return api


def live(api: FakeApi, name: str = NAME) -> Object:
    found = api.find("Deployment", name)
    assert found is not None
    return found


def test_a_clone_differs_from_what_it_replaces(api: FakeApi) -> None:
    items = [live(api), live(api, f"{NAME}-okteto"), TRIGGERER]
    assert [is_replaced(item) for item in items] == [True, False, False]
    assert [is_clone(item) for item in items] == [False, True, False]


def test_a_deploy_ends_nobodys_okteto_up(api: FakeApi, cluster: Cluster) -> None:
    apply(cluster, [TRIGGERER], progress=silent)
    assert live(api)["spec"]["replicas"] == 0
    api.asked.clear()
    done = apply(cluster, [TRIGGERER], progress=silent)
    assert str(done) == "nothing changed"
    assert api.writes() == []
    assert diff(cluster, [TRIGGERER]) == []


def test_a_new_image_reaches_the_original_and_starts_no_pod_beside_the_shell(
    api: FakeApi, cluster: Cluster
) -> None:
    newer = copy.deepcopy(TRIGGERER)
    newer["spec"]["template"]["spec"]["containers"][0]["image"] = "airflow:2"
    done = apply(cluster, [newer], progress=silent)
    assert done.changed == (f"Deployment {NAME}",)
    spec = live(api)["spec"]
    assert spec["template"]["spec"]["containers"] == [{**CONTAINER, "image": "airflow:2"}]
    assert spec["replicas"] == 0


def test_after_okteto_down_the_number_of_pods_is_ours_again(api: FakeApi, cluster: Cluster) -> None:
    api.remove(live(api, f"{NAME}-okteto"))
    api.put({**TRIGGERER, "spec": {**TRIGGERER["spec"], "replicas": 0}})
    apply(cluster, [TRIGGERER], progress=silent)
    assert live(api)["spec"]["replicas"] == 1


def test_what_is_no_clone_is_outdated_as_ever(cluster: Cluster) -> None:
    assert [item["metadata"]["name"] for item in outdated(cluster, set())] == [NAME]


def test_the_status_names_who_has_taken_its_place(cluster: Cluster) -> None:
    [state] = rollout.states(cluster)
    assert (state.component, state.state) == ("triggerer", "stopped")
    assert "okteto up" in state.detail


def test_a_restart_does_not_touch_the_shell(api: FakeApi, cluster: Cluster) -> None:
    rollout.restart(cluster, ["triggerer"], progress=silent, timeout=1)
    assert api.writes() == []
