"""What the pods of a workload are doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.cluster.api.workloads import condition, containers, has_condition, is_going

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from windsock.cluster.api.connection import Object


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
