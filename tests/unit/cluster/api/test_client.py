from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windsock.cluster.api.client import Cluster

if TYPE_CHECKING:
    import pytest


def node(*names: str) -> dict[str, Any]:
    return {"status": {"images": [{"names": [name]} for name in names]}}


def test_images_of_all_nodes_have_the_names_that_manifests_give_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = [
        node("docker.io/library/postgres:1", "demo-registry:5000/airflow:1", "airflow:2"),
        node("docker.io/library/postgres:1", "demo-registry:5000/airflow:1"),
    ]
    monkeypatch.setattr(Cluster, "items", lambda *_: nodes)
    cluster = Cluster.__new__(Cluster)  # Asked for its nodes alone, it needs no connection.
    assert cluster.node_images() == {"postgres:1", "demo-registry:5000/airflow:1"}
