"""Pods without a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.cluster.api.workloads import condition
from windsock.cluster.rollout.reasons.reason import Cause, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windsock.cluster.api.connection import Object
    from windsock.cluster.rollout.reasons.surroundings import Surroundings


def placement(pod: Object, around: Surroundings) -> Iterator[Reason]:
    """A pod that fits on no node, unless it waits for another pod or for a node to be added."""
    placed = condition(pod, "PodScheduled", status="False")
    if placed is None or placed.get("reason") != "Unschedulable":
        return
    events = around.of(pod)
    if any(event["reason"] == "TriggeredScaleUp" for event in events):
        return  # a node is being added for it
    message = str(placed.get("message", ""))
    if "pod affinity" in message and _waits_for_another(pod, around):
        return
    if "pod affinity" in message:
        cause = Cause.AFFINITY
        patience = 20.0  # Kubernetes tries again within ten seconds
    elif "unbound" in message or "persistentvolumeclaim" in message.lower():
        cause = Cause.NO_CLAIM
        patience = 20.0
    elif "Insufficient" in message:
        cause = Cause.NO_ROOM
        patience = 60.0 if around.is_pod_going else 6.0
    else:
        cause = Cause.NO_NODE
        patience = 8.0
    yield Reason(
        cause=cause,
        about=f"Pod {pod['metadata']['name']}",
        why=f"it cannot be scheduled: {message}",
        patience=patience,
    )


def _waits_for_another(pod: Object, around: Surroundings) -> bool:
    """Whether it may only run where pods do that have no node yet: look at those instead."""
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
