"""The objects of a namespace: their order, which the cluster serves, which are ours or outdated."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from windsock.cluster.api.client import MANAGED, OURS, name_of
from windsock.cluster.api.failures import FORBIDDEN, Refusal
from windsock.cluster.dev_mode import is_clone
from windsock.errors import EnvironmentFailure
from windsock.terminal import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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

_SERVER_FIELDS = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")
_PARALLEL = 6
_SHOWN = 3

Key = tuple[str, str, str]
"""API version, kind, name."""


def key_of(item: Object) -> Key:
    """What identifies an object in its namespace."""
    return item["apiVersion"], item["kind"], item["metadata"]["name"]


def rank(item: Object) -> int:
    """The place of an object's kind in `ORDER`."""
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
) -> tuple[list[Object], dict[str, Refusal]]:
    """The objects of several kinds, asked for at the same time, in the order of the kinds.

    Args:
        cluster: With its namespace.
        pairs: API version and kind of each.
        selector: Labels; the default selects what is ours.

    Returns:
        The objects, and the refusal of each kind that this account may not list: what we may not
        even list, we have hardly made.
    """
    hidden: dict[str, Refusal] = {}

    def fetch(pair: tuple[str, str]) -> list[Object]:
        try:
            return cluster.items(*pair, selector=selector)
        except Refusal as error:
            if error.code != FORBIDDEN:
                raise
            hidden[pair[1]] = error
            return []

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="windsock-list") as pool:
        return [item for listed in pool.map(fetch, pairs) for item in listed], hidden


def only_served(
    cluster: Cluster, objects: Sequence[Object], *, skip_unserved: bool
) -> tuple[list[Object], list[Object]]:
    """The objects whose kind the cluster serves, and the others.

    Raises:
        EnvironmentFailure: There are others, and `skip_unserved` is not set.
    """
    known = cluster.served(item["apiVersion"] for item in objects)
    missing = [item for item in objects if (item["apiVersion"], item["kind"]) not in known]
    if missing and not skip_unserved:  # Kubernetes 1.20 only: the flag, for policy/v1
        named = ", ".join(f"{name_of(item)} ({item['apiVersion']})" for item in missing)
        raise EnvironmentFailure(
            f"the cluster does not serve {named}; nothing was changed",
            "Choose an overlay without it, or go on without it: `--skip-unserved`.",
        )
    return [item for item in objects if item not in missing], missing


def owned(item: Object) -> bool:
    """Whether another object made this one, and takes it along when it is deleted."""
    return bool(item["metadata"].get("ownerReferences"))


def is_ours(item: Object) -> bool:
    """Whether windsock applied it, or Kubernetes made it for something that windsock applied."""
    labels = item["metadata"].get("labels") or {}
    return MANAGED.items() <= labels.items()


def outdated(cluster: Cluster, wanted: set[Key]) -> list[Object]:
    """What windsock applied once and is not wanted; never volumes, Secrets or what others made."""
    pairs = dict.fromkeys([*served_order(cluster), *(key[:2] for key in wanted)])
    return [
        item
        for item in list_all(cluster, [pair for pair in pairs if pair[1] not in KEPT])[0]
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
    metadata = _without(item["metadata"], *_SERVER_FIELDS)
    annotations = _without(metadata.pop("annotations", None) or {}, APPLIED, REVISION)
    if annotations:
        metadata["annotations"] = annotations
    return {**_without(item, "status"), "metadata": metadata}


def _without(fields: Object, *names: str) -> Object:
    return {name: value for name, value in fields.items() if name not in names}


def some(names: Sequence[str]) -> str:
    """The first few of some names, and how many more there are."""
    return words.some(names, most=_SHOWN)
