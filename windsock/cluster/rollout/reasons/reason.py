"""Why a workload does not get ready, and what else is in its namespace."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from functools import cached_property
from typing import TYPE_CHECKING

from windsock.cluster.api.workloads import component_of, condition, is_going, progress_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windsock.cluster.api.connection import Object

LINES_HINT = "Above: its last lines."
SILENT_HINT = "Its log is empty."
"""Takes the place of `LINES_HINT` where there are no lines."""


@unique
class Cause(Enum):
    """What is wrong; the value is what to do about it."""

    ENDED = LINES_HINT
    STUCK = f"It starts too slowly or is stuck. {LINES_HINT}"
    WRONG_PROBE = (
        f"It is broken, or its readiness probe in kube/ asks for something else. {LINES_HINT}"
    )
    JOB_FAILED = "`kubectl describe job` shows what became of its pods."
    POD_FAILED = "`kubectl describe pod` shows what became of it."
    NO_PROGRESS = "`kubectl describe deployment` shows what it waits for."

    IMAGE_MISSING = (
        "`invoke build` makes it in this machine's Docker. A cluster whose nodes use another one "
        "needs a registry that both reach; name yours in invoke.yaml:\n"
        "windsock:\n  cluster:\n    registry: ghcr.io/anna"
    )
    IMAGE_REFUSED = (
        "Can the cluster's nodes reach that registry? One that wants a login needs a Secret of it "
        "in the namespace, named in invoke.yaml: windsock.cluster.pull_secret "
        "(docs/kubernetes.md)."
    )
    IMAGE_NAME = "Check the image's name in kube/ and invoke.yaml."
    REGISTRY_SILENT = "The registry does not answer the cluster."

    CONFIGURATION_MISSING = (
        "Something that the container needs is missing: a Secret, a ConfigMap or a key in one."
    )
    NOT_CREATED = "The node cannot make the container."
    NOT_STARTED = "The node cannot start the container: is its command in the image?"

    AFFINITY = "It may only run on the node of other pods: the affinity in kube/."
    NO_CLAIM = "It waits for a volume: `kubectl get pvc,storageclass`."
    NO_ROOM = "Give the cluster more, or ask for less: the requests in kube/."
    NO_NODE = "The cluster's scheduler finds no node for it."

    VOLUME_LOST = "`invoke down --volumes` removes the claim; the next `invoke up` makes another."
    NO_VOLUME = (
        "The cluster needs a default StorageClass, or kube/ must name one: "
        "`kubectl get storageclass`."
    )
    NOT_MOUNTED = "What it names is missing, or the volume is in use on another node."

    QUOTA = "Free some of the namespace's quota, or ask for more: `kubectl get quota`."
    POD_SECURITY = "The namespace enforces a PodSecurity profile that the pod does not fulfil."
    NO_ACCOUNT = "The account that it names is missing: `kubectl get serviceaccount`."
    FORBIDDEN = "The cluster's admission rules forbid the pod."


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why one workload is not ready.

    Attributes:
        cause: What is wrong.
        about: The object, for example `Pod airflow-scheduler-5c9f-x2x`.
        why: What is wrong, one sentence.
        patience: Seconds that the reason must last before it counts as a failure.
        container: Whose last log lines show more; empty if no lines do.
        previous: Whether the lines are of the container before the present one.
    """

    cause: Cause
    about: str
    why: str
    patience: float = 0.0
    container: str = ""
    previous: bool = False

    @property
    def identity(self) -> tuple[str, Cause]:
        """What stays the same while the reason lasts: the words of a message may change."""
        return self.about, self.cause


PREPARING = ("postgres", "migrate")
"""The components that all others wait for, as long as that takes."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """All events, volume claims, workloads of ours and pods of a namespace."""

    events: Sequence[Object] = ()
    claims: Sequence[Object] = ()
    workloads: Sequence[Object] = ()
    pods: Sequence[Object] = ()

    def of(self, item: Object) -> list[Object]:
        """The events about one object, the latest last."""
        uid = item["metadata"]["uid"]
        about = [event for event in self.events if event["involvedObject"].get("uid") == uid]
        return sorted(about, key=time_of)

    @property
    def is_pod_going(self) -> bool:
        """Whether a pod is being deleted, which frees what it uses."""
        return any(is_going(pod) for pod in self.pods)

    @cached_property
    def prepared(self) -> bool:
        """Whether the database runs and is migrated."""
        return all(
            progress_of(item).done for item in self.workloads if component_of(item) in PREPARING
        )

    @cached_property
    def prepared_at(self) -> str:
        """When it was `prepared`, as Kubernetes writes a time; empty if that is not known."""
        times = [
            (item.get("status") or {}).get("completionTime")
            for item in self.workloads
            if component_of(item) in PREPARING
        ]
        times += [
            (condition(pod, "Ready", status="True") or {}).get("lastTransitionTime")
            for pod in self.pods
            if component_of(pod) in PREPARING
        ]
        return max((str(time) for time in times if time), default="")


def time_of(event: Object) -> str:
    """When an event was seen last."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((str(time) for time in times if time), "")
