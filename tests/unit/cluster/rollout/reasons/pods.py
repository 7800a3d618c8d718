"""Pods, events and workloads as a cluster shows them, and what is found of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windsock.cluster.rollout.reasons.reason import Surroundings
from windsock.cluster.rollout.reasons.workload import reasons_of

if TYPE_CHECKING:
    from windsock.cluster.rollout.reasons.reason import Reason

Object = dict[str, Any]

UID = "1"


def pod(*, container: Object | None = None, spec: Object | None = None, **status: Any) -> Object:
    if container is not None:
        status["containerStatuses"] = [{"name": "base", "image": "windsock-airflow:1", **container}]
    return {
        "kind": "Pod",
        "metadata": {"name": "airflow-scheduler-x", "uid": UID},
        "spec": {"containers": [{"name": "base"}], **(spec or {})},
        "status": {"phase": "Pending", **status},
    }


def at(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}Z"


def event(
    reason: str, message: str, *, uid: str = UID, kind: str = "Warning", second: int = 0
) -> Object:
    return {
        "reason": reason,
        "message": message,
        "type": kind,
        "involvedObject": {"uid": uid},
        "lastTimestamp": at(second),
    }


def workload(kind: str = "Deployment", **labels: str) -> Object:
    named = {"name": "airflow-scheduler", "uid": "9", "labels": labels}
    return {"kind": kind, "metadata": named, "spec": {}, "status": {}}


def found(
    *pods: Object,
    events: tuple[Object, ...] = (),
    claims: tuple[Object, ...] = (),
    of: Object | None = None,
    beside: tuple[Object, ...] = (),
    others: tuple[Object, ...] = (),
) -> list[Reason]:
    """What is found of a workload.

    Args:
        pods: Its own.
        events: In the namespace.
        claims: In the namespace.
        of: The workload.
        beside: Pods of others.
        others: Workloads beside it.
    """
    of = of or workload()
    around = Surroundings(
        events=events, claims=claims, pods=(*pods, *beside), workloads=(of, *others)
    )
    return list(reasons_of(of, pods=pods, makers=[of], around=around))


def waiting(reason: str, message: str = "") -> Object:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def ended(code: int, reason: str = "Error") -> Object:
    return {"terminated": {"exitCode": code, "reason": reason}}
