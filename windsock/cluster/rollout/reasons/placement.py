"""Pods without a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.cluster.api.workloads import condition
from windsock.cluster.rollout.reasons.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windsock.cluster.api.connection import Object
    from windsock.cluster.rollout.reasons.surroundings import Surroundings


def placement(pod: Object, around: Surroundings) -> Iterator[Finding]:
    """A pod that fits on no node, unless it waits for another pod or for a node to be added."""
    placed = condition(pod, "PodScheduled", status="False")
    if placed is None or placed.get("reason") != "Unschedulable":
        return
    events = around.of(pod)
    if any(event["reason"] == "TriggeredScaleUp" for event in events):
        return  # a node is being added for it
    message = str(placed.get("message", ""))
    if "pod affinity" in message and _waits_for_neighbour(pod, around):
        return
    if "pod affinity" in message:
        hint = "It may only run beside other pods: the affinity in kube/."
        patience = 20.0  # Kubernetes tries again within ten seconds
    elif "unbound" in message or "persistentvolumeclaim" in message.lower():
        hint = "It waits for a volume: `kubectl get pvc,storageclass`."
        patience = 20.0
    elif "Insufficient" in message:
        hint = "Give the cluster more, or ask for less: the requests in kube/."
        patience = 60.0 if around.leaving else 6.0
    else:
        hint = "The cluster's scheduler finds no node for it."
        patience = 8.0
    yield Finding(
        about=f"Pod {pod['metadata']['name']}",
        why=f"it cannot be scheduled: {message}",
        hint=hint,
        patience=patience,
    )


def _waits_for_neighbour(pod: Object, around: Surroundings) -> bool:
    """Whether it may only run beside pods that have no node yet: those are diagnosed instead."""
    affinity = (pod["spec"].get("affinity") or {}).get("podAffinity") or {}
    for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or []:
        wanted = ((term.get("labelSelector") or {}).get("matchLabels") or {}).items()
        beside = [
            other
            for other in around.pods
            if wanted and wanted <= (other["metadata"].get("labels") or {}).items()
        ]
        if beside and not any(other["spec"].get("nodeName") for other in beside):
            return True
    return False
