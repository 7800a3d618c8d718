"""The pods of tasks: why one that waits has not started, and what ended one that failed."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

from windsock.cluster.access.logs import last_lines
from windsock.cluster.api.client import OURS
from windsock.cluster.api.workloads import component_of, selector
from windsock.cluster.rollout.reasons.containers import waiting
from windsock.cluster.rollout.reasons.pods import placement, volumes
from windsock.cluster.rollout.reasons.reason import Cause, Surroundings
from windsock.cluster.rollout.reasons.workload import activity
from windsock.model import TaskPod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object

SCHEDULER_LINES = 500
"""So many of the scheduler's last lines are read: with pods that are refused, it tries each one
again every second."""

_KEY = (
    r"TaskInstanceKey\(dag_id='(?P<dag>[^']+)', task_id='(?P<task>[^']+)', "
    r"run_id='(?P<run>[^']+)', try_number=\d+, map_index=(?P<index>-?\d+)\)"
)
_REFUSED = re.compile(
    rf"Kube ApiException for Task: \({_KEY}\)\. Reason: .*? Message: (?P<why>.*?)"
    r"(\s+\[airflow\S*\].*)?$"
)
"""A line of Airflow's Kubernetes executor (cncf.kubernetes 10): a pod that it will try again."""
_FAILED = re.compile(
    rf"Task {_KEY} failed in pod [^/]+/(?P<pod>\S+?)(?:\. Pod phase| \()(?P<why>.*)$"
)
"""The same, of a pod that failed, or that it removed because it did not start."""
_DETAIL = re.compile(r"(?:container_)?(reason|message): (?!None)(.*?)(?=, \w+: |\s+\[airflow|$)")


def waiting_pods(cluster: Cluster, dag_id: str, run_id: str) -> list[TaskPod]:
    """Why tasks of a run have no pod, or one that has not started.

    Args:
        cluster: With the namespace.
        dag_id: Of the DAG.
        run_id: Of the run.

    Raises:
        WindsockError: The cluster does not say.
    """
    pods = cluster.items("v1", "Pod", selector=OURS)
    own = [
        pod
        for pod in pods
        if component_of(pod) == "worker" and _belongs_to(pod, dag_id=dag_id, run_id=run_id)
    ]
    pending = [pod for pod in own if pod["status"].get("phase") == "Pending"]
    around = Surroundings()
    if pending:
        around = Surroundings(
            events=cluster.items("v1", "Event"),
            claims=cluster.items("v1", "PersistentVolumeClaim"),
            pods=pods,
        )
    found = [_of_a_pod(pod, around) for pod in pending]
    made = {_task_of(pod) for pod in own}
    return found + [
        each
        for each in _refused(cluster, dag_id=dag_id, run_id=run_id)
        if (each.task_id, each.map_index) not in made
    ]


def _belongs_to(pod: Object, *, dag_id: str, run_id: str) -> bool:
    names = pod["metadata"].get("annotations") or {}
    return names.get("dag_id") == dag_id and names.get("run_id") == run_id


def _task_of(pod: Object) -> tuple[str, int]:
    names = pod["metadata"]["annotations"]
    return names.get("task_id", ""), int(names.get("map_index", -1))


def _of_a_pod(pod: Object, around: Surroundings) -> TaskPod:
    task_id, map_index = _task_of(pod)
    name = pod["metadata"]["name"]
    reasons = chain(waiting(pod), placement(pod, around), volumes(pod, around))
    if reason := next(reasons, None):
        why = f"its pod {name} does not start: {reason.why}"
        return TaskPod(task_id=task_id, map_index=map_index, why=why, hint=reason.cause.value)
    why = f"its pod {name} has not started yet: {activity([pod], [], around.events)}"
    return TaskPod(task_id=task_id, map_index=map_index, why=why)


def _refused(cluster: Cluster, *, dag_id: str, run_id: str) -> Iterator[TaskPod]:
    """The tasks of a run whose pods the cluster refuses for now; it is known from the log alone."""
    said = _said_by_schedulers(cluster, _REFUSED, dag_id=dag_id, run_id=run_id)
    for (task_id, map_index), line in said.items():
        why = line["why"]
        yield TaskPod(
            task_id=task_id,
            map_index=map_index,
            why=f"its pod may not be made now: {why}",
            hint=Cause.QUOTA.value if "exceeded quota" in why else "",
        )


def failed_pods(cluster: Cluster, dag_id: str, run_id: str) -> list[TaskPod]:
    """What ended the pods of a run that failed, as far as the cluster and the scheduler know it.

    Args:
        cluster: With the namespace.
        dag_id: Of the DAG.
        run_id: Of the run.

    Raises:
        WindsockError: The cluster does not say.
    """
    said = _said_by_schedulers(cluster, _FAILED, dag_id=dag_id, run_id=run_id)
    events = cluster.items("v1", "Event") if said else []
    found = []
    for (task_id, map_index), line in said.items():
        about = [
            str(event["message"])
            for event in events
            if event["involvedObject"].get("name") == line["pod"] and event["type"] == "Warning"
        ]
        details = dict(_DETAIL.findall(line["why"]))
        told = [*details.values(), max(about, key=len, default="")]
        why = ": ".join(filter(None, told)) or "the cluster does not say why"
        why = f"its pod {line['pod']} failed: {why}"
        found.append(TaskPod(task_id=task_id, map_index=map_index, why=why))
    return found


def _said_by_schedulers(
    cluster: Cluster, pattern: re.Pattern[str], *, dag_id: str, run_id: str
) -> dict[tuple[str, int], re.Match[str]]:
    """(task, map index) → the last line about it in the logs of the schedulers."""
    latest: dict[tuple[str, int], re.Match[str]] = {}
    for scheduler in cluster.items("v1", "Pod", selector=selector("scheduler")):
        name = scheduler["metadata"]["name"]
        for line in last_lines(cluster, name, "scheduler", lines=SCHEDULER_LINES):
            said = pattern.search(line)
            if said and (said["dag"], said["run"]) == (dag_id, run_id):
                latest[said["task"], int(said["index"])] = said
    return latest
