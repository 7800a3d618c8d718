"""Runs and tasks as a test asserts on them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from windsock.airflow.api import NotFound, StillGoing
from windsock.airflow.failure import explain_failure
from windsock.airflow.task_log import LOG_SETTLING, whole_log
from windsock.airflow.waiting import Watch
from windsock.errors import (
    ConfigurationError,
    DagError,
    DeadlineExceeded,
    EnvironmentFailure,
    WindsockError,
)
from windsock.sync_process.run_reasons import RunReasons

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from windsock.airflow.api import Airflow
    from windsock.airflow.failure import Failure
    from windsock.airflow.records import DagRun, LogLine, TaskInstance
    from windsock.airflow.waiting import Reason
    from windsock.terminal.places import Places

_SEVERITY = (
    *("failed", "upstream_failed", "up_for_retry", "running", "restarting", "deferred"),
    *("up_for_reschedule", "awaiting_input", "queued", "scheduled"),
)
"""The states of which the first one found among mapped instances is the state of the whole."""


def _end(found: list[Reason]) -> None:
    __tracebackhide__ = True
    raise EnvironmentFailure(found[0].message, found[0].hint)


class Run:
    """A DAG run that a test started or waited for."""

    def __init__(
        self,
        api: Airflow,
        record: DagRun,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        reasons: RunReasons | None = None,
    ) -> None:
        self._api = api
        self._record = record
        self._clock = clock
        self._sleep = sleep
        self._reasons = reasons or RunReasons(api)
        self._finished_at: float | None = None
        self._instances: list[TaskInstance] | None = None

    def __repr__(self) -> str:
        return f"<Run of {self.dag_id}: {self._record.state}, {self.url}>"

    @property
    def dag_id(self) -> str:
        """The id of its DAG."""
        return self._record.dag_id

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self._record.run_id

    @property
    def url(self) -> str:
        """Its page in Airflow's UI."""
        return self._api.run_url(self.dag_id, self.run_id)

    @property
    def conf(self) -> Mapping[str, Any]:
        """Its configuration."""
        return self._record.conf

    @property
    def record(self) -> DagRun:
        """What Airflow knows about the run now."""
        if not self._record.finished:
            self._record = self._api.run(self.dag_id, self.run_id)
        return self._record

    @property
    def state(self) -> str:
        """`queued`, `running`, `success` or `failed`, now."""
        return self.record.state

    @property
    def duration(self) -> float | None:
        """Seconds from its start to its end; None before it has ended."""
        record = self.record
        if record.started is None or record.ended is None:
            return None
        return (record.ended - record.started).total_seconds()

    def wait(self, *, timeout: float = 60.0) -> Run:
        """Wait until the run has finished, in whatever state.

        Raises:
            DeadlineExceeded: It has not finished in time. The error names the states of its tasks,
                and the run is stopped.
            EnvironmentFailure: A component without which no run goes on ends again and again.
        """
        __tracebackhide__ = True
        watch = Watch(self._reasons.failing, _end, clock=self._clock)
        try:
            self._record = self._api.wait(
                self.dag_id, self.run_id, timeout=timeout, meanwhile=watch
            )
        except StillGoing:
            states = ", ".join(
                f"{item.label} {item.state or 'not yet scheduled'}" for item in self.instances()
            )
            why = self._why()
            if not self.record.finished:  # It may have ended while that was asked.
                self.stop()
                raise DeadlineExceeded(
                    f"the run of {self.dag_id} had not finished after {timeout:.3g} s: "
                    f"{states or 'no task was scheduled'}",
                    "\n".join([*why, f"It has been stopped. See {self.url}"]),
                ) from None
        self._finished_at = self._clock()
        return self

    def _why(self) -> list[str]:
        """Why it has not ended, as lines for a person."""
        try:
            found = self._reasons.reasons(self.dag_id, self.run_id)
        except WindsockError as error:
            return [f"Why is not known: {error.message}"]
        return [line for item in found for line in (item.message, item.hint) if line]

    def failure(self, *, places: Places, store: Path | None, log_lines: int) -> Failure:
        """Why it failed; see `windsock.airflow.failure.explain_failure`."""
        return explain_failure(
            self._api,
            self.record,
            places=places,
            store=store,
            pods=self._reasons.failed_pods,
            log_lines=log_lines,
            clock=self._clock,
            sleep=self._sleep,
        )

    def stop(self) -> None:
        """Mark the run failed, which kills its tasks. Nothing happens to a finished run."""
        if not self.record.finished:
            self._record = self._api.stop(self.dag_id, self.run_id)

    def instances(self) -> list[TaskInstance]:
        """The newest try of each of its tasks, the earliest start first."""
        if self._instances is None or not self._record.finished:
            finished = self.record.finished
            found = self._api.task_instances(self.dag_id, self.run_id)
            found.sort(
                key=lambda item: (
                    item.started is None,
                    item.started.timestamp() if item.started else 0.0,
                    item.label,
                )
            )
            self._instances = found if finished else None
            return found
        return self._instances

    def tries(self) -> list[TaskInstance]:
        """Every try of each of its tasks."""
        found: list[TaskInstance] = []
        for item in self.instances():
            if item.try_number > 1:
                found += self._api.tries(
                    self.dag_id, self.run_id, item.task_id, map_index=item.map_index
                )
            else:
                found.append(item)
        return found

    @property
    def tasks(self) -> list[TaskOutcome]:
        """Each of its task instances; those of mapped tasks one by one."""
        return [self._outcome(item) for item in self.instances()]

    def task(self, task_id: str, *, map_index: int | None = None) -> TaskOutcome:
        """One task of it.

        Args:
            task_id: With its task groups, as Airflow writes it: `group.task`.
            map_index: One instance of a mapped task; without it `.mapped` lists them all.

        Raises:
            DagError: The run has no such task.
        """
        __tracebackhide__ = True
        found = [item for item in self.instances() if item.task_id == task_id]
        if not found:
            ids = ", ".join(sorted({item.task_id for item in self.instances()})) or "none"
            raise DagError(
                f"the run of {self.dag_id} has no task {task_id!r}", f"Its tasks: {ids}."
            )
        if map_index is not None:
            chosen = [item for item in found if item.map_index == map_index]
            if not chosen:
                indexes = ", ".join(str(item.map_index) for item in found if item.map_index >= 0)
                raise DagError(
                    f"{task_id!r} in the run of {self.dag_id} has no instance {map_index}",
                    f"Its map indexes: {indexes or 'none, it is not mapped'}.",
                )
            return self._outcome(chosen[0])
        if found[0].map_index < 0 and len(found) == 1:
            return self._outcome(found[0])
        found.sort(key=lambda item: item.map_index)
        return self._outcome(found[0], mapped=found)

    def _outcome(
        self, instance: TaskInstance, *, mapped: list[TaskInstance] | None = None
    ) -> TaskOutcome:
        return TaskOutcome(self, instance, mapped=[self._outcome(item) for item in mapped or ()])

    def _log(self, instance: TaskInstance, try_number: int) -> list[LogLine]:
        """A log to its end, also when the task has only just ended."""
        return whole_log(
            self._api,
            instance,
            try_number=try_number,
            until=(self._finished_at or self._clock()) + LOG_SETTLING,
            clock=self._clock,
            sleep=self._sleep,
        )

    def _xcom(self, instance: TaskInstance, key: str) -> Any:
        return self._api.xcom(
            self.dag_id, self.run_id, instance.task_id, key=key, map_index=instance.map_index
        )


class TaskOutcome:
    """What became of one task of a run, or of all instances of a mapped task.

    Attributes:
        mapped: The instances of a mapped task, in the order of their map index; else empty.
    """

    def __init__(self, run: Run, instance: TaskInstance, *, mapped: list[TaskOutcome]) -> None:
        self._run = run
        self._instance = instance
        self.mapped = mapped

    def __repr__(self) -> str:
        return f"<Task {self.label} of {self._run.dag_id}: {self.state}>"

    @property
    def task_id(self) -> str:
        """Its id, with its task groups."""
        return self._instance.task_id

    @property
    def map_index(self) -> int:
        """Its number among the instances of a mapped task; -1 if it is none of them."""
        return -1 if self.mapped else self._instance.map_index

    @property
    def label(self) -> str:
        """`square`, or `square[1]` for one instance of a mapped task."""
        return self.task_id if self.mapped else self._instance.label

    @property
    def state(self) -> str | None:
        """Airflow's state of it.

        Of a mapped task: that of all instances if they agree, else the worst one.
        """
        if not self.mapped:
            return self._instance.state
        states = [item.state for item in self.mapped]
        return next((state for state in _SEVERITY if state in states), states[0])

    @property
    def attempts(self) -> int:
        """How often it started; 0 if never. Of a mapped task: the most of any instance."""
        if self.mapped:
            return max(item.attempts for item in self.mapped)
        return self._instance.try_number

    @property
    def duration(self) -> float | None:
        """Seconds of its newest try; None unless it started and ended."""
        started, ended = self._instance.started, self._instance.ended
        if self.mapped or started is None or ended is None:
            return None
        return (ended - started).total_seconds()

    def xcom(self, key: str = "return_value") -> Any:
        """What it pushed under `key`: by default what it returned, None if that was None.

        Raises:
            DagError: It pushed nothing under that key, which is not the return value.
            ConfigurationError: It is a mapped task: ask its instances.
        """
        __tracebackhide__ = True
        self._single("xcom")
        try:
            return self._run._xcom(self._instance, key)  # noqa: SLF001 - two halves of one object
        except NotFound:
            if key == "return_value" and self.state == "success":
                return None  # Airflow stores no XCom for a task that returns None.
            raise DagError(
                f"{self.label} of {self._run.dag_id} ({self.state}) pushed no XCom {key!r}",
                "Does it return a value, or call `xcom_push` with this key?",
            ) from None

    def logs(self, try_number: int | None = None) -> str:
        """The log of its newest try, or of another one, as text; empty if it never started.

        Raises:
            DagError: It had no such try.
            ConfigurationError: It is a mapped task: ask its instances.
        """
        __tracebackhide__ = True
        self._single("logs")
        if try_number is None and self.attempts == 0:
            return ""
        chosen = self.attempts if try_number is None else try_number
        if not 1 <= chosen <= self.attempts:
            raise DagError(
                f"{self.label} of {self._run.dag_id} had no try {chosen}",
                f"It started {self.attempts} times.",
            )
        lines = self._run._log(self._instance, chosen)  # noqa: SLF001 - two halves of one object
        return "\n".join(line.text() for line in lines)

    def _single(self, what: str) -> None:
        __tracebackhide__ = True
        if self.mapped:
            raise ConfigurationError(
                f"{self.task_id} is a mapped task with {len(self.mapped)} instances",
                f'Ask one, run.task("{self.task_id}", map_index=0).{what}(), or go through .mapped',
            )
