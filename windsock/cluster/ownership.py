"""Whether windsock made a whole cluster, and which environments are in it.

The mark is an object of the cluster itself: any checkout, with any state folder, can read it, and
it is gone when the cluster is. It is written last, so a cluster that has it is complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.cluster.api.client import OURS
from windsock.cluster.api.workloads import has_condition

if TYPE_CHECKING:
    from windsock.cluster.api.client import Cluster

NAMESPACE = "kube-system"
"""Where the mark is: windsock never removes what is in this namespace."""

MARK = "windsock-made-this-cluster"
"""The name of a ConfigMap."""


def mark(cluster: Cluster) -> None:
    """Note in a complete cluster, with the namespace `NAMESPACE`, that windsock made it."""
    data = {"meaning": "`invoke down --cluster` may delete this cluster"}
    cluster.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": MARK}, "data": data}
    )


def is_marked(cluster: Cluster) -> bool:
    """Whether windsock made the cluster; its namespace must be `NAMESPACE`."""
    return cluster.get("v1", "ConfigMap", MARK) is not None


def environments(cluster: Cluster) -> list[str]:
    """All namespaces in which windsock has an environment, up or only its volumes."""
    made = {item["metadata"]["name"] for item in cluster.items("v1", "Namespace", selector=OURS)}
    # In a namespace that windsock did not make, the volumes show an environment.
    claims = cluster.request(
        "GET",
        "/api/v1/persistentvolumeclaims",
        query={"labelSelector": OURS},
        doing="list the volumes of all namespaces",
    )
    return sorted(made | {item["metadata"]["namespace"] for item in claims["items"] or []})


def unready(cluster: Cluster) -> list[str]:
    """The nodes that cannot run pods yet."""
    nodes = cluster.items("v1", "Node")
    return [item["metadata"]["name"] for item in nodes if not has_condition(item, "Ready")]
