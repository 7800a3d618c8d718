"""Run a DAG from the command line: say why its run waits, and why it failed."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from windsock.airflow.waiting import Watch
from windsock.errors import (
    ConfigurationError,
    DagError,
    DeadlineExceeded,
    EnvironmentFailure,
    WindsockError,
)
from windsock.flow.workspace import airflow_client
from windsock.sync_process.control import ControlClient
from windsock.sync_process.run_reasons import FAILING, RunReasons

if TYPE_CHECKING:
    from windsock.airflow.api import Airflow
    from windsock.airflow.failure import Failure
    from windsock.airflow.records import DagRun
    from windsock.airflow.waiting import Reason
    from windsock.flow.workspace import Workspace
    from windsock.model import Environment
    from windsock.terminal.console import Console


def dags_trigger(
    work: Workspace, *, dag_id: str, conf: str, wait: bool, timeout: float, as_json: bool
) -> int:
    """Trigger a run on exactly what is on disk; with `wait`, exit code 1 unless it succeeds.

    Raises:
        DeadlineExceeded: It has not ended in time; the hint says why, and the run goes on.
        EnvironmentFailure: A component without which no run goes on ends again and again.
    """
    from windsock.airflow.dag_on_disk import sound_dag  # noqa: PLC0415 - as in `airflow_client`

    environment = work.environment()
    configuration = _json_object(conf)
    deadline = time.monotonic() + timeout
    control = ControlClient(environment.control_socket)
    settled = control.barrier(timeout=timeout)
    client = airflow_client(environment)
    sound_dag(client, dag_id, settled, places=work.places(environment))
    run = _trigger(client, dag_id, configuration)
    # Also without --wait: the sync process pauses the DAG again when the run has ended.
    try:
        held = control.hold(dag_id, run_id=run.run_id)
    except BaseException:
        with contextlib.suppress(WindsockError):  # Else it would start whenever it can.
            client.stop(dag_id, run.run_id)
        raise
    url = client.run_url(dag_id, run.run_id)
    answer = {"dag_id": dag_id, "run_id": run.run_id, "state": run.state, "url": url}
    if not as_json:
        work.console.success(f"{dag_id}: run {run.run_id} is queued  {url}")
    if not wait:
        if as_json:
            work.console.json(answer)
        return 0
    left = max(0.0, deadline - time.monotonic())
    known = RunReasons(client, control, parallelism=environment.parallelism)
    run, reasons = _wait(work.console, client, run, known, timeout=left, tells=not as_json)
    if not run.finished:
        if as_json:
            why = [reason.as_json() for reason in reasons]
            work.console.json({**answer, "state": run.state, "waiting": why})
        raise _unfinished(run, reasons, timeout=timeout, url=url)
    if held:
        with contextlib.suppress(WindsockError):  # The sync process tries it again.
            control.release(dag_id, run.run_id)
    # A run may succeed although tasks failed: what comes after them did not mind.
    failure = _explain(work, client, run, environment, known)
    if as_json:
        explained = {"failure": failure.as_json()} if failure else {}
        work.console.json({**answer, "state": run.state, **explained})
    else:
        _show_end(work.console, run, failure, url=url)
    return 0 if run.state == "success" else DagError.exit_code


def _trigger(client: Airflow, dag_id: str, configuration: dict[str, Any]) -> DagRun:
    from windsock.airflow.api import RequestRefused  # noqa: PLC0415 - as in `airflow_client`

    try:
        return client.trigger(dag_id, conf=configuration)
    except RequestRefused as error:
        if configuration or "Invalid input for param" not in error.message:
            raise
        # Without a --conf it is the DAG's own param that does not fit its schema.
        hint = "Mend the param in the DAG file, or give it a value with `--conf`."
        raise DagError(error.message, hint) from error


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise ConfigurationError(
            f"--conf is no JSON: {error}", """Write it like --conf '{"day": "2026-01-01"}'."""
        ) from error
    if not isinstance(value, dict):
        raise ConfigurationError("--conf must be a JSON object", """Like '{"day": 1}'.""")
    return value


def _wait(
    console: Console,
    client: Airflow,
    run: DagRun,
    known: RunReasons,
    *,
    timeout: float,
    tells: bool,
) -> tuple[DagRun, list[Reason]]:
    """Wait for the end of a run, and say meanwhile why it takes so long.

    Returns:
        The run, and why it has not ended if it has not: its time is up, or nothing will end it.
    """
    from windsock.airflow.api import StillGoing  # noqa: PLC0415 - httpx only where it is used

    def look() -> list[Reason]:
        return known.failing() or known.reasons(run.dag_id, run.run_id)

    def tell(found: list[Reason]) -> None:
        if found[0].code == FAILING:
            raise _Hopeless(found)
        for reason in found if tells else ():
            waits = "" if reason.code == "running" else "waits: "
            console.line(f"  {waits}{reason.message}")
            if reason.hint:
                console.detail(f"         {reason.hint}")

    try:
        ended = client.wait(run.dag_id, run.run_id, timeout=timeout, meanwhile=Watch(look, tell))
    except _Hopeless as hopeless:
        return run, hopeless.reasons
    except StillGoing:
        now = client.run(run.dag_id, run.run_id)
        found: list[Reason] = []
        if not now.finished:
            with contextlib.suppress(WindsockError):
                found = look()
        return now, found
    return ended, []


class _Hopeless(Exception):
    """A component without which no run goes on ends again and again."""

    def __init__(self, reasons: list[Reason]) -> None:
        super().__init__()
        self.reasons = reasons


def _unfinished(run: DagRun, reasons: list[Reason], *, timeout: float, url: str) -> WindsockError:
    """The error of a run that has not ended in the seconds that the person gave it."""
    lines = [line for item in reasons for line in (item.message, item.hint)]
    first = f": {lines.pop(0)}" if lines else ""
    if reasons and reasons[0].code == FAILING:
        return EnvironmentFailure(
            f"{run.dag_id}: the run does not go on{first}", "\n".join(filter(None, lines))
        )
    return DeadlineExceeded(
        f"{run.dag_id}: the run is still {run.state} after {timeout:g} s{first}",
        "\n".join([*filter(None, lines), f"The run goes on: {url}"]),
    )


def _explain(
    work: Workspace,
    client: Airflow,
    run: DagRun,
    environment: Environment,
    known: RunReasons,
) -> Failure | None:
    """Why a run, or tasks of it, failed; None if none did, or if Airflow does not say."""
    from windsock.airflow.failure import (  # noqa: PLC0415 - httpx only where it is used
        explain_failure,
    )

    try:
        failure = explain_failure(
            client,
            run,
            places=work.places(environment),
            # On a cluster this folder does not exist: the store is in a pod.
            store=work.settings.state_folder / "store",
            pods=known.failed_pods,
        )
    except WindsockError as error:
        work.console.error(error)
        return None
    return failure if failure.tasks or run.state != "success" else None


def _show_end(console: Console, run: DagRun, failure: Failure | None, *, url: str) -> None:
    if run.state == "success":
        although = ", although tasks failed" if failure else ""
        console.success(f"{run.dag_id}: success{although}")
    else:
        console.failure(f"{run.dag_id}: {run.state}  {url}")
    if failure is None:
        return
    for task in failure.tasks:
        place = f"{task.place}  " if task.place else ""
        console.failure(f"{place}{task.task}: {task.headline}")
        for line in task.log:
            console.detail(f"    {line}")
    if failure.left_out:
        console.line(f"  {failure.left_out} more tasks failed")
    if failure.since_green:
        console.line(f"  since the last run that succeeded, {failure.green_run}:")
        for line in failure.since_green:
            console.line(f"    {line}")
