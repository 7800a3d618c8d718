"""The log of a task, to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from windsock.airflow.api import Airflow
    from windsock.airflow.records import LogLine, TaskInstance

LOG_SETTLING = 3.0
"""Seconds that the end of a log may take to arrive after its task has ended.

Airflow's supervisor reports the end of a task before it has written the last lines of its log.
"""
_POLL = 0.1
_GROUP, _END_OF_GROUP = "::group::", "::endgroup::"
_PREPARING = {
    "airflow.dag_processing.bundles.manager.DagBundlesManager",
    "airflow.dag_processing.dagbag.BundleDagBag",
    "task",
}
"""What writes into a task's log before the task begins."""


def whole_log(
    airflow: Airflow,
    instance: TaskInstance,
    *,
    try_number: int,
    until: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> list[LogLine]:
    """A log to its end, also when the task has only just ended.

    Args:
        airflow: Where it ran.
        instance: The task instance.
        try_number: Which try of it.
        until: By `clock`, when the log is taken as it is.
        clock: Monotonic seconds.
        sleep: Waits that many seconds.
    """
    before: list[LogLine] | None = None
    while True:
        lines = airflow.log(
            instance.dag_id,
            instance.run_id,
            instance.task_id,
            try_number=try_number,
            map_index=instance.map_index,
        )
        if clock() >= until or (lines == before and _has_end(lines)):
            return lines
        before = lines
        sleep(_POLL)


def _has_end(lines: list[LogLine]) -> bool:
    """Whether the task runner closed its last group, after which a task writes nothing."""
    events = [line.event for line in lines]
    return f"{_GROUP}Post Execute" in events and events[-1] == _END_OF_GROUP


def _prepares(line: LogLine) -> bool:
    """Whether a line says no more than that Airflow finds the DAG."""
    is_news = line.values.get("error_detail") or line.values.get("level") not in {"info", "debug"}
    return line.values.get("logger") in _PREPARING and not is_news


def without_groups(lines: list[LogLine]) -> Iterator[LogLine]:
    """What a person reads: without the marks by which Airflow's UI folds lines.

    What Airflow says in the first two groups, where the log is and how it found the DAG, is no part
    of the task's own story.
    """
    group = ""
    for line in lines:
        if line.event.startswith(_GROUP):
            group = line.event.removeprefix(_GROUP)
        elif line.event == _END_OF_GROUP:
            group = ""
        elif not (
            (group.startswith("Log message source") and "timestamp" not in line.values)
            or (group == "Pre Execute" and _prepares(line))
        ):
            yield line
