"""Volumes: claims that get none, and those that a node cannot mount."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from windsock.cluster.api.client import name_of
from windsock.cluster.api.workloads import containers
from windsock.cluster.rollout.reasons.containers import UNREAD
from windsock.cluster.rollout.reasons.reason import Cause, Reason
from windsock.cluster.rollout.reasons.surroundings import time_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from windsock.cluster.api.connection import Object
    from windsock.cluster.rollout.reasons.surroundings import Surroundings

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
