"""Containers that end, and containers that do not start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windsock.cluster.api.client import name_of
from windsock.cluster.api.workloads import containers, is_going
from windsock.cluster.rollout.reasons.probes import killed_by_probe
from windsock.cluster.rollout.reasons.reason import Cause, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from windsock.cluster.api.connection import Object

_ENDED_PATIENCE = 15.0
_ENDED_AGAIN_PATIENCE = 3.0
"""Kubernetes starts a container again at once, or soon calls it a crash loop."""


def ending(ended: Mapping[str, Any], pod: Object) -> str:
    """How a container of a pod ended, by the state `terminated` of its status."""
    if ended.get("reason") == "OOMKilled":
        limits = [
            (container.get("resources") or {}).get("limits", {}).get("memory")
            for container in pod["spec"]["containers"]
        ]
        limit = next((limit for limit in limits if limit), "its limit")
        return f"it needed more memory than {limit} and was killed"
    return f"it ended with exit code {ended.get('exitCode')}{_message(ended)}"


def _message(state: Mapping[str, Any]) -> str:
    return f": {state['message'].strip()}" if state.get("message") else ""


def crashes(pod: Object, events: Sequence[Object], *, judged_since: str | None) -> Iterator[Reason]:
    """Containers that end and are started again, over and over.

    Args:
        pod: May be going.
        events: About the pod.
        judged_since: As for `killed_by_probe`.
    """
    probe = killed_by_probe(events, judged_since=judged_since)
    for status in containers(pod):
        state = status.get("state") or {}
        ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated")
        if is_going(pod) or not ended or status.get("ready"):
            continue
        count = int(status.get("restartCount", 0)) + 1
        looping = (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff"
        if looping or probe:
            patience = 0.0
        elif "terminated" in state and ended.get("exitCode") != 0:
            patience = _ENDED_PATIENCE if count == 1 else _ENDED_AGAIN_PATIENCE
        else:
            continue
        again = f", {count} times" if count > 1 else ""
        yield Reason(
            cause=Cause.STUCK if probe else Cause.ENDED,
            about=name_of(pod),
            why=f"it was restarted, because its {probe}" if probe else ending(ended, pod) + again,
            patience=patience,
            container=status["name"],
            previous="terminated" not in state,
        )


_STUCK: dict[str, tuple[Cause, float]] = {
    "ErrImageNeverPull": (Cause.IMAGE_MISSING, 0.0),
    "ErrImagePull": (Cause.IMAGE_MISSING, 4.0),
    "ImagePullBackOff": (Cause.IMAGE_MISSING, 1.0),
    "InvalidImageName": (Cause.IMAGE_NAME, 0.0),
    "ImageInspectError": (Cause.IMAGE_MISSING, 2.0),
    "RegistryUnavailable": (Cause.REGISTRY_SILENT, 4.0),
    "CreateContainerConfigError": (Cause.CONFIGURATION_MISSING, 3.0),
    "CreateContainerError": (Cause.NOT_CREATED, 5.0),
    "RunContainerError": (Cause.NOT_STARTED, 2.0),
}
"""Kubernetes' reason of a waiting container → the cause, and the patience with it in seconds."""

UNREAD = "failed to sync"
"""How a kubelet's message begins, under the same reason, while the kubelet is busy and has not read
a Secret or a ConfigMap yet. It reads again, and only then knows whether something is missing."""
_UNREAD_PATIENCE = 30.0


def waiting(pod: Object) -> Iterator[Reason]:
    """Containers that wait for something that will not come by itself."""
    for status in containers(pod):
        state = (status.get("state") or {}).get("waiting") or {}
        reason = state.get("reason", "")
        if reason not in _STUCK:
            continue
        cause, patience = _STUCK[reason]
        if state.get("message", "").startswith(UNREAD):
            patience = _UNREAD_PATIENCE
        if cause is Cause.IMAGE_MISSING and "/" in status.get("image", ""):
            cause = Cause.IMAGE_REFUSED
        image = f" {status.get('image')}" if "Image" in reason else ""
        why = f"{reason}{image}{_message(state)}"
        yield Reason(cause=cause, about=name_of(pod), why=why, patience=patience)
