"""What a failing test shows of its runs: the page, the timeline, the logs of what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.airflow.records import FAILED_TASK_STATES
from windsock.errors import WindsockError

if TYPE_CHECKING:
    from datetime import datetime

    from windsock.airflow.records import TaskInstance
    from windsock.testing.runs import Run, TaskOutcome

_BAR_WIDTH = 32
_LOG_TAIL = 60
"""Lines of a failed task's log that a report shows."""
_MOST_LOGS = 5
"""Failed tasks whose logs a report shows: a hundred mapped failures are one failure."""


def section(run: Run) -> tuple[str, str]:
    """The title and the text of a section in pytest's report.

    An error of Airflow's API is part of the text: the report of a failure must not fail.
    """
    title = f"DAG run {run.dag_id}"
    try:
        record = run.record
        parts = [f"{record.state}  {run.url}", timeline(run.tries(), start=record.started)]
        failed = [task for task in run.tasks if task.state in FAILED_TASK_STATES and task.attempts]
        parts += [_tail(task) for task in failed[:_MOST_LOGS]]
        if len(failed) > _MOST_LOGS:
            parts.append(f"({len(failed) - _MOST_LOGS} more failed tasks: see the page above)")
    except WindsockError as error:
        return title, f"{run.url}\nAirflow shows no more of it: {error}"
    return title, "\n\n".join(part for part in parts if part)


def timeline(tries: list[TaskInstance], *, start: datetime | None) -> str:
    """A chart in text, a line for each try: task, try, state, start, duration, bar.

    Args:
        tries: In the order of the lines. Without tries there is no chart.
        start: When the run started; None before that. Each start counts from it.
    """
    if not tries:
        return ""
    ends = [item.ended or item.started for item in tries if item.started is not None]
    span = 0.0
    if start is not None:
        span = max(((end - start).total_seconds() for end in ends), default=0.0)
    width = max(len("task"), *(len(item.label) for item in tries))
    lines = [f"{'task':<{width}}  try  {'state':<16}{'start':>9}{'duration':>11}"]
    for item in tries:
        row = f"{item.label:<{width}}  {item.try_number:>3}  {item.state or 'none':<16}"
        if start is not None and item.started is not None:
            offset = (item.started - start).total_seconds()
            length = (item.ended - item.started).total_seconds() if item.ended else None
            shown = "…" if length is None else f"{length:.2f} s"
            row += f"{offset:>7.2f} s{shown:>11}  {_bar(offset, length, span)}"
        lines.append(row.rstrip())
    return "\n".join(lines)


def _bar(offset: float, length: float | None, span: float) -> str:
    if span <= 0:
        return "#"
    first = min(_BAR_WIDTH - 1, max(0, round(offset / span * _BAR_WIDTH)))
    if length is None:
        return " " * first + "#" * (_BAR_WIDTH - first - 1) + ">"
    return " " * first + "#" * max(1, min(_BAR_WIDTH - first, round(length / span * _BAR_WIDTH)))


def _tail(task: TaskOutcome) -> str:
    lines = task.logs().splitlines()
    left_out = len(lines) - _LOG_TAIL
    head = f"--- log of {task.label}, try {task.attempts}"
    head += f", its last {_LOG_TAIL} of {len(lines)} lines" if left_out > 0 else ""
    return "\n".join([head, *lines[-_LOG_TAIL:]])
