"""A typed client of Airflow's public REST API (3.3).

This module imports httpx, so commands import it late.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from windsock.airflow.records import AssetEvent, Dag, DagRun, ImportFailure, LogLine, TaskInstance
from windsock.airflow.rest import NoAnswer, NotFound, RequestRefused, Rest
from windsock.airflow.values import decode
from windsock.errors import ConfigurationError, DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    import httpx

    from windsock.airflow.records import Json
    from windsock.model import Environment

__all__ = ["Airflow", "NoAnswer", "NotFound", "RequestRefused", "StillGoing"]

_WAIT_INTERVAL = 0.2
"""Seconds between two looks at a run that is waited for."""
_SILENCE = 10.0
"""Seconds without a line after which polling replaces a waiting stream."""
_MAXIMUM_LOG_PAGES = 1000


def _path(*parts: str | int) -> str:
    """A path of quoted segments: ids and keys may contain `+`, `:` and `/`."""
    return "/" + "/".join(quote(str(part), safe="") for part in parts)


def _run_path(dag_id: str, run_id: str, *parts: str | int) -> str:
    return _path("dags", dag_id, "dagRuns", run_id, *parts)


_ENDED_BY_THE_SCHEDULER = ("state mismatch", "heartbeat timeout", "stuck in queued tries exceeded")
"""Events of Airflow's log of events; `airflow.jobs.scheduler_job_runner` writes them."""


class StillGoing(DeadlineExceeded):
    """A run has not finished in the time that it had."""


class Airflow:
    """The Airflow at `url`.

    Args:
        url: Of the UI and the API, without a trailing slash.
        user: A user of SimpleAuthManager with the role admin.
        password: Of `user`.
        timeout: Seconds until Airflow must have answered one request.
        clock: Monotonic seconds.
        sleep: Waits that many seconds.
        transport: Another httpx transport, for tests.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        *,
        timeout: float = 180.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._rest = Rest(url, user, password, timeout=timeout, transport=transport)
        self.url = self._rest.url
        self._clock = clock
        self._sleep = sleep

    @classmethod
    def of(cls, environment: Environment) -> Airflow:
        """The Airflow of a running environment."""
        return cls(
            environment.url, environment.user, environment.password(), timeout=environment.patience
        )

    def close(self) -> None:
        """Close the connections."""
        self._rest.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run_url(self, dag_id: str, run_id: str) -> str:
        """The page of a run in Airflow's UI."""
        return self.url + _path("dags", dag_id, "runs", run_id)

    # DAGs

    def version(self) -> str:
        """Airflow's version, for example `3.3.2`."""
        return str(self._rest.request("GET", "/version")["version"])

    def dags(self) -> list[Dag]:
        """Every DAG that its file still defines, in the order of their ids."""
        pages = self._rest.pages("/dags", "dags", parameters={"order_by": "dag_id"})
        return [Dag.read(values) for values in pages]

    def dag(self, dag_id: str) -> Dag:
        """One DAG, also one that is stale.

        Raises:
            NotFound: Airflow never had it.
        """
        return Dag.read(self._rest.request("GET", _path("dags", dag_id)))

    def tasks(self, dag_id: str) -> list[str]:
        """The ids of the tasks of the newest version of a DAG."""
        return [task["task_id"] for task in self.task_details(dag_id)]

    def task_details(self, dag_id: str) -> list[Json]:
        """The tasks of the newest version of a DAG, as Airflow shows them."""
        answer = self._rest.request("GET", _path("dags", dag_id, "tasks"))
        return list(answer["tasks"])

    def health(self) -> Json:
        """Airflow's report about its components: `scheduler`, `triggerer` and others."""
        return dict(self._rest.request("GET", "/monitor/health"))

    def import_errors(self) -> list[ImportFailure]:
        """Every DAG file that does not import, in the order of their names."""
        pages = self._rest.pages("/importErrors", "import_errors")
        return sorted((ImportFailure.read(values) for values in pages), key=lambda item: item.file)

    def pause(self, dag_id: str, *, paused: bool) -> None:
        """Pause a DAG, or let its runs go on."""
        self._rest.request("PATCH", _path("dags", dag_id), body={"is_paused": paused})

    # Runs

    def trigger(
        self,
        dag_id: str,
        *,
        conf: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        logical_date: datetime | None = None,
        note: str = "",
    ) -> DagRun:
        """Start a run.

        Args:
            dag_id: Of the DAG.
            conf: Its configuration; `params` of the DAG are checked against it.
            run_id: A unique id; Airflow makes one if None.
            logical_date: Aware; None, as for any run without a data interval, by default.
            note: Shown on the run's page.

        Raises:
            NotFound: No such DAG.
            RequestRefused: The id is taken, the file has import errors, the params do not fit.
        """
        body: Json = {
            "logical_date": logical_date.isoformat() if logical_date else None,
            "conf": dict(conf or {}),
        }
        body |= {"dag_run_id": run_id} if run_id else {}
        body |= {"note": note} if note else {}
        return DagRun.read(self._rest.request("POST", _path("dags", dag_id, "dagRuns"), body=body))

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """One run.

        Raises:
            NotFound: No such run.
        """
        return DagRun.read(self._rest.request("GET", _run_path(dag_id, run_id)))

    def runs(
        self, dag_id: str = "~", *, run_id_prefix: str = "", states: Sequence[str] = ()
    ) -> list[DagRun]:
        """The runs of a DAG (`~`: of all), oldest first.

        Args:
            dag_id: Of the DAG.
            run_id_prefix: Only runs whose id begins with it.
            states: Only runs in one of these states, if given.
        """
        parameters: dict[str, str | Sequence[str]] = {"order_by": "id"}
        parameters |= {"run_id_prefix_pattern": run_id_prefix} if run_id_prefix else {}
        parameters |= {"state": states} if states else {}
        pages = self._rest.pages(
            _path("dags", dag_id, "dagRuns"), "dag_runs", parameters=parameters
        )
        return [DagRun.read(values) for values in pages]

    def last_success(self, dag_id: str) -> DagRun | None:
        """The newest run of a DAG that succeeded, if there is one."""
        parameters: dict[str, str | int | Sequence[str]] = {
            "order_by": "-id",
            "limit": 1,
            "state": ["success"],
        }
        answer = self._rest.request("GET", _path("dags", dag_id, "dagRuns"), parameters=parameters)
        return next((DagRun.read(values) for values in answer["dag_runs"]), None)

    def wait(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout: float,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> DagRun:
        """Wait until a run has finished, whatever its state.

        Airflow's own waiting stream is experimental. Where it is missing, ends early or sends
        nothing, the run is polled. An Airflow that does not answer for a while says nothing about
        the run: it is asked again until time is up.

        Args:
            dag_id: Of the DAG.
            run_id: Of the run.
            timeout: Seconds until the run must have ended; a request may take longer.
            meanwhile: Called several times a second while the run goes on.

        Raises:
            StillGoing: It has not finished after `timeout` seconds.
            NoAnswer: Airflow does not answer, and time is up.
            NotFound: No such run.
        """
        deadline = self._clock() + timeout
        self._follow(dag_id, run_id, deadline=deadline, meanwhile=meanwhile)
        while True:
            unknown: NoAnswer | None = None
            try:
                run = self.run(dag_id, run_id)
            except NoAnswer as error:
                unknown = error
            else:
                if run.finished:
                    return run
            if self._clock() >= deadline:
                if unknown:
                    raise unknown
                raise StillGoing(
                    f"the run {run_id} of {dag_id} is still {run.state} after {timeout:.3g} s",
                    f"See {self.run_url(dag_id, run_id)}",
                )
            meanwhile()
            self._sleep(_WAIT_INTERVAL)

    def _follow(
        self, dag_id: str, run_id: str, *, deadline: float, meanwhile: Callable[[], None]
    ) -> None:
        """Read the waiting stream to its end or to the deadline; losing it is no failure."""
        lines = self._rest.lines(
            _run_path(dag_id, run_id, "wait"),
            parameters={"interval": _WAIT_INTERVAL},
            silence=_SILENCE,
        )
        try:
            for _ in lines:
                if self._clock() >= deadline:
                    break
                meanwhile()
        except (NotFound, NoAnswer, ValueError):
            return  # `wait` polls from now on.
        finally:
            lines.close()

    def stop(self, dag_id: str, run_id: str) -> DagRun:
        """Mark a run failed: its running tasks are killed, the others never start."""
        path = _run_path(dag_id, run_id)
        return DagRun.read(self._rest.request("PATCH", path, body={"state": "failed"}))

    def delete_run(self, dag_id: str, run_id: str) -> None:
        """Delete a run that is not running, with its task instances and XComs.

        Raises:
            RequestRefused: It is running; stop it first.
        """
        self._rest.request("DELETE", _run_path(dag_id, run_id))

    def asset_events(self, dag_id: str, run_id: str) -> list[AssetEvent]:
        """The asset changes that a run made, and the runs that these started so far."""
        pages = self._rest.pages(
            "/assets/events",
            "asset_events",
            parameters={"source_dag_id": dag_id, "source_run_id": run_id},
        )
        return [AssetEvent.read(values) for values in pages]

    # Task instances

    def active_instances(self) -> list[TaskInstance]:
        """The task instances of all runs that the executor has: queued or running."""
        path = _run_path("~", "~", "taskInstances")
        parameters = {"state": ["queued", "running"]}
        pages = self._rest.pages(path, "task_instances", parameters=parameters)
        return [TaskInstance.read(values) for values in pages]

    def unmet(
        self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1
    ) -> list[tuple[str, str]]:
        """What keeps a task from being queued; empty if Airflow knows nothing.

        Returns:
            (name, reason) of each dependency that is not met, in Airflow's words.
        """
        mapped = (map_index,) if map_index >= 0 else ()
        path = _run_path(dag_id, run_id, "taskInstances", task_id, *mapped, "dependencies")
        answer = self._rest.request("GET", path)
        return [(str(item["name"]), str(item["reason"])) for item in answer["dependencies"]]

    def ends(self, dag_id: str, run_id: str) -> dict[tuple[str, int], str]:
        """(task, map index) → why the scheduler ended it, where it did so itself; its own words."""
        query: dict[str, Any] = {
            "dag_id": dag_id,
            "run_id": run_id,
            "order_by": "event_log_id",
            "included_events": _ENDED_BY_THE_SCHEDULER,
        }
        return {
            (str(each["task_id"]), int(each["map_index"])): str(each["extra"])
            for each in self._rest.pages("/eventLogs", "event_logs", parameters=query)
        }

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """The newest try of each task of a run, each instance of a mapped task on its own."""
        path = _run_path(dag_id, run_id, "taskInstances")
        pages = self._rest.pages(path, "task_instances")
        return [TaskInstance.read(values) for values in pages]

    def tries(
        self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1
    ) -> list[TaskInstance]:
        """Every try of a task, the first one first."""
        mapped = (map_index,) if map_index >= 0 else ()
        path = _run_path(dag_id, run_id, "taskInstances", task_id, *mapped, "tries")
        answer = self._rest.request("GET", path)
        return [TaskInstance.read(values) for values in answer["task_instances"]]

    def log(
        self, dag_id: str, run_id: str, task_id: str, *, try_number: int, map_index: int = -1
    ) -> list[LogLine]:
        """The log of one try of a task, as far as it is written.

        Raises:
            NotFound: No such task instance or try.
        """
        path = _run_path(dag_id, run_id, "taskInstances", task_id, "logs", try_number)
        parameters: dict[str, str | int | bool] = {"full_content": True, "map_index": map_index}
        lines: list[LogLine] = []
        for _ in range(_MAXIMUM_LOG_PAGES):
            answer = self._rest.request("GET", path, parameters=parameters)
            lines += [LogLine.read(values) for values in answer["content"]]
            # A running task always has a next page; without new lines there is nothing to wait for.
            if not answer.get("continuation_token") or not answer["content"]:
                break
            parameters["token"] = answer["continuation_token"]
        return lines

    def xcom(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        *,
        key: str = "return_value",
        map_index: int = -1,
    ) -> Any:
        """An XCom as the task pushed it (see `windsock.airflow.values` for its types).

        Raises:
            NotFound: The task pushed nothing under this key.
        """
        path = _run_path(dag_id, run_id, "taskInstances", task_id, "xcomEntries", key)
        answer = self._rest.request("GET", path, parameters={"map_index": map_index})
        return decode(answer["value"])

    # Connections, variables and pools: `kind` is one of these three words

    def objects(self, kind: str) -> list[Json]:
        """Every connection, variable or pool, as Airflow shows it: secrets are masked."""
        return list(self._rest.pages(f"/{kind}", kind))

    def change_objects(
        self, kind: str, *, write: Sequence[Json] = (), delete: Sequence[str] = ()
    ) -> None:
        """Create or overwrite and delete connections, variables or pools, in one transaction.

        Args:
            kind: `connections`, `variables` or `pools`.
            write: Bodies as the API takes them; a field that is missing keeps its value.
            delete: Ids; those that do not exist are skipped. An id in both would be deleted:
                Airflow deletes last.

        Raises:
            ConfigurationError: Airflow refuses one of them.
        """
        actions: list[Json] = []
        if delete:
            skip = {"action": "delete", "action_on_non_existence": "skip"}
            actions.append({**skip, "entities": list(delete)})
        if write:
            overwrite = {"action": "create", "action_on_existence": "overwrite"}
            actions.append({**overwrite, "entities": list(write)})
        if not actions:
            return
        answer = self._rest.request("PATCH", f"/{kind}", body={"actions": actions})
        errors = [
            str(error.get("error", error))
            for action in ("delete", "create")
            for error in (answer.get(action) or {}).get("errors", [])
        ]
        if errors:
            raise ConfigurationError(f"Airflow refuses to change {kind}: {'; '.join(errors)}")
