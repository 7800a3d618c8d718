"""Containers that end, and containers that do not start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windsock.cluster.api.workloads import containers, is_going
from windsock.cluster.rollout.reasons.finding import LINES_HINT, Finding
from windsock.cluster.rollout.reasons.probes import PROBE_HINT, killed_by_probe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from windsock.cluster.api.connection import Object

# --- containers that ended ----------------------------------------------------------------------


def ending(ended: Mapping[str, Any], pod: Object) -> str:
    """How a container ended.

    Args:
        ended: The state `terminated` of its status.
        pod: Its own.
    """
    if ended.get("reason") == "OOMKilled":
        limits = [
            (container.get("resources") or {}).get("limits", {}).get("memory")
            for container in pod["spec"]["containers"]
        ]
        limit = next((limit for limit in limits if limit), "its limit")
        return f"it needed more memory than {limit} and was killed"
    message = f": {ended['message'].strip()}" if ended.get("message") else ""
    return f"it ended with exit code {ended.get('exitCode')}{message}"


def crashes(
    pod: Object, events: Sequence[Object], *, judged_since: str | None
) -> Iterator[Finding]:
    """Containers that end and are started again, over and over.

    Args:
        pod: Which may be going.
        events: About it.
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
        yield Finding(
            about=f"Pod {pod['metadata']['name']}",
            why=f"it was restarted, because its {probe}" if probe else ending(ended, pod) + again,
            hint=PROBE_HINT if probe else LINES_HINT,
            patience=patience,
            container=status["name"],
            previous="terminated" not in state,
        )


_ENDED_PATIENCE = 15.0
_ENDED_AGAIN_PATIENCE = 3.0
"""Kubernetes starts a container again at once, or soon says that it is in a crash loop."""


# --- containers that do not start ---------------------------------------------------------------

_IMAGE_HINT = (
    "`invoke build` makes it in this machine's Docker. A cluster whose nodes use another one needs "
    "a registry that both reach; name yours in invoke.yaml:\n"
    "windsock:\n  cluster:\n    registry: ghcr.io/anna"
)
_REGISTRY_HINT = (
    "Can the cluster's nodes reach that registry? One that wants a login needs a Secret of it in "
    "the namespace, named in invoke.yaml: windsock.cluster.pull_secret (docs/kubernetes.md)."
)
_STUCK: dict[str, tuple[str, float]] = {
    "ErrImageNeverPull": (_IMAGE_HINT, 0.0),
    "ErrImagePull": (_IMAGE_HINT, 4.0),
    "ImagePullBackOff": (_IMAGE_HINT, 1.0),
    "InvalidImageName": ("Check the image's name in kube/ and invoke.yaml.", 0.0),
    "ImageInspectError": (_IMAGE_HINT, 2.0),
    "RegistryUnavailable": ("The registry does not answer the cluster.", 4.0),
    "CreateContainerConfigError": (
        "Something that the container needs is missing: a Secret, a ConfigMap or a key in one.",
        3.0,
    ),
    "CreateContainerError": ("The node cannot make the container.", 5.0),
    "RunContainerError": ("The node cannot start the container: is its command in the image?", 2.0),
}
"""Reason of a waiting container → what to do, and the patience with it in seconds."""

UNREAD = "failed to sync"
"""How a busy kubelet says, with the same reason, that it has not read a Secret or a ConfigMap yet.
It looks again by itself, and only then knows whether something is missing."""
_UNREAD_PATIENCE = 30.0


def waiting(pod: Object) -> Iterator[Finding]:
    """Containers that wait for something that will not come by itself."""
    for status in containers(pod):
        state = (status.get("state") or {}).get("waiting") or {}
        reason = state.get("reason", "")
        if reason not in _STUCK:
            continue
        hint, patience = _STUCK[reason]
        if state.get("message", "").startswith(UNREAD):
            patience = _UNREAD_PATIENCE
        if hint == _IMAGE_HINT and "/" in status.get("image", ""):
            hint = _REGISTRY_HINT
        words = f": {state['message'].strip()}" if state.get("message") else ""
        image = f" {status.get('image')}" if "Image" in reason else ""
        yield Finding(
            about=f"Pod {pod['metadata']['name']}",
            why=f"{reason}{image}{words}",
            hint=hint,
            patience=patience,
        )
