"""Somebody's `okteto up` in the namespace that windsock deploys to."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from windsock.cluster.api.client import MANAGED
from windsock.cluster.dev_mode import CLONE, DEV, is_clone, is_replaced
from windsock.cluster.manifests.apply import apply
from windsock.cluster.manifests.difference import diff
from windsock.cluster.manifests.inventory import outdated
from windsock.cluster.rollout import follow as rollout

if TYPE_CHECKING:
    import pytest

Object = dict[str, Any]

TRIGGERER: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "airflow-triggerer",
        "labels": {**MANAGED, "app.kubernetes.io/component": "triggerer"},
    },
    "spec": {"replicas": 1, "template": {"spec": {"containers": [{"image": "airflow:1"}]}}},
}


class FakeCluster:
    """A namespace with Deployments alone; what is applied is merged by the fields that we name."""

    namespace = "anna"

    def __init__(self, *objects: Object) -> None:
        self.objects = {item["metadata"]["name"]: copy.deepcopy(item) for item in objects}
        self.applied: list[Object] = []
        self.deleted: list[str] = []

    def served(self, _versions: object) -> set[tuple[str, str]]:
        return {("apps/v1", "Deployment")}

    def namespaced(self, _version: str, _kind: str) -> bool:
        return True

    def items(self, _version: str, kind: str, *, selector: str = "") -> list[Object]:
        del selector
        return copy.deepcopy(list(self.objects.values())) if kind == "Deployment" else []

    def get(self, _version: str, _kind: str, name: str) -> Object | None:
        return copy.deepcopy(self.objects.get(name))

    def apply(self, item: Object, *, dry_run: bool = False) -> Object:
        before = self.objects.get(item["metadata"]["name"], {"metadata": {}, "spec": {}})
        after = {**before, **item}
        after["metadata"] = {**before["metadata"], **item["metadata"]}
        after["metadata"]["labels"] = {
            **before["metadata"].get("labels", {}),
            **item["metadata"]["labels"],
        }
        after["spec"] = {**before["spec"], **item["spec"]}
        if not dry_run:
            self.applied.append(item)
            self.objects[item["metadata"]["name"]] = after
        return copy.deepcopy(after)

    def delete(self, item: Object) -> bool:
        self.deleted.append(item["metadata"]["name"])
        return self.objects.pop(item["metadata"]["name"], None) is not None

    def patch(self, item: Object, _change: Object) -> Object:
        raise AssertionError(f"{item['metadata']['name']} was restarted")

    def versioned(self) -> None:
        """Give every object a version, as a server does."""
        for item in self.objects.values():
            item["metadata"]["resourceVersion"] = "1"


def taken() -> FakeCluster:
    """A namespace in which `okteto up` has taken the triggerer's place."""
    cluster: Any = FakeCluster()
    apply(cluster, [TRIGGERER], progress=lambda _: None)
    original = cluster.objects["airflow-triggerer"]
    clone = copy.deepcopy(original)
    clone["metadata"]["name"] += "-okteto"
    clone["metadata"]["labels"][CLONE] = "8d3f2c1e"
    original["metadata"]["labels"][DEV] = "true"
    original["spec"]["replicas"] = 0
    cluster.objects[clone["metadata"]["name"]] = clone
    cluster.applied.clear()
    cluster.versioned()
    found: FakeCluster = cluster
    return found


def test_a_clone_is_told_from_what_it_replaces() -> None:
    objects = taken().objects
    assert is_clone(objects["airflow-triggerer-okteto"])
    assert not is_replaced(objects["airflow-triggerer-okteto"])
    assert is_replaced(objects["airflow-triggerer"])
    assert not is_clone(objects["airflow-triggerer"])
    assert not is_replaced(TRIGGERER)


def test_a_deploy_ends_nobodys_okteto_up() -> None:
    cluster: Any = taken()
    done = apply(cluster, [TRIGGERER], progress=lambda _: None)
    assert str(done) == "nothing changed"
    assert cluster.applied == []
    assert cluster.deleted == []
    assert diff(cluster, [TRIGGERER]) == []


def test_a_new_image_reaches_the_original_and_starts_no_pod_beside_the_shell() -> None:
    cluster: Any = taken()
    newer = copy.deepcopy(TRIGGERER)
    newer["spec"]["template"]["spec"]["containers"][0]["image"] = "airflow:2"
    done = apply(cluster, [newer], progress=lambda _: None)
    assert done.changed == ("Deployment airflow-triggerer",)
    live = cluster.objects["airflow-triggerer"]["spec"]
    assert live["template"]["spec"]["containers"] == [{"image": "airflow:2"}]
    assert live["replicas"] == 0
    assert "replicas" not in cluster.applied[0]["spec"]


def test_after_okteto_down_the_number_of_pods_is_ours_again() -> None:
    cluster: Any = taken()
    cluster.delete(cluster.objects["airflow-triggerer-okteto"])
    del cluster.objects["airflow-triggerer"]["metadata"]["labels"][DEV]
    apply(cluster, [TRIGGERER], progress=lambda _: None)
    assert cluster.objects["airflow-triggerer"]["spec"]["replicas"] == 1


def test_what_is_no_clone_is_outdated_as_ever() -> None:
    cluster: Any = taken()
    assert [item["metadata"]["name"] for item in outdated(cluster, set())] == ["airflow-triggerer"]


def test_the_status_says_who_has_taken_its_place() -> None:
    cluster: Any = taken()
    [state] = rollout.states(cluster)
    assert (state.component, state.state) == ("triggerer", "stopped")
    assert "okteto up" in state.detail


def test_a_restart_leaves_the_shell_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster: Any = taken()
    monkeypatch.setattr(rollout, "wait", lambda *_, **__: None)
    rollout.restart(cluster, ["triggerer"], progress=lambda _: None, timeout=1)
