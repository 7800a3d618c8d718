"""How far a Deployment, a StatefulSet or a Job is, and which pods are its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from windsock.cluster.api.client import OURS
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object

COMPONENT = "app.kubernetes.io/component"
KINDS = {
    "StatefulSet": "apps/v1",
    "Job": "batch/v1",
    "Deployment": "apps/v1",
}
"""Kind → API version, in the order in which they are waited for."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a workload is.

    Attributes:
        ready: How many pods are ready (or, of a Job, have ended well), of this revision.
        wanted: How many there should be.
        done: Whether all wanted pods are ready, and those of older revisions are gone.
    """

    ready: int
    wanted: int
    done: bool


def component_of(item: Object) -> str:
    """The component that an object belongs to, or its name where it has none."""
    labels = item["metadata"].get("labels") or {}
    return str(labels.get(COMPONENT, item["metadata"]["name"]))


def progress_of(workload: Object) -> Progress:
    """How far a workload is, by its status on the cluster."""
    spec, status = workload["spec"], workload.get("status") or {}
    if workload["kind"] == "Job":
        wanted = int(spec.get("completions") or 1)
        complete = has_condition(workload, "Complete")
        return Progress(ready=int(status.get("succeeded") or 0), wanted=wanted, done=complete)
    wanted = int(spec.get("replicas", 1))
    seen = status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 0)
    updated = int(status.get("updatedReplicas") or 0) if seen else 0
    if workload["kind"] == "StatefulSet" and status.get("currentRevision") == status.get(
        "updateRevision"
    ):
        updated = int(status.get("replicas") or 0) if seen else 0  # counted only while it changes
    ready = min(updated, int(status.get("readyReplicas") or 0))
    present = int(status.get("replicas") or 0)
    return Progress(ready=ready, wanted=wanted, done=seen and ready == wanted == updated == present)


def has_condition(item: Object, kind: str) -> bool:
    """Whether a condition of an object is true."""
    return condition(item, kind, status="True") is not None


def condition(item: Object, kind: str, *, status: str) -> dict[str, Any] | None:
    """The condition of a kind with this status."""
    for found in (item.get("status") or {}).get("conditions") or []:
        if found["type"] == kind and found["status"] == status:
            return dict(found)
    return None


def _owned_by(item: Object, owner: Object) -> bool:
    references = item["metadata"].get("ownerReferences") or []
    return any(reference["uid"] == owner["metadata"]["uid"] for reference in references)


def makers(workload: Object, replica_sets: Iterable[Object]) -> list[Object]:
    """What makes the pods of a workload's present revision: itself, or one ReplicaSet."""
    if workload["kind"] != "Deployment":
        return [workload]
    sets = (item for item in replica_sets if _owned_by(item, workload))
    return [item for item in sets if _revision(item) == _revision(workload)]


def pods_of(
    workload: Object, *, replica_sets: Iterable[Object], pods: Iterable[Object]
) -> tuple[list[Object], list[Object]]:
    """The pods of a workload's present revision, and those of older revisions."""
    sets = [item for item in replica_sets if _owned_by(item, workload)]
    present = makers(workload, sets)
    current: list[Object] = []
    older: list[Object] = []
    for pod in pods:
        if any(_owned_by(pod, maker) for maker in present) and _is_updated(pod, workload):
            current.append(pod)
        elif any(_owned_by(pod, maker) for maker in [workload, *sets]):
            older.append(pod)
    return sorted(current, key=_born), sorted(older, key=_born)


def _revision(item: Object) -> str | None:
    return (item["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision")


def _is_updated(pod: Object, workload: Object) -> bool:
    if workload["kind"] != "StatefulSet":
        return True
    revision = (workload.get("status") or {}).get("updateRevision")
    labels = pod["metadata"].get("labels") or {}
    return bool(labels.get("controller-revision-hash") == revision)


def _born(pod: Object) -> str:
    return str(pod["metadata"].get("creationTimestamp", ""))


def is_going(item: Object) -> bool:
    """Whether an object is being deleted."""
    return bool(item["metadata"].get("deletionTimestamp"))


def newest_ready(pods: Iterable[Object]) -> Object | None:
    """The newest pod that is ready and not being deleted."""
    ready = [pod for pod in pods if has_condition(pod, "Ready") and not is_going(pod)]
    return max(ready, key=lambda pod: (_born(pod), pod["metadata"]["name"]), default=None)


def selector(component: str) -> str:
    """The label selector of what windsock applied for a component."""
    return f"{OURS},{COMPONENT}={component}"


def ready_pod(cluster: Cluster, component: str) -> Object:
    """The newest pod of a component, say `dag-processor`, that is ready.

    Raises:
        EnvironmentFailure: There is none at the moment.
    """
    pods = cluster.items("v1", "Pod", selector=selector(component))
    ready = newest_ready(pods)
    if ready is None:
        state = ", ".join(str(pod["status"].get("phase", "")).lower() for pod in pods) or "none"
        raise EnvironmentFailure(
            f"no pod of {component} is ready in namespace {cluster.namespace} (pods: {state})",
            "`invoke status` shows what it waits for; `invoke up` brings it up.",
        )
    return ready


def containers(pod: Object) -> Iterator[dict[str, Any]]:
    """The status of each container; init containers, which run first, come first."""
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []
