"""Why a run failed: the failing tasks with the exception at the author's line, and what is new.

"What is new" compares the run with the last one of its DAG that succeeded: its code, its conf, and
what the tasks before the failing one returned.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from windsock.airflow import raised
from windsock.airflow.rest import NotFound
from windsock.airflow.task_log import LOG_SETTLING, whole_log, without_groups
from windsock.airflow.waiting import no_pods
from windsock.errors import WindsockError
from windsock.runtime.store import differing_files
from windsock.terminal.words import some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from windsock.airflow.api import Airflow
    from windsock.airflow.records import DagRun, Json, LogLine, TaskInstance
    from windsock.model import TaskPod
    from windsock.terminal.places import Places

MOST_LINES = 100
"""How many lines of a log are told at most; those in the middle are left out."""
MOST_TASKS = 5
"""How many failed tasks are told: a hundred mapped failures are one failure."""
_LONGEST_VALUE = 60
_NO_EXCEPTION = "it ended without an exception: its log says more"
_NO_LOG = "Airflow has no log of it"
_FAILED = "Task failed with exception"
_EXITED = ("Task exited", "Process exited abnormally")
"""What `airflow.sdk.execution_time` says of a task that raised, and of one that ended otherwise."""
_LONGEST_LINE = 2000
_MESSAGE = re.compile(r'"message":("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True, kw_only=True)
class FailedTask:
    """A task that failed.

    Attributes:
        task: Its id, with the map index of a mapped one.
        try_number: Which try this is.
        place: `file:line` of the innermost frame in the author's files, as seen from the working
            folder; empty if the exception has none.
        headline: The exception's type and the first line of its message.
        log: The end of its log as text, the exception with its traceback included.
    """

    task: str
    try_number: int
    place: str
    headline: str
    log: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a run failed.

    Attributes:
        tasks: The first few failed tasks, in the order in which they ended.
        left_out: How many more failed.
        since_green: What differs from the last run that succeeded; empty if there is none.
        green_run: The id of that run; empty if there is none.
    """

    tasks: tuple[FailedTask, ...]
    left_out: int
    since_green: tuple[str, ...]
    green_run: str

    def as_json(self) -> Json:
        """The fields by their names, for `--json`."""
        return asdict(self)


def explain_failure(
    airflow: Airflow,
    run: DagRun,
    *,
    places: Places,
    store: Path | None = None,
    pods: Callable[[str, str], Sequence[TaskPod]] = no_pods,
    log_lines: int = 15,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Failure:
    """Ask Airflow why a run failed, or why tasks did of one that succeeded all the same.

    Args:
        airflow: Where it ran.
        run: A run that has ended.
        places: Where the author's files are.
        store: The snapshot store, if it is on this machine.
        pods: Of a DAG and a run: what ended the pods of its tasks.
        log_lines: How many lines of each log are told, and all since its last exception, as far as
            these are no more than `MOST_LINES`.
        clock: Monotonic seconds.
        sleep: Waits that many seconds.

    Raises:
        WindsockError: Airflow does not say.
    """
    failed = [
        item
        for item in airflow.task_instances(run.dag_id, run.run_id)
        if item.state == "failed" and item.try_number
    ]
    if run.state == "success" and not failed:
        return Failure(tasks=(), left_out=0, since_green=(), green_run="")
    failed.sort(key=lambda item: item.ended.timestamp() if item.ended else 0.0)
    until = clock() + LOG_SETTLING
    tasks = []
    for item in failed[:MOST_TASKS]:
        lines: list[LogLine] = []
        with suppress(NotFound):  # A log that is gone leaves those of the other tasks.
            lines = whole_log(
                airflow, item, try_number=item.try_number, until=until, clock=clock, sleep=sleep
            )
        tasks.append(_failed_task(item, lines, places, log_lines=log_lines))
    tasks = _with_ends(airflow, run, failed, tasks, pods)
    green = None
    news: list[str] = []
    with suppress(WindsockError):
        green = airflow.last_success(run.dag_id)
        if green is not None:
            news = list(_differences(airflow, run, green, failed, store))
    return Failure(
        tasks=tuple(tasks),
        left_out=max(0, len(failed) - MOST_TASKS),
        since_green=tuple(news),
        green_run=green.run_id if green else "",
    )


def log_text(lines: Sequence[LogLine], places: Places) -> list[str]:
    """Lines of a log as a person reads them, with paths of the author's files."""
    return [
        text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}…"
        for line in lines
        for text in places.in_text(line.text()).splitlines()
    ]


def _failed_task(
    item: TaskInstance, lines: list[LogLine], places: Places, *, log_lines: int
) -> FailedTask:
    said = list(without_groups(lines))
    last = _what_ended_it(said)
    details: list[Json] = said[last].values.get("error_detail") or [] if last < len(said) else []
    frames = ((places.own(file), line) for file, line in raised.places(details))
    place = next((f"{own}:{line}" for own, line in frames if own), "")
    headline = _NO_EXCEPTION if lines else _NO_LOG
    if details:
        headline = places.in_text(raised.headline(details[0]))
    elif last < len(said):
        code = said[last].values.get("exit_code")
        # Or the supervisor's own words: "Process terminated by signal. …"
        words = said[last].event.partition(" For more information")[0].partition("\n")[0]
        headline = words if code is None else f"its process ended with exit code {code}"
    return FailedTask(
        task=item.label,
        try_number=item.try_number,
        place=place,
        headline=headline,
        log=tuple(_end_of(log_text(said[:last], places), log_text(said[last:], places), log_lines)),
    )


def _what_ended_it(said: Sequence[LogLine]) -> int:
    """Which line of a log tells what ended the task; the number of lines if none does.

    Airflow's own line comes first. Any other exception may have been handled, or be of a callback.
    """
    ways: tuple[Callable[[LogLine], bool], ...] = (
        lambda line: bool(line.values.get("error_detail")) and line.event == _FAILED,
        lambda line: line.values.get("level") == "critical",
        lambda line: "exit_code" in line.values and line.event in _EXITED,
        lambda line: bool(line.values.get("error_detail")),
    )
    for is_end in ways:
        if found := [index for index, line in enumerate(said) if is_end(line)]:
            return found[-1]
    return len(said)


def _with_ends(
    airflow: Airflow,
    run: DagRun,
    failed: Sequence[TaskInstance],
    tasks: list[FailedTask],
    pods: Callable[[str, str], Sequence[TaskPod]],
) -> list[FailedTask]:
    """The tasks whose own logs do not say why they ended, with what others know of it."""
    if not any(task.headline in (_NO_EXCEPTION, _NO_LOG) for task in tasks):
        return tasks
    known: dict[tuple[str, int], str] = {}
    with suppress(WindsockError):
        known |= {key: _shortened(text) for key, text in airflow.ends(*_key(run)).items()}
    known |= {(pod.task_id, pod.map_index): pod.why for pod in pods(*_key(run))}
    return [
        replace(task, headline=known.get((item.task_id, item.map_index), task.headline))
        if task.headline in (_NO_EXCEPTION, _NO_LOG)
        else task
        for item, task in zip(failed, tasks, strict=False)
    ]


def _key(run: DagRun) -> tuple[str, str]:
    return run.dag_id, run.run_id


def _shortened(text: str) -> str:
    """What the scheduler said of a task that it ended, without the addresses of Airflow's pages."""
    state = re.search(r"the task instance's state attribute is (\w+)", text)
    if state:
        info = text.partition("Extra info: ")[2]
        if said := _MESSAGE.search(info):  # Kubernetes' own, in the text of a whole HTTP response.
            info = json.loads(said[1])
        info = info.strip().partition("\n")[0]
        words = f"its process ended while it was {state[1]}, and reported nothing"
        return f"{words}: {info}" if info else words
    return re.sub(r"(See|Learn more:) https?://\S+", "", text).strip()


def _end_of(before: list[str], since: list[str], count: int) -> list[str]:
    """The last lines of a log, and all since its last exception, unless these are very many."""
    lines = [*before[max(0, len(before) + len(since) - count) :], *since]
    left_out = len(lines) - MOST_LINES
    if left_out <= 0:
        return lines
    half = MOST_LINES // 2
    return [*lines[:half], f"({left_out} more lines)", *lines[-half:]]


def _differences(
    airflow: Airflow,
    run: DagRun,
    green: DagRun,
    failed: list[TaskInstance],
    store: Path | None,
) -> Iterator[str]:
    if run.bundle_version != green.bundle_version:
        names = changed_files(store, green.bundle_version, run.bundle_version)
        yield f"code: {some(names) if names else 'another snapshot'}"
    for key in sorted({*run.conf, *green.conf}):
        before, now = green.conf.get(key, _NOTHING), run.conf.get(key, _NOTHING)
        if before != now:
            yield f"conf {key!r}: {_shown(before)} → {_shown(now)}"
    failing = {item.task_id for item in failed}
    for task in airflow.task_details(run.dag_id):
        if failing.isdisjoint(task["downstream_task_ids"] or ()) or task["is_mapped"]:
            continue
        before, now = (_returned(airflow, one, task["task_id"]) for one in (green, run))
        if before != now:
            yield f"{task['task_id']} returned: {_shown(before)} → {_shown(now)}"


class _Nothing:
    """No value, which a person reads as a word."""

    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()


def _returned(airflow: Airflow, run: DagRun, task_id: str) -> Any:
    try:
        return airflow.xcom(run.dag_id, run.run_id, task_id)
    except WindsockError:
        return _NOTHING


def changed_files(store: Path | None, before: str | None, now: str | None) -> list[str]:
    """The files that differ between two snapshots; empty if one is not here (any more)."""
    if store is None or not before or not now:
        return []
    try:
        return sorted(differing_files(store, before, now))
    except (OSError, ValueError):
        return []


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
