"""Containers whose probe fails."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from windsock.cluster.api.workloads import has_condition
from windsock.cluster.rollout.reasons.reason import Cause, Reason
from windsock.cluster.rollout.reasons.surroundings import time_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from windsock.cluster.api.connection import Object

_CLEAR_PATIENCE = 10.0
_STARTING_PATIENCE = 90.0
"""Where nothing answers, it may be starting still: on a slow node that takes its time."""

_PROBE = re.compile(r"\w+ probe")
_WRONG_ANSWER = re.compile(r"probe errored|statuscode: (?!429|503)")
"""A container that does not answer may be starting, and so is one that answers 503."""

_SLOW = re.compile(r"timed out|timeout|deadline exceeded", re.IGNORECASE)
"""On a node that has much to do, a probe may take longer than it is given."""


def killed_by_probe(events: Sequence[Object], *, judged_since: str | None) -> str:
    """The message of the probe for which Kubernetes ended a container; empty if none did.

    Args:
        events: About its pod.
        judged_since: When what it waits for was there; an earlier end means nothing. None
            while that is not there yet.
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
        pod: On its way, or stuck.
        events: About it.
        judged_since: As for `killed_by_probe`; one with a startup probe that has
            passed waits for nothing.
    """
    if pod["status"].get("phase") != "Running" or has_condition(pod, "Ready"):
        return
    failing = [event for event in events if event["reason"] == "Unhealthy"]
    statuses = pod["status"].get("containerStatuses") or []
    status = next((each for each in statuses if not each.get("ready")), None)
    if not failing or status is None or not all(each.get("started") for each in statuses):
        return
    has_begun = "startupProbe" in _spec(pod, status["name"])
    if judged_since is None and not has_begun:
        return
    words = _last_words(events, "readiness probe")
    clear = words and not _SLOW.search(words) and (has_begun or _WRONG_ANSWER.search(words))
    yield Reason(
        cause=Cause.WRONG_PROBE if clear else Cause.STUCK,
        about=f"Pod {pod['metadata']['name']}",
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


def _spec(pod: Object, container: str) -> dict[str, Any]:
    found = (each for each in pod["spec"]["containers"] if each["name"] == container)
    return next(found, {})
