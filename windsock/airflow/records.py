"""What Airflow's API answers, as typed records: only the fields that windsock reads.

Every `read` takes one JSON object of the public API of Airflow 3.3 (`airflow/api_fastapi/core_api/
datamodels`), so a renamed field fails in this module and in no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from windsock.airflow.raised import as_lines

Json = dict[str, Any]

FAILED_TASK_STATES = frozenset({"failed", "upstream_failed"})
ACTIVE_TASK_STATES = frozenset(
    {
        *("scheduled", "queued", "running", "restarting"),
        *("deferred", "up_for_retry", "up_for_reschedule", "awaiting_input"),
    }
)
"""The states of a task instance that something is done about, or will be."""


def moment(text: str | None) -> datetime | None:
    """An ISO 8601 time of the API as an aware datetime."""
    return None if text is None else datetime.fromisoformat(text)


@dataclass(frozen=True, kw_only=True)
class Dag:
    """A DAG as the metadata database knows it.

    Attributes:
        file: Its file, relative to the DAG folder; None for a DAG that never had one.
        paused: Whether its runs wait.
        stale: Whether its file no longer defines it.
        import_errors: Whether its file failed at the last parse.
        bundle_version: The snapshot of its last parse.
        parsed: When that was.
        schedule: Airflow's summary of its schedule; None means only when asked.
        max_active_runs: How many of its runs may be running; None means any number.
        max_active_tasks: How many task instances of one run may be queued or running.
    """

    dag_id: str
    file: str | None
    paused: bool
    stale: bool
    import_errors: bool
    bundle_version: str | None
    parsed: datetime | None
    schedule: str | None
    max_active_runs: int | None = None
    max_active_tasks: int = 0

    @classmethod
    def read(cls, values: Json) -> Dag:
        """From an item of `GET /dags`."""
        return cls(
            dag_id=values["dag_id"],
            file=values["relative_fileloc"],
            paused=values["is_paused"],
            stale=values["is_stale"],
            import_errors=values["has_import_errors"],
            bundle_version=values["bundle_version"],
            parsed=moment(values["last_parsed_time"]),
            schedule=values["timetable_summary"],
            max_active_runs=values["max_active_runs"],
            max_active_tasks=values["max_active_tasks"],
        )


@dataclass(frozen=True, kw_only=True)
class DagRun:
    """One run of a DAG.

    Attributes:
        state: `queued`, `running`, `success` or `failed`.
        run_type: `manual`, `scheduled`, `asset_triggered` or `backfill`.
        queued: When it was made.
    """

    dag_id: str
    run_id: str
    state: str
    started: datetime | None
    ended: datetime | None
    conf: Json
    bundle_version: str | None
    run_type: str = "manual"
    queued: datetime | None = None

    @property
    def finished(self) -> bool:
        """Whether no task will start any more."""
        return self.state in ("success", "failed")

    @classmethod
    def read(cls, values: Json) -> DagRun:
        """From `GET /dags/{dag_id}/dagRuns/{dag_run_id}`."""
        return cls(
            dag_id=values["dag_id"],
            run_id=values["dag_run_id"],
            state=values["state"],
            started=moment(values["start_date"]),
            ended=moment(values["end_date"]),
            conf=values["conf"] or {},
            bundle_version=values["bundle_version"],
            run_type=values["run_type"],
            queued=moment(values["queued_at"]),
        )


@dataclass(frozen=True, kw_only=True)
class TaskInstance:
    """One try of one task in a run, or its newest try.

    Attributes:
        map_index: Its place in a mapped task, from 0; -1 for a task that is not mapped.
        state: None before the scheduler has looked at it.
        try_number: How often it has started, the present time included; 0 if never.
        bundle_version: The snapshot whose code it ran.
        pool: The pool whose slots it takes.
        pool_slots: How many of them.
    """

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    started: datetime | None
    ended: datetime | None
    bundle_version: str | None
    dag_id: str = ""
    run_id: str = ""
    pool: str = "default_pool"
    pool_slots: int = 1

    @property
    def label(self) -> str:
        """The task id, with the map index of a mapped one: `square[1]`."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"

    @classmethod
    def read(cls, values: Json) -> TaskInstance:
        """From an item of `GET …/taskInstances` or `GET …/taskInstances/{task_id}/tries`."""
        version = values["dag_version"] or {}
        return cls(
            task_id=values["task_id"],
            map_index=values["map_index"],
            state=values["state"],
            try_number=values["try_number"],
            started=moment(values["start_date"]),
            ended=moment(values["end_date"]),
            bundle_version=version.get("bundle_version"),
            dag_id=values["dag_id"],
            run_id=values["dag_run_id"],
            pool=values["pool"],
            pool_slots=values["pool_slots"],
        )


@dataclass(frozen=True, kw_only=True)
class ImportFailure:
    """A DAG file that did not import."""

    file: str
    traceback: str
    seen: datetime | None

    @classmethod
    def read(cls, values: Json) -> ImportFailure:
        """From an item of `GET /importErrors`."""
        return cls(
            file=values["filename"],
            traceback=values["stack_trace"],
            seen=moment(values["timestamp"]),
        )


@dataclass(frozen=True, kw_only=True)
class AssetEvent:
    """A change of an asset, and the runs that it started.

    Attributes:
        asset: The asset's name.
        runs: (dag id, run id) of each run that the scheduler made of it so far.
    """

    asset: str
    runs: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, values: Json) -> AssetEvent:
        """From an item of `GET /assets/events`."""
        return cls(
            asset=values["name"] or values["uri"] or "?",
            runs=tuple((run["dag_id"], run["run_id"]) for run in values["created_dagruns"]),
        )


@dataclass(frozen=True)
class LogLine:
    """One line of a task's log.

    Attributes:
        event: Its message.
        values: All that Airflow stored of it.
    """

    event: str
    values: Json

    @classmethod
    def read(cls, values: Json | str) -> LogLine:
        """From an item of the `content` of `GET …/logs/{try_number}`."""
        return cls(values, {}) if isinstance(values, str) else cls(values["event"], values)

    def text(self) -> str:
        """The line as a person reads it; an exception follows as a traceback."""
        time = moment(self.values.get("timestamp"))
        parts = [f"{time:%H:%M:%S.%f}"[:-3]] if time else []
        parts += [str(self.values.get("level") or "").upper(), self.event]
        parts += [f"{key}={value!r}" for key, value in self.values.items() if key not in _SHOWN]
        errors = self.values.get("error_detail") or ()
        shown = [
            " ".join(filter(None, parts)),
            *(line for each in errors for line in as_lines(each)),
        ]
        return "\n".join(shown)


_SHOWN = {
    *("event", "timestamp", "level", "logger", "error_detail"),
    *("ti", "ti_id", "task_id", "dag_id", "run_id", "map_index", "try_number"),
    *("filename", "lineno", "bundle_name", "bundle_version"),
}
"""What `LogLine.text` shows in another way, or not at all, as each line repeats it."""
