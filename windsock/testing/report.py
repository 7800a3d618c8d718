"""What a failing test shows of its runs: the page, the timeline, the logs of what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.airflow.records import FAILED_TASK_STATES
from windsock.errors import WindsockError
from windsock.terminal.places import Places

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from windsock.airflow.failure import Failure
    from windsock.airflow.records import TaskInstance
    from windsock.testing.runs import Run

_BAR_WIDTH = 32
_HERE = Places(".")
_LOG_LINES = 60
"""Lines of a failed task's log that a report shows."""


def section(run: Run, *, places: Places = _HERE, store: Path | None = None) -> tuple[str, str]:
    """The title and the text of a section in pytest's report.

    An error of Airflow's API is part of the text: the report of a failure must not fail.

    Args:
        run: A run of the test.
        places: Where the author's files are.
        store: The snapshot store, if it is on this machine.
    """
    title = f"DAG run {run.dag_id}"
    try:
        record = run.record
        parts = [f"{record.state}  {run.url}", timeline(run.tries(), start=record.started)]
        if any(task.state in FAILED_TASK_STATES for task in run.tasks):
            failure = run.failure(places=places, store=store, log_lines=_LOG_LINES)
            parts += failed_tasks(failure)
    except WindsockError as error:
        return title, f"{run.url}\nAirflow shows no more of it: {error}"
    return title, "\n\n".join(part for part in parts if part)


def failed_tasks(failure: Failure) -> list[str]:
    """A paragraph for each failed task, and one for what differs from the last green run."""
    parts = []
    for task in failure.tasks:
        place = f"  at {task.place}" if task.place else ""
        head = f"--- {task.task}, try {task.try_number}: {task.headline}{place}"
        parts.append("\n".join([head, *task.log]))
    if failure.left_out:
        parts.append(f"({failure.left_out} more failed tasks: see the page above)")
    if failure.since_green:
        news = "\n".join(f"  {item}" for item in failure.since_green)
        parts.append(f"since the last run that succeeded, {failure.green_run}:\n{news}")
    return parts


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
