"""A namespace for one test, and small workloads to put into it."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any

from tests.e2e import project
from windsock.cluster.api.client import MANAGED, Cluster
from windsock.cluster.manifests.removal import delete_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cluster.conftest import ClusterAccess

Object = dict[str, Any]

IMAGE = "python:3.12-slim-bookworm"
DEADLINE = 150.0
"""Seconds. The kubelet of Kubernetes 1.20 takes up to a minute to remove a pod that never started;
that of the test bed is changed to do it at once."""
COMPONENT = "app.kubernetes.io/component"


@contextlib.contextmanager
def namespace(access: ClusterAccess, *, going: list[Cluster] | None = None) -> Iterator[Cluster]:
    """A namespace that is gone afterwards.

    Args:
        access: To the cluster under test.
        going: Gets the namespace when its deletion has begun. Without this list the function waits
            for the end of the deletion.
    """
    cluster = Cluster.connect(
        context=access.context,
        namespace=f"room-{uuid.uuid4().hex[:8]}",
        kubeconfig=str(access.kubeconfig),
    )
    cluster.ensure_namespace()
    eventually(lambda: cluster.get("v1", "ServiceAccount", "default"), "the default account")
    try:
        yield cluster
    finally:
        if going is None:
            delete_all(cluster, volumes=True, progress=silent)
        else:
            going.append(cluster)
        if _is_there(cluster):
            cluster.delete(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster.namespace}}
            )


@contextlib.contextmanager
def gone_together() -> Iterator[list[Cluster]]:
    """The list for `namespace`; at the end all of them are waited for together."""
    going: list[Cluster] = []
    yield going
    for cluster in going:
        eventually(lambda: not _is_there(cluster), f"{cluster.namespace} is gone")  # noqa: B023 - at once


def _is_there(cluster: Cluster) -> bool:
    return cluster.get("v1", "Namespace", cluster.namespace) is not None


def silent(_text: str) -> None:
    """Ignore progress."""


def eventually(condition: Callable[[], Any], what: str, *, timeout: float = DEADLINE) -> Any:
    return project.eventually(condition, what, timeout=timeout)


def settings(name: str = "settings", **data: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": dict(MANAGED)},
        "data": data,
    }


def pod_spec(script: str, **more: Any) -> Object:
    """A container that runs a Python script."""
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-u", "-c", script],
        **more,
    }
    return {"terminationGracePeriodSeconds": 1, "containers": [container]}


def deployment(component: str, script: str, *, replicas: int = 1, **more: Any) -> Object:
    labels = {**MANAGED, COMPONENT: component}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": component, "labels": labels},
        "spec": {
            "replicas": replicas,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {COMPONENT: component}},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(script, **more)},
        },
    }


def stateful_set(
    component: str, script: str, *, claim: Object | None = None, **more: Any
) -> Object:
    item = deployment(component, script, **more)
    del item["spec"]["strategy"]
    item |= {"kind": "StatefulSet"}
    item["spec"]["serviceName"] = component
    if claim is not None:
        item["spec"]["volumeClaimTemplates"] = [
            {"metadata": {"name": "data", "labels": dict(MANAGED)}, "spec": claim}
        ]
    return item


def mount_from_node(item: Object, folder: Path) -> None:
    """Let a workload's pods see a folder of their node, at the same path."""
    spec = item["spec"]["template"]["spec"]
    spec["volumes"] = [{"name": "shared", "hostPath": {"path": str(folder)}}]
    for container in spec["containers"]:
        container["volumeMounts"] = [{"name": "shared", "mountPath": str(folder)}]


def job(component: str, script: str, *, tries: int = 1) -> Object:
    labels = {**MANAGED, COMPONENT: component}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": component, "labels": labels},
        "spec": {
            "backoffLimit": tries - 1,
            "template": {
                "metadata": {"labels": labels},
                "spec": {"restartPolicy": "Never", **pod_spec(script)},
            },
        },
    }


def worker(name: str, script: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {**MANAGED, COMPONENT: "worker"}},
        "spec": {"restartPolicy": "Never", **pod_spec(script)},
    }


CLAIM: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
SLEEP = "import signal, time; signal.signal(15, lambda *_: exit(0)); time.sleep(10000)"
