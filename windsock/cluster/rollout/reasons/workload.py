"""A whole workload: why it does not get ready, and what its pods are doing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from windsock.cluster.api.client import name_of
from windsock.cluster.api.workloads import (
    component_of,
    condition,
    containers,
    has_condition,
    is_going,
)
from windsock.cluster.rollout.reasons.containers import crashes, ending, unready, waiting
from windsock.cluster.rollout.reasons.pods import placement, volumes
from windsock.cluster.rollout.reasons.reason import PREPARING, Cause, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from windsock.cluster.api.connection import Object
    from windsock.cluster.rollout.reasons.reason import Surroundings

_BEFORE_THE_REASON = r"^(Error creating: |create Pod \S+ in \S+ \S+ failed error: )"


def reasons_of(
    workload: Object, *, pods: Sequence[Object], makers: Sequence[Object], around: Surroundings
) -> Iterator[Reason]:
    """Every reason why a workload does not get ready.

    Args:
        workload: As it is on the cluster.
        pods: Of its present revision.
        makers: What makes its pods: itself, or a ReplicaSet.
        around: All that is in the namespace.
    """
    since = _judged_since(workload, around)
    if workload["kind"] == "Job":
        yield from _job(workload, pods)
    else:
        for pod in pods:
            yield from crashes(pod, around.of(pod), judged_since=since)
    for pod in pods:
        if not is_going(pod):
            yield from waiting(pod)
            yield from placement(pod, around)
            yield from volumes(pod, around)
            yield from unready(pod, around.of(pod), judged_since=since)
    if not pods:
        for maker in makers:
            yield from _not_made(maker, around.of(maker))
    late = condition(workload, "Progressing", status="False")
    if late is not None and late.get("reason") == "ProgressDeadlineExceeded":
        why = str(late.get("message", "it does not progress"))
        yield Reason(cause=Cause.NO_PROGRESS, about=name_of(workload), why=why)


def _judged_since(workload: Object, around: Surroundings) -> str | None:
    """When the database was ready for a workload; None while it is not.

    Until then the workload waits and its probes fail, as they should.
    """
    if component_of(workload) in PREPARING:
        return ""
    return around.prepared_at if around.prepared else None


def _not_made(maker: Object, events: Sequence[Object]) -> Iterator[Reason]:
    if not events or events[-1]["reason"] != "FailedCreate":
        return
    message = re.sub(_BEFORE_THE_REASON, "", events[-1]["message"])
    if "serviceaccount" in message and "not found" in message:
        # Kubernetes makes an account usable a moment after it was applied.
        yield Reason(cause=Cause.NO_ACCOUNT, about=name_of(maker), why=message, patience=15.0)
        return
    cause = Cause.FORBIDDEN
    if "exceeded quota" in message:
        cause = Cause.QUOTA
    elif "PodSecurity" in message:
        cause = Cause.POD_SECURITY
    why = f"its pod may not be made: {message}"
    yield Reason(cause=cause, about=name_of(maker), why=why, patience=2.0)


def _job(job: Object, pods: Sequence[Object]) -> Iterator[Reason]:
    """A Job makes some pods: a second failure counts, or the first one if no new pod ends well."""
    failed = [pod for pod in pods if pod["status"].get("phase") == "Failed"]
    over = condition(job, "Failed", status="True")
    if not failed:
        if over is not None:
            why = f"it failed: {over.get('message', 'it has no pod')}"
            # Jobs and pods are watched separately: the failure of the pod, which shows more, may
            # come a moment later.
            yield Reason(cause=Cause.JOB_FAILED, about=name_of(job), why=why, patience=2.0)
        return
    pod = failed[-1]
    active = any(pod["status"].get("phase") in {"Pending", "Running"} for pod in pods)
    patience = 0.0 if over is not None or len(failed) > 1 else 15.0 + 60.0 * active
    yield _failed_pod(job, pod, patience=patience)


def _failed_pod(job: Object, pod: Object, *, patience: float) -> Reason:
    for status in containers(pod):
        ended = (status.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode") != 0:
            is_migration = component_of(job) == "migrate"
            what = "the migration of the database" if is_migration else "the Job"
            return Reason(
                cause=Cause.ENDED,
                about=name_of(pod),
                why=f"{what} failed: {ending(ended, pod)}",
                patience=patience,
                container=status["name"],
            )
    why = pod["status"].get("message") or pod["status"].get("reason") or "its pod failed"
    return Reason(cause=Cause.POD_FAILED, about=name_of(pod), why=str(why), patience=patience)


def activity(pods: Sequence[Object], older: Sequence[Object], events: Iterable[Object]) -> str:
    """What the pods of a workload are doing, in a few words."""
    if not pods or is_going(pods[-1]):
        return "stopping the old pod" if pods or older else "making a pod"
    pod = pods[-1]
    if condition(pod, "PodScheduled", status="False") is not None:
        return "waiting for a node"
    states = [status.get("state") or {} for status in containers(pod)]
    waiting = next((state["waiting"] for state in states if "waiting" in state), None)
    if waiting is not None:
        return _waiting_words(str(waiting.get("reason", "")), pod, events)
    if has_condition(pod, "Ready"):
        return "stopping the old pod" if older else "ready"
    return "starting" if states else "being placed on a node"


def _waiting_words(reason: str, pod: Object, events: Iterable[Object]) -> str:
    uid = pod["metadata"]["uid"]
    seen = [event["reason"] for event in events if event["involvedObject"].get("uid") == uid]
    if "Pulling" in seen and "Pulled" not in seen:
        return "pulling image"
    if reason in {"ContainerCreating", "PodInitializing", ""}:
        return "making the container"
    return reason
