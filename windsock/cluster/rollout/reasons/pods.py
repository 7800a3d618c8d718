"""Pods without a node, and pods whose volumes are missing or cannot be mounted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from windsock.cluster.api.client import name_of
from windsock.cluster.api.workloads import condition, containers
from windsock.cluster.rollout.reasons.containers import UNREAD
from windsock.cluster.rollout.reasons.reason import Cause, Reason, time_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from windsock.cluster.api.connection import Object
    from windsock.cluster.rollout.reasons.reason import Surroundings


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


_MOUNT_FAILURES = {"FailedMount", "FailedAttachVolume"}
_ATTACHED = "SuccessfulAttachVolume"
_ALL_MOUNTED = {"Pulling", "Pulled", "Created", "Started"}
"""The events of a pod once its node has mounted all volumes."""

_EARLY = ("no relationship found between node", UNREAD)
"""The messages of a node that cannot read yet what its pods name. It tries again, after twice the
time each time. For what is missing the message is "not found"."""

_HARMLESS_CLAIM_EVENTS = {"WaitForFirstConsumer", "WaitForPodScheduled", "ExternalProvisioning"}


def volumes(pod: Object, around: Surroundings) -> Iterator[Reason]:
    """Claims of a pod that get no volume, and volumes that its node cannot mount."""
    names = {
        (volume.get("persistentVolumeClaim") or {}).get("claimName")
        for volume in pod["spec"].get("volumes") or []
    }
    for claim in around.claims:
        if claim["metadata"]["name"] in names and claim["status"].get("phase") != "Bound":
            yield from _claim(claim, around.of(claim))
    failed = _failed_mount(around.of(pod))
    if failed is not None and not any(status.get("started") for status in containers(pod)):
        words = str(failed["message"])
        yield Reason(
            cause=Cause.NOT_MOUNTED,
            about=name_of(pod),
            why=f"a volume cannot be mounted: {words}",
            patience=60.0 if any(early in words for early in _EARLY) else 12.0,
        )


def _failed_mount(events: Sequence[Object]) -> Object | None:
    """The last failure to mount a volume that was not mounted since."""
    failures = (event for event in reversed(events) if event["reason"] in _MOUNT_FAILURES)
    return next((event for event in failures if not _is_over(event, events)), None)


def _is_over(failure: Object, events: Sequence[Object]) -> bool:
    """Whether the volume was attached, or all volumes mounted, after a failure."""
    volume = _volume_of(failure)
    return any(
        event["reason"] in _ALL_MOUNTED
        or (event["reason"] == _ATTACHED and volume in {None, _volume_of(event)})
        for event in events
        if time_of(event) >= time_of(failure)
    )


def _volume_of(event: Object) -> str | None:
    found = re.search(r'for volume "([^"]+)"', str(event["message"]))
    return found[1] if found else None


def _claim(claim: Object, events: Sequence[Object]) -> Iterator[Reason]:
    name = name_of(claim)
    if claim["status"].get("phase") == "Lost":
        yield Reason(cause=Cause.VOLUME_LOST, about=name, why="its volume is lost")
        return
    failing = [
        event
        for event in events
        if event["reason"] not in _HARMLESS_CLAIM_EVENTS
        and (event["type"] != "Normal" or event["reason"] == "FailedBinding")
    ]
    if failing:
        why = f"it gets no volume: {failing[-1]['message']}"
        yield Reason(cause=Cause.NO_VOLUME, about=name, why=why, patience=5.0)
