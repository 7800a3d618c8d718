"""Remove an environment from its namespace, and wait until it is gone."""

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
    from collections.abc import Callable, Sequence

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object

GONE_SECONDS = 120.0
POLL_SECONDS = 0.2

_NEEDED = {"Pod", "PersistentVolumeClaim", *workloads.KINDS}
"""What runs and what has data: an account that may not list it cannot know that it is gone."""

_SLOW = {*_NEEDED, "DaemonSet"}
"""What may exist for some time after it was deleted."""

_AUTOMATIC = {("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")}


def delete_all(
    cluster: Cluster,
    *,
    volumes: bool,
    progress: Callable[[str], None],
    timeout: float = GONE_SECONDS,
) -> tuple[str, ...]:
    """Delete everything of ours, and wait until it is gone; what others made stays.

    With `volumes` also the volumes and the Secret; then the namespace too, if windsock made it and
    nothing else is in it. The timeout counts for the objects, and once more for the namespace.

    Returns:
        The kinds that this account may not list: objects of these kinds may stay.

    Raises:
        Refusal: The account may not list a kind of which every environment has objects; nothing
            was deleted.
        DeadlineExceeded: An object did not go.
    """
    kinds = [pair for pair in reversed(served_order(cluster)) if volumes or pair[1] not in KEPT]
    pairs = [*kinds, ("v1", "Pod")]
    items, hidden = list_all(cluster, pairs)
    for kind, refusal in hidden.items():
        if kind in _NEEDED:
            raise refusal
    for item in items:
        if not owned(item) and cluster.delete(item):
            progress(f"deleted {name_of(item)}")
    slow = [*(pair for pair in pairs if pair[1] in _SLOW), ("apps/v1", "ReplicaSet")]
    interests = [
        Interest(api_version=version, kind=kind, selector=OURS, optional=kind not in _NEEDED)
        for version, kind in slow
    ]
    _wait_until_gone(cluster, interests, lambda _: True, progress=progress, timeout=timeout)
    if volumes:
        _delete_namespace(cluster, progress=progress, timeout=timeout)
    return tuple(hidden)


def delete_and_wait(cluster: Cluster, item: Object) -> None:
    """Delete one object, unless it is being deleted already, and wait until it is gone.

    Raises:
        DeadlineExceeded: The object did not go.
    """
    if not is_going(item):
        cluster.delete(item)
    uid = item["metadata"]["uid"]
    _wait_until_gone(
        cluster,
        [Interest(api_version=item["apiVersion"], kind=item["kind"])],
        lambda other: other["metadata"]["uid"] == uid,
    )


def _wait_until_gone(
    cluster: Cluster,
    interests: Sequence[Interest],
    is_awaited: Callable[[Object], bool],
    *,
    progress: Callable[[str], None] = lambda _: None,
    timeout: float = GONE_SECONDS,
) -> None:
    with ObjectWatcher(cluster, interests) as watcher:
        deadline = time.monotonic() + timeout
        while True:
            seen = watcher.changes
            items = [item for interest in interests for item in watcher.items(interest.kind)]
            remaining = [item for item in items if is_awaited(item)]
            if not remaining:
                return
            for item in remaining:
                # A worker that the scheduler made while the scheduler was being deleted.
                if item["kind"] == "Pod" and not owned(item) and not is_going(item):
                    cluster.delete(item)
            names = some([name_of(item) for item in remaining])
            progress(f"waiting for {names} to go")
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                raise DeadlineExceeded(
                    f"not gone within {timeout:.0f} s: {names}",
                    "A volume goes when no pod uses it, an object when its finalizers are done; "
                    f"`kubectl -n {cluster.namespace} describe` shows more.",
                )
            watcher.wait(seen, timeout=seconds)


def _delete_namespace(cluster: Cluster, *, progress: Callable[[str], None], timeout: float) -> None:
    """Delete the namespace if windsock made it and nothing of others is in it."""
    try:
        found = cluster.get("v1", "Namespace", cluster.namespace)
    except Refusal:
        return  # The account is of one namespace, so windsock did not make the namespace.
    if found is None or not is_ours(found):
        return
    everything, hidden = list_all(cluster, [*served_order(cluster), ("v1", "Pod")], selector="")
    foreign = [
        name_of(item) for item in everything if not is_ours(item) and not _is_automatic(item)
    ]
    if hidden:
        names = some(list(hidden))
        progress(f"namespace {cluster.namespace} stays: {names} of others may be in it")
        return
    if foreign:
        progress(f"namespace {cluster.namespace} stays: {some(foreign)} is in it")
        return
    cluster.delete(found)
    progress(f"waiting for namespace {cluster.namespace} to go")
    deadline = time.monotonic() + timeout
    while cluster.get("v1", "Namespace", cluster.namespace) is not None:
        if time.monotonic() > deadline:
            raise DeadlineExceeded(
                f"namespace {cluster.namespace} was not gone within {timeout:.0f} s",
                f"`kubectl get namespace {cluster.namespace} -o yaml` shows what it waits for.",
            )
        time.sleep(POLL_SECONDS)


def _is_automatic(item: Object) -> bool:
    """Whether Kubernetes puts this into every namespace, or made it for something else there."""
    named = (item["kind"], item["metadata"]["name"])
    token = item.get("type") == "kubernetes.io/service-account-token"
    return owned(item) or token or named in _AUTOMATIC
