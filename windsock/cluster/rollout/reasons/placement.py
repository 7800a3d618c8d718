"""Pods without a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.cluster.api.client import name_of
from windsock.cluster.api.workloads import condition
from windsock.cluster.rollout.reasons.reason import Cause, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windsock.cluster.api.connection import Object
    from windsock.cluster.rollout.reasons.surroundings import Surroundings


def placement(pod: Object, around: Surroundings) -> Iterator[Reason]:
    """A pod that fits on no node, unless the pod waits for another one or for a new node."""
    placed = condition(pod, "PodScheduled", status="False")
    if placed is None or placed.get("reason") != "Unschedulable":
        return
    events = around.of(pod)
    if any(event["reason"] == "TriggeredScaleUp" for event in events):
        return
    message = str(placed.get("message", ""))
    if "pod affinity" in message:
        if _waits_for_another(pod, around):
            return
        cause, patience = Cause.AFFINITY, 20.0  # Kubernetes tries again within ten seconds.
    elif "unbound" in message or "persistentvolumeclaim" in message.lower():
        cause, patience = Cause.NO_CLAIM, 20.0
    elif "Insufficient" in message:
        cause, patience = Cause.NO_ROOM, 60.0 if around.is_pod_going else 6.0
    else:
        cause, patience = Cause.NO_NODE, 8.0
    why = f"it cannot be scheduled: {message}"
    yield Reason(cause=cause, about=name_of(pod), why=why, patience=patience)


def _waits_for_another(pod: Object, around: Surroundings) -> bool:
    """Whether a pod may only run beside other pods, and these have no node yet."""
    affinity = (pod["spec"].get("affinity") or {}).get("podAffinity") or {}
    for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or []:
        wanted = ((term.get("labelSelector") or {}).get("matchLabels") or {}).items()
        neighbours = [
            other
            for other in around.pods
            if wanted and wanted <= (other["metadata"].get("labels") or {}).items()
        ]
        if neighbours and not any(other["spec"].get("nodeName") for other in neighbours):
            return True
    return False
