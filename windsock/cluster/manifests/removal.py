"""Take an environment out of its namespace, and wait until it is gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from windsock.cluster.api import workloads
from windsock.cluster.api.client import OURS, name_of
from windsock.cluster.api.failures import Refusal
from windsock.cluster.api.watching import Interest, ObjectWatcher
from windsock.cluster.api.workloads import is_going
from windsock.cluster.manifests.inventory import KEPT, is_ours, list_all, owned, served_order, some
from windsock.errors import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object

GONE_SECONDS = 120.0
POLL_SECONDS = 0.2

_LASTING = {"Pod", "PersistentVolumeClaim", "StatefulSet", "Deployment", "Job", "DaemonSet"}
"""What may take its time to go."""

_NEEDED = {"Pod", "PersistentVolumeClaim", *workloads.KINDS}
"""What runs and what has data: an account that may not list it cannot know that it is gone."""

_AUTOMATIC = {("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")}


def delete_all(
    cluster: Cluster, *, volumes: bool, progress: Callable[[str], None]
) -> tuple[str, ...]:
    """Delete everything of ours, and wait until it is gone; what others made stays.

    Args:
        cluster: With its namespace.
        volumes: Also the volumes and the Secret; then the namespace too, if windsock made it and
            nothing else is in it.
        progress: Gets what is waited for.

    Returns:
        The kinds that this account may not list: what there may be of them stays.

    Raises:
        Refusal: It may not list a kind of which every environment has objects; nothing was deleted.
        DeadlineExceeded: Something did not go.
    """
    hidden: list[str] = []

    def hide(kind: str, refusal: Refusal) -> None:
        if kind in _NEEDED:
            raise refusal
        hidden.append(kind)

    kinds = [pair for pair in reversed(served_order(cluster)) if volumes or pair[1] not in KEPT]
    pairs = [*kinds, ("v1", "Pod")]
    for listed in list(list_all(cluster, pairs, hidden=hide)):
        for item in listed:
            if not owned(item) and cluster.delete(item):
                progress(f"deleted {name_of(item)}")
    _wait_gone(cluster, pairs, progress=progress)
    if volumes:
        _delete_namespace(cluster, progress=progress)
    return tuple(hidden)


def _wait_gone(
    cluster: Cluster, pairs: Iterable[tuple[str, str]], *, progress: Callable[[str], None]
) -> None:
    followed = [*(pair for pair in pairs if pair[1] in _LASTING), ("apps/v1", "ReplicaSet")]
    interests = [
        Interest(api_version=version, kind=kind, selector=OURS, optional=kind not in _NEEDED)
        for version, kind in followed
    ]
    with ObjectWatcher(cluster, interests) as observer:
        deadline = time.monotonic() + GONE_SECONDS
        while True:
            seen = observer.changes
            remaining = [item for _, kind in followed for item in observer.items(kind)]
            if not remaining:
                return
            for item in remaining:
                # A worker that the scheduler made while it was being deleted itself.
                if item["kind"] == "Pod" and not owned(item) and not is_going(item):
                    cluster.delete(item)
            names = [name_of(item) for item in remaining]
            progress(f"waiting for {some(names)} to go")
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                raise DeadlineExceeded(
                    f"not gone within {GONE_SECONDS:.0f} s: {some(names)}",
                    "A volume goes when no pod uses it, an object when its finalizers are done; "
                    f"`kubectl -n {cluster.namespace} describe` shows more.",
                )
            observer.wait(seen, timeout=seconds)


def _delete_namespace(cluster: Cluster, *, progress: Callable[[str], None]) -> None:
    """Delete the namespace if windsock made it and nothing of others is in it."""
    try:
        found = cluster.get("v1", "Namespace", cluster.namespace)
    except Refusal:
        return  # An account of one namespace: windsock did not make it then.
    if found is None or not is_ours(found):
        return
    hidden: list[str] = []
    everything = list_all(
        cluster,
        [*served_order(cluster), ("v1", "Pod")],
        selector="",
        hidden=lambda kind, _: hidden.append(kind),
    )
    foreign = [
        name_of(item)
        for listed in everything
        for item in listed
        if not is_ours(item) and not _automatic(item)
    ]
    if hidden:
        progress(f"namespace {cluster.namespace} stays: {some(hidden)} of others may be in it")
        return
    if foreign:
        progress(f"namespace {cluster.namespace} stays: {some(foreign)} is in it")
        return
    cluster.delete(found)
    progress(f"waiting for namespace {cluster.namespace} to go")
    deadline = time.monotonic() + GONE_SECONDS
    while cluster.get("v1", "Namespace", cluster.namespace) is not None:
        if time.monotonic() > deadline:
            raise DeadlineExceeded(
                f"namespace {cluster.namespace} was not gone within {GONE_SECONDS:.0f} s",
                f"`kubectl get namespace {cluster.namespace} -o yaml` shows what it waits for.",
            )
        time.sleep(POLL_SECONDS)


def _automatic(item: Object) -> bool:
    """Whether Kubernetes puts this into every namespace, or made it for something else there."""
    named = (item["kind"], item["metadata"]["name"])
    token = item.get("type") == "kubernetes.io/service-account-token"
    return owned(item) or token or named in _AUTOMATIC


def delete_and_wait(cluster: Cluster, item: Object) -> None:
    """Delete one object, unless it is being deleted already, and wait until it is gone.

    Raises:
        DeadlineExceeded: It did not go.
    """
    if not is_going(item):
        cluster.delete(item)
    uid = item["metadata"]["uid"]
    interest = Interest(api_version=item["apiVersion"], kind=item["kind"])
    deadline = time.monotonic() + GONE_SECONDS
    with ObjectWatcher(cluster, [interest]) as observer:
        while True:
            seen = observer.changes
            if all(other["metadata"]["uid"] != uid for other in observer.items(item["kind"])):
                return
            if (seconds := deadline - time.monotonic()) <= 0:
                raise DeadlineExceeded(f"{name_of(item)} was not gone in {GONE_SECONDS:.0f} s")
            observer.wait(seen, timeout=seconds)
