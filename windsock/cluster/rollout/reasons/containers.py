"""Containers that end, that do not start, or whose probe fails."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from windsock.cluster.api.client import name_of
from windsock.cluster.api.workloads import containers, has_condition, is_going
from windsock.cluster.rollout.reasons.reason import Cause, Reason, time_of

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
    """Containers of a pod that end and are started again, over and over."""
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


_CLEAR_PATIENCE = 10.0
_STARTING_PATIENCE = 90.0
"""A container that does not answer may still be starting, for long on a slow node."""

_PROBE = re.compile(r"\w+ probe")
_WRONG_ANSWER = re.compile(r"probe errored|statuscode: (?!429|503)")
"""Another answer than of a container that is starting: that one gives none, or 503."""

_SLOW = re.compile(r"timed out|timeout|deadline exceeded", re.IGNORECASE)
"""On a busy node a probe may take longer than its timeout."""


def killed_by_probe(events: Sequence[Object], *, judged_since: str | None) -> str:
    """The message of the probe for which Kubernetes ended a container; empty if none did.

    Args:
        events: About the container's pod, as in the functions below.
        judged_since: When the database was ready, as in the functions below: an earlier end means
            nothing. None while it is not ready; empty if its time is not known.
    """
    if judged_since is None:
        return ""
    for event in reversed(events):
        probe = _PROBE.search(event["message"]) if event["reason"] == "Killing" else None
        if probe and (not judged_since or time_of(event) > judged_since):
            return _last_words(events, probe[0]) or str(event["message"])
    return ""


def unready(pod: Object, events: Sequence[Object], *, judged_since: str | None) -> Iterator[Reason]:
    """A container that runs and does not get ready; after its startup probe it is always judged."""
    if pod["status"].get("phase") != "Running" or has_condition(pod, "Ready"):
        return
    failing = [event for event in events if event["reason"] == "Unhealthy"]
    statuses = pod["status"].get("containerStatuses") or []
    status = next((each for each in statuses if not each.get("ready")), None)
    if not failing or status is None or not all(each.get("started") for each in statuses):
        return
    has_begun = any(
        each["name"] == status["name"] and "startupProbe" in each
        for each in pod["spec"]["containers"]
    )
    if judged_since is None and not has_begun:
        return
    words = _last_words(events, "readiness probe")
    clear = words and not _SLOW.search(words) and (has_begun or _WRONG_ANSWER.search(words))
    yield Reason(
        cause=Cause.WRONG_PROBE if clear else Cause.STUCK,
        about=name_of(pod),
        why=f"it runs, but is not ready: {words or str(failing[-1]['message']).strip()}",
        patience=_CLEAR_PATIENCE if clear else _STARTING_PATIENCE,
        container=status["name"],
    )


def _last_words(events: Sequence[Object], probe: str) -> str:
    """The last message of one of the probes, for example of the `liveness probe`."""
    messages = (
        str(event["message"]).strip()
        for event in reversed(events)
        if event["reason"] == "Unhealthy" and probe in event["message"].lower()
    )
    return next(messages, "")
