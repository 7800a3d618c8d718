"""A stopwatch with a look at Airflow's REST API, the same for every system that is measured.

A sample begins when the save is done and ends when the API, asked every 10 ms over one reused
connection, shows it. The requests are the cheapest that tell: they share the cores with what is
measured.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from windsock.airflow.rest import NotFound, Rest
from windsock.errors import DeadlineExceeded, WindsockError

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_SECONDS = 0.01
RUN_POLL_SECONDS = 0.05
"""A run is watched less closely: asking every 10 ms would slow the run itself down."""
COARSE = 200
"""A wait of minutes is asked about less often: never finer than a 200th of what has passed."""

GENTLE_POLL_SECONDS = 0.3
"""Where Airflow's own times are read: asking every 50 ms made a run in a pod a quarter longer."""

FINISHED = ("success", "failed")


class Interrupted(WindsockError):
    """The benchmark ends while a sample is being taken in the background."""


@dataclass(frozen=True, kw_only=True)
class TimedRun:
    """A run that succeeded, by Airflow's own clock.

    Attributes:
        run_id: Of it.
        triggered: When it was asked for: seconds since the epoch, by this machine's clock.
        ended: When Airflow called it successful, likewise by Airflow's.
        tasks: Its task instances, as the API returns them.
    """

    run_id: str
    triggered: float
    ended: float
    tasks: list[dict[str, Any]]


class Observer:
    """Looks at one Airflow.

    Args:
        url: Without a trailing slash.
        user: A user of SimpleAuthManager.
        password: Of `user`.
        stop: Ends every wait when set.
    """

    def __init__(
        self, url: str, user: str, password: str, *, stop: threading.Event | None = None
    ) -> None:
        self._arguments = (url, user, password)
        self._rest = Rest(url, user, password)
        self._stop = stop or threading.Event()

    def another(self) -> Observer:
        """Another observer with another connection, for another thread."""
        return Observer(*self._arguments, stop=self._stop)

    def interrupt(self) -> None:
        """End all waits, also those of the others made by `another`."""
        self._stop.set()

    def close(self) -> None:
        """Close the connection."""
        self._rest.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- time ---------------------------------------------------------------------------------

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            Interrupted: The benchmark ends.
        """
        if self._stop.wait(seconds):
            raise Interrupted("the benchmark was ended")

    def seconds_until(
        self,
        seen: Callable[[], bool],
        *,
        what: str,
        timeout: float,
        interval: float = POLL_SECONDS,
    ) -> float:
        """Seconds from this call until `seen` is true.

        Args:
            seen: Asks Airflow.
            what: Is waited for; for the message.
            timeout: In seconds.
            interval: Seconds between an answer and the next question.

        Raises:
            DeadlineExceeded: It was not seen in time.
            Interrupted: The benchmark ends.
        """
        started = time.monotonic()
        while not seen():
            passed = time.monotonic() - started
            if passed > timeout:
                raise DeadlineExceeded(f"{what}: not seen within {timeout:.0f} s")
            self.pause(max(interval, passed / COARSE))
        return time.monotonic() - started

    # --- looks --------------------------------------------------------------------------------

    def has_task(self, dag_id: str, task_id: str) -> bool:
        """Whether the newest structure of a DAG has this task."""
        try:
            self._rest.request("GET", f"/dags/{dag_id}/tasks/{task_id}")
        except NotFound:
            return False
        return True

    def lists(self, dag_id: str) -> bool:
        """Whether the list of DAGs shows this one."""
        answer = self._rest.request("GET", "/dags", parameters={"dag_id_prefix_pattern": dag_id})
        return any(dag["dag_id"] == dag_id for dag in answer["dags"])

    def count(self) -> int:
        """How many DAGs there are."""
        answer = self._rest.request("GET", "/dags", parameters={"limit": 1})
        return int(answer["total_entries"])

    def has_import_error(self, file: str, text: str) -> bool:
        """Whether the import error of this file contains `text`."""
        answer = self._rest.request("GET", "/importErrors")
        return any(
            error["filename"].endswith(file) and text in error["stack_trace"]
            for error in answer["import_errors"]
        )

    def healthy(self) -> bool:
        """Whether Airflow answers and calls every component healthy."""
        try:
            answer = self._rest.request("GET", "/monitor/health")
        except WindsockError:
            return False
        components = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((answer.get(name) or {}).get("status") == "healthy" for name in components)

    # --- runs ---------------------------------------------------------------------------------

    def unpause(self, dag_id: str) -> None:
        """Let the runs of a DAG start."""
        self._rest.request("PATCH", f"/dags/{dag_id}", body={"is_paused": False})

    def seconds_of_run(self, dag_id: str, *, timeout: float) -> float:
        """Trigger a DAG; seconds from the request until the API calls the run successful.

        Raises:
            WindsockError: It failed, or did not end in time.
        """
        started = time.monotonic()
        self._run(dag_id, timeout=timeout, interval=RUN_POLL_SECONDS)
        return time.monotonic() - started

    def timed_run(self, dag_id: str, *, timeout: float) -> TimedRun:
        """Trigger a DAG and wait for its success, asking seldom.

        Raises:
            WindsockError: As for `seconds_of_run`.
        """
        triggered = time.time()
        run = self._run(dag_id, timeout=timeout, interval=GENTLE_POLL_SECONDS)
        path = f"/dags/{dag_id}/dagRuns/{run['dag_run_id']}/taskInstances"
        return TimedRun(
            run_id=run["dag_run_id"],
            triggered=triggered,
            ended=datetime.fromisoformat(run["end_date"]).timestamp(),
            tasks=self._rest.request("GET", path)["task_instances"],
        )

    def _run(self, dag_id: str, *, timeout: float, interval: float) -> dict[str, Any]:
        """Trigger a DAG; its run when it has succeeded."""
        path = f"/dags/{dag_id}/dagRuns"
        run: dict[str, Any] = self._rest.request("POST", path, body={"logical_date": None})
        run_id = run["dag_run_id"]

        def ended() -> bool:
            run.update(self._rest.request("GET", f"{path}/{run_id}"))
            return run["state"] in FINISHED

        self.seconds_until(ended, what=f"{run_id}", timeout=timeout, interval=interval)
        if run["state"] != "success":
            raise WindsockError(f"the run {run_id} of {dag_id} ended as {run['state']}")
        return run
