"""What a test sees as `airflow`: the running environment, and runs of its DAGs.

Before each trigger a barrier waits until Airflow has parsed exactly the tree on disk, so a test
never runs yesterday's code; a DAG file that does not import fails the test at once, with its
traceback. Runs are named after the test and cleaned up when it ends.
"""

from __future__ import annotations

import re
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from windsock.airflow.api import NotFound
from windsock.airflow.dag_on_disk import listed_dag, sound_dag
from windsock.errors import (
    ConfigurationError,
    DagError,
    DeadlineExceeded,
    EnvironmentFailure,
    WindsockError,
)
from windsock.sync_process import run_reasons
from windsock.sync_process.run_reasons import RunReasons
from windsock.terminal.places import Places
from windsock.testing.runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from windsock.airflow.api import Airflow
    from windsock.airflow.records import AssetEvent, Dag, DagRun
    from windsock.model import ParsedSnapshot

_POLL = 0.2
_CLEAN_UP_ATTEMPTS = 5
_LONGEST_TEST_NAME = 100
_UNFIT_FOR_RUN_ID = re.compile(r"[^A-Za-z0-9_.~+-]+")
"""Airflow's `[scheduler] allowed_run_id_pattern` allows these and a colon."""


class Control(run_reasons.Control, Protocol):
    """What is asked of the sync process; see `ControlClient`."""

    def barrier(self, *, timeout: float) -> ParsedSnapshot:
        """Wait so many seconds until Airflow has parsed what is on disk."""

    def hold(self, dag_id: str, *, run_id: str = "", owner: str = "") -> bool:
        """Until the run has ended, or the process; whether the DAG was paused."""

    def release(self, dag_id: str, owner: str) -> None:
        """End a hold, by its owner or its run."""


class RunningAirflow:
    """The environment that is up, for one test.

    Args:
        api: The client of its Airflow.
        control: Asks the sync process: to wait for a parse, and to unpause a DAG for a while.
        dags_folder: The folder of the files that `ParsedSnapshot.errors` names.
        further: Name in Airflow → folder, of each further folder that is synced.
        test_name: Becomes part of the ids of the runs.
        patience: Seconds that Airflow may take to parse what is on disk.
        clock: Monotonic seconds.
        sleep: Waits that many seconds.
        parallelism: How many task instances run at once; 0 if that is not known.
        on_run: Called with each run when it has started.
    """

    def __init__(
        self,
        api: Airflow,
        *,
        control: Control,
        dags_folder: Path,
        further: Mapping[str, str] | None = None,
        test_name: str,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        parallelism: int = 0,
        on_run: Callable[[Run], None] = lambda _: None,
    ) -> None:
        self.api = api
        self.runs: list[Run] = []
        self._control = control
        self._held: list[tuple[str, str]] = []
        self.dags_folder = dags_folder
        self.places = Places(str(dags_folder), further or {})
        self._test_name = _UNFIT_FOR_RUN_ID.sub("-", test_name)[:_LONGEST_TEST_NAME]
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._reasons = RunReasons(api, control, parallelism=parallelism)
        self._on_run = on_run

    @property
    def url(self) -> str:
        """Where Airflow's UI and API answer."""
        return self.api.url

    def run(
        self,
        dag_id: str,
        conf: Mapping[str, Any] | None = None,
        *,
        timeout: float = 60.0,
        logical_date: datetime | None = None,
    ) -> Run:
        """Run a DAG to its end; a run that fails is an answer, not an error.

        Args:
            dag_id: Of the DAG.
            conf: The run's configuration.
            timeout: Seconds from the trigger to the end of the run.
            logical_date: Aware; a run without one, as Airflow 3 allows, by default.

        Raises:
            DagError: The DAG's file does not import, or there is no such DAG.
            DeadlineExceeded: It has not finished in time; it is stopped then.
        """
        __tracebackhide__ = True
        return self.trigger(dag_id, conf, logical_date=logical_date).wait(timeout=timeout)

    def trigger(
        self,
        dag_id: str,
        conf: Mapping[str, Any] | None = None,
        *,
        logical_date: datetime | None = None,
    ) -> Run:
        """Start a run without waiting for its end; `Run.wait` does that.

        Raises:
            DagError: The DAG's file does not import, or there is no such DAG.
        """
        __tracebackhide__ = True
        self._parsed(dag_id)
        record = self.api.trigger(
            dag_id,
            conf=conf,
            run_id=f"windsock__{self._test_name}__{uuid.uuid4().hex}",
            logical_date=logical_date,
        )
        run = self._watched(record)
        self._held.append((dag_id, run.run_id))  # First: an interrupt must not lose it.
        self._control.hold(dag_id, run_id=run.run_id)
        return run

    def wait_for_run(self, dag_id: str, *, after: Run, timeout: float = 60.0) -> Run:
        """The run that an asset change of another run starts, when it has finished.

        Args:
            dag_id: Of the DAG that is scheduled on the asset.
            after: The run that changed the asset.
            timeout: Seconds until it must have started and finished.

        Raises:
            DeadlineExceeded: No such run, or it has not finished in time.
            ConfigurationError: The DAG is paused: asset changes do not start it.
        """
        __tracebackhide__ = True
        deadline = self._clock() + timeout
        if self._on_disk(listed_dag, dag_id).paused:
            raise ConfigurationError(
                f"{dag_id} is paused, so the asset change of {after.dag_id} cannot start it",
                f'Call airflow.unpause("{dag_id}") before the run that changes the asset.',
            )
        while True:
            events = self._asset_events(after.dag_id, after.run_id)
            started = [run_id for event in events for dag, run_id in event.runs if dag == dag_id]
            if started:
                break
            if self._clock() >= deadline:
                changed = ", ".join(sorted({event.asset for event in events})) or "no asset"
                raise DeadlineExceeded(
                    f"the run of {after.dag_id} started no run of {dag_id} within {timeout:g} s; "
                    f"it changed {changed}",
                    f"See {after.url}",
                )
            self._sleep(_POLL)
        record = self.api.run(dag_id, started[-1])
        return self._watched(record).wait(timeout=max(0.0, deadline - self._clock()))

    def unpause(self, dag_id: str) -> None:
        """Let the runs of a DAG go on, and asset changes start it, until the test has ended."""
        __tracebackhide__ = True
        self._parsed(dag_id)
        owner = f"test {uuid.uuid4().hex}"
        self._held.append((dag_id, owner))  # First: an interrupt must not lose it.
        self._control.hold(dag_id, owner=owner)

    @contextmanager
    def variables(self, values: Mapping[str, str]) -> Iterator[None]:
        """Airflow variables that exist only inside this block.

        Raises:
            ConfigurationError: One of them exists already; its value could not be put back, since
                Airflow masks secrets.
        """
        taken = sorted(values.keys() & {item["key"] for item in self.api.objects("variables")})
        if taken:
            raise ConfigurationError(
                f"the variable {taken[0]!r} exists already",
                "Take another name, or set it in airflow_settings.yaml for all tests.",
            )
        self.api.change_objects(
            "variables", write=[{"key": key, "value": value} for key, value in values.items()]
        )
        try:
            yield
        finally:
            self.api.change_objects("variables", delete=list(values))

    def clean_up(self, *, keep_finished: bool) -> list[str]:
        """Stop the runs of the test, and delete those that have finished unless they are to stay.

        The same happens to the runs that asset changes of these runs started. DAGs that were
        unpaused for the test are paused again.

        Returns:
            A sentence for each run for which this failed.
        """
        problems: list[str] = []
        pending = [(run.dag_id, run.run_id) for run in self.runs]
        seen: set[tuple[str, str]] = set()
        while pending:
            dag_id, run_id = pending.pop()
            if (dag_id, run_id) in seen:
                continue
            seen.add((dag_id, run_id))
            try:
                pending += self._end(dag_id, run_id, keep_finished=keep_finished)
            except WindsockError as error:
                problems.append(f"{dag_id} {run_id}: {error}")
        for dag_id, owner in self._held:
            try:
                self._control.release(dag_id, owner)
            except WindsockError as error:
                problems.append(f"{dag_id} could not be paused again: {error}")
        self._held.clear()
        return problems

    def _end(self, dag_id: str, run_id: str, *, keep_finished: bool) -> list[tuple[str, str]]:
        """Stop or delete a run; return the runs that its asset changes started."""
        for attempt in range(_CLEAN_UP_ATTEMPTS):
            try:
                events = self._asset_events(dag_id, run_id)
                if not self.api.run(dag_id, run_id).finished:
                    self.api.stop(dag_id, run_id)
                if not keep_finished:
                    self.api.delete_run(dag_id, run_id)
                return [run for event in events for run in event.runs]
            except NotFound:
                break  # The test itself has deleted the run.
            except EnvironmentFailure:
                # The scheduler may have locked the rows of a run that has only just ended.
                if attempt + 1 == _CLEAN_UP_ATTEMPTS:
                    raise
                self._sleep(_POLL)
        return []

    def _asset_events(self, dag_id: str, run_id: str) -> list[AssetEvent]:
        """The asset changes of a run, as far as Airflow can tell.

        While a run that they started is queued, Airflow 3.3 answers 500: it has no start date yet.
        """
        for _ in range(_CLEAN_UP_ATTEMPTS):
            try:
                return self.api.asset_events(dag_id, run_id)
            except EnvironmentFailure:
                self._sleep(_POLL)
        return []

    def _watched(self, record: DagRun) -> Run:
        run = Run(
            self.api,
            record,
            clock=self._clock,
            sleep=self._sleep,
            reasons=self._reasons,
        )
        self.runs.append(run)
        self._on_run(run)
        return run

    def _parsed(self, dag_id: str) -> Dag:
        """The DAG, as Airflow parsed it from what is on disk now."""
        __tracebackhide__ = True
        return self._on_disk(sound_dag, dag_id)

    def _on_disk(self, find: Callable[..., Dag], dag_id: str) -> Dag:
        __tracebackhide__ = True
        settled = self._control.barrier(timeout=self._patience)
        try:
            return find(self.api, dag_id, settled, places=self.places)
        except ConfigurationError as error:  # A test names its DAG: that there is none is a result.
            raise DagError(error.message, error.hint) from None
