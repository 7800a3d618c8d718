"""Volumes: claims that get none, and those that a node cannot mount."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

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
"""What a node does with a pod once it has all volumes."""

_EARLY = ("no relationship found between node", UNREAD)
"""The messages of a node that does not see yet what its pods name, or is too busy to read it. It
tries again, after twice the time each time; what is missing is "not found"."""

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
            about=f"Pod {pod['metadata']['name']}",
            why=f"a volume cannot be mounted: {words}",
            patience=60.0 if any(early in words for early in _EARLY) else 12.0,
        )


def _failed_mount(events: Sequence[Object]) -> Object | None:
    """The last failure to mount a volume that nothing has made good since."""
    mounting = (event for event in reversed(events) if event["reason"] in _MOUNT_FAILURES)
    return next((event for event in mounting if not _made_good(event, events)), None)


def _made_good(failure: Object, events: Sequence[Object]) -> bool:
    """Whether a volume was attached, or all of them mounted, after a failure."""
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
    name = f"PersistentVolumeClaim {claim['metadata']['name']}"
    if claim["status"].get("phase") == "Lost":
        yield Reason(cause=Cause.VOLUME_LOST, about=name, why="its volume is lost")
        return
    bad = [event for event in events if event["reason"] not in _HARMLESS_CLAIM_EVENTS]
    failing = [
        event for event in bad if event["type"] != "Normal" or event["reason"] == "FailedBinding"
    ]
    if failing:
        yield Reason(
            cause=Cause.NO_VOLUME,
            about=name,
            why=f"it gets no volume: {failing[-1]['message']}",
            patience=5.0,
        )
