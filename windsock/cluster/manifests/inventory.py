"""The objects of a namespace: in which order, which are ours, and which of them others made."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from windsock.cluster.api.client import MANAGED, OURS
from windsock.cluster.api.failures import FORBIDDEN, Refusal
from windsock.cluster.dev_mode import is_clone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object

APPLIED = "windsock.dev/applied"
"""Annotation: a digest of the manifest as it was applied."""
REVISION = "deployment.kubernetes.io/revision"
"""Annotation: written by Kubernetes' controller of Deployments, a moment after each change."""

ORDER: tuple[tuple[str, str], ...] = (
    ("v1", "ResourceQuota"),
    ("v1", "LimitRange"),
    ("v1", "ServiceAccount"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Service"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "Job"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "CronJob"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("networking.k8s.io/v1", "Ingress"),
)
"""What others need comes first; all other kinds come last."""

KEPT = {"PersistentVolumeClaim", "Secret"}
"""Never pruned: data, and the keys that go with them."""

_PARALLEL = 6
_SHOWN = 3

Key = tuple[str, str, str]
"""API version, kind, name."""


def key_of(item: Object) -> Key:
    """What identifies an object in its namespace."""
    return item["apiVersion"], item["kind"], item["metadata"]["name"]


def rank(item: Object) -> int:
    """The place of an object in `ORDER`."""
    pair = (item["apiVersion"], item["kind"])
    return ORDER.index(pair) if pair in ORDER else len(ORDER)


def served_order(cluster: Cluster) -> list[tuple[str, str]]:
    """The kinds of `ORDER` that the cluster serves."""
    known = cluster.served(version for version, _ in ORDER)
    return [pair for pair in ORDER if pair in known]


def list_all(
    cluster: Cluster,
    pairs: Iterable[tuple[str, str]],
    *,
    selector: str = OURS,
    hidden: Callable[[str, Refusal], None] = lambda *_: None,
) -> Iterator[list[Object]]:
    """The objects of several kinds, asked for at the same time, in the order of the kinds.

    Args:
        cluster: With its namespace.
        pairs: API version and kind of each.
        selector: Labels; the default selects what is ours.
        hidden: Told of each kind that this account may not list; may raise the refusal. Nothing of
            it is among the objects: what we may not even list, we have hardly made.
    """

    def fetch(pair: tuple[str, str]) -> list[Object]:
        try:
            return cluster.items(*pair, selector=selector)
        except Refusal as error:
            if error.code != FORBIDDEN:
                raise
            hidden(pair[1], error)
            return []

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="windsock-list") as pool:
        yield from pool.map(fetch, pairs)


def owned(item: Object) -> bool:
    """Whether another object made it, and takes it along when it goes."""
    return bool(item["metadata"].get("ownerReferences"))


def is_ours(item: Object) -> bool:
    """Whether windsock applied it, or Kubernetes made it for something that windsock applied."""
    labels = item["metadata"].get("labels") or {}
    return MANAGED.items() <= labels.items()


def outdated(cluster: Cluster, wanted: set[Key]) -> list[Object]:
    """What windsock applied once and is not wanted; never volumes, Secrets or what others made.

    Args:
        cluster: With its namespace.
        wanted: Every object that stays.
    """
    pairs = dict.fromkeys(
        [*served_order(cluster), *((version, kind) for version, kind, _ in wanted)]
    )
    return [
        item
        for listed in list_all(cluster, [pair for pair in pairs if pair[1] not in KEPT])
        for item in listed
        if key_of(item) not in wanted and not owned(item) and not is_clone(item)
    ]


# Kubernetes 1.20 only
def explicit(item: Object) -> Object:
    """A copy with the protocol of every port written out.

    It is part of a port's key when an object is applied on the server; Kubernetes 1.20 refuses
    a port without it, newer servers fill in this value.
    """
    copied = copy.deepcopy(item)
    spec = copied.get("spec") or {}
    ports = list(spec.get("ports") or []) if item["kind"] == "Service" else []
    pod = spec if item["kind"] == "Pod" else (spec.get("template") or {}).get("spec") or {}
    for container in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]:
        ports += container.get("ports") or []
    for port in ports:
        port.setdefault("protocol", "TCP")
    return copied


def visible(item: Object) -> Object:
    """The object without the fields that the cluster writes for itself."""
    metadata = {
        key: value
        for key, value in item["metadata"].items()
        if key not in {"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"}
    }
    annotations = {
        key: value
        for key, value in (metadata.pop("annotations", None) or {}).items()
        if key not in {APPLIED, REVISION}
    }
    shown = {key: value for key, value in item.items() if key not in {"status", "metadata"}}
    return {
        **shown,
        "metadata": {**metadata, **({"annotations": annotations} if annotations else {})},
    }


def some(names: Sequence[str]) -> str:
    """The first few of some names, and how many more there are."""
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
