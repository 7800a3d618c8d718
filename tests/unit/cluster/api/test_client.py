from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.unit.cluster.fake_api import FakeApi
    from windsock.cluster.api.client import Cluster


def node(name: str, *images: str) -> dict[str, Any]:
    status = {"images": [{"names": [image]} for image in images]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


def test_images_of_all_nodes_have_the_names_that_manifests_give_them(
    api: FakeApi, cluster: Cluster
) -> None:
    everywhere = ("docker.io/library/postgres:1", "demo-registry:5000/airflow:1")
    api.put(node("one", *everywhere, "airflow:2"))
    api.put(node("two", *everywhere))
    assert cluster.node_images() == {"postgres:1", "demo-registry:5000/airflow:1"}


def test_nodes_that_an_account_may_not_see_have_no_images(api: FakeApi, cluster: Cluster) -> None:
    api.answer("GET", "/nodes$", 403)
    assert cluster.node_images() == set()
