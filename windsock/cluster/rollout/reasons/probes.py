"""Containers whose probe fails."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from windsock.cluster.api.client import name_of
from windsock.cluster.api.workloads import has_condition
from windsock.cluster.rollout.reasons.reason import Cause, Reason
from windsock.cluster.rollout.reasons.surroundings import time_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from windsock.cluster.api.connection import Object

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
        events: About the container's pod.
        judged_since: When the database was ready: an earlier end means nothing. None while it is
            not ready; empty if its time is not known.
    """
    if judged_since is None:
        return ""
    for event in reversed(events):
        probe = _PROBE.search(event["message"]) if event["reason"] == "Killing" else None
        if probe and (not judged_since or time_of(event) > judged_since):
            return _last_words(events, probe[0]) or str(event["message"])
    return ""


def unready(pod: Object, events: Sequence[Object], *, judged_since: str | None) -> Iterator[Reason]:
    """A container that runs and does not get ready.

    Args:
        pod: Any.
        events: About the pod.
        judged_since: As for `killed_by_probe`; a container whose startup probe has passed is
            judged at any time.
    """
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
