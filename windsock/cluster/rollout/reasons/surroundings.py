"""What else is in the namespace of a workload that does not get ready."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from windsock.cluster.api.workloads import component_of, condition, is_going, progress_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windsock.cluster.api.connection import Object

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
