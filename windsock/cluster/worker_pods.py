"""The pods of tasks: why one that waits has not started."""

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
from windsock.model import WaitingPod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windsock.cluster.api.client import Cluster
    from windsock.cluster.api.connection import Object

SCHEDULER_LINES = 500
"""So many of the scheduler's last lines are read: with pods that are refused, it tries each one
again every second."""

_REFUSED = re.compile(
    r"Kube ApiException for Task: \(.*task_id='(?P<task>[^']+)', run_id='(?P<run>[^']+)', "
    r"try_number=\d+, map_index=(?P<index>-?\d+)\)\)\. Reason: .*? Message: (?P<why>.*?)"
    r"(\s+\[airflow\S*\].*)?$"
)
"""A line of Airflow's Kubernetes executor (cncf.kubernetes 10): a pod that it will try again."""
_DAG = "dag_id='{}'"


def waiting_pods(cluster: Cluster, dag_id: str, run_id: str) -> list[WaitingPod]:
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


def _of_a_pod(pod: Object, around: Surroundings) -> WaitingPod:
    task_id, map_index = _task_of(pod)
    name = pod["metadata"]["name"]
    reasons = chain(waiting(pod), placement(pod, around), volumes(pod, around))
    if reason := next(reasons, None):
        why = f"its pod {name} does not start: {reason.why}"
        return WaitingPod(task_id=task_id, map_index=map_index, why=why, hint=reason.cause.value)
    why = f"its pod {name} has not started yet: {activity([pod], [], around.events)}"
    return WaitingPod(task_id=task_id, map_index=map_index, why=why)


def _refused(cluster: Cluster, *, dag_id: str, run_id: str) -> Iterator[WaitingPod]:
    """The tasks of a run whose pods the cluster refuses for now; it is known from the log alone."""
    latest: dict[tuple[str, int], str] = {}
    for scheduler in cluster.items("v1", "Pod", selector=selector("scheduler")):
        name = scheduler["metadata"]["name"]
        for line in last_lines(cluster, name, "scheduler", lines=SCHEDULER_LINES):
            said = _REFUSED.search(line)
            if said and said["run"] == run_id and _DAG.format(dag_id) in line:
                latest[said["task"], int(said["index"])] = said["why"]
    for (task_id, map_index), why in latest.items():
        yield WaitingPod(
            task_id=task_id,
            map_index=map_index,
            why=f"its pod may not be made now: {why}",
            hint=Cause.QUOTA.value if "exceeded quota" in why else "",
        )
