"""DAGs, and connections, variables and pools."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from windsock.errors import ConfigurationError, DagError
from windsock.flow.workspace import airflow_client
from windsock.sync_process.control import ControlClient

if TYPE_CHECKING:
    from windsock.flow.workspace import Workspace


def dags_list(work: Workspace, *, as_json: bool) -> None:
    """List the DAGs Airflow knows."""
    environment = work.environment()
    dags = airflow_client(environment).dags()
    rows: list[dict[str, Any]] = [
        {
            "dag_id": dag.dag_id,
            "file": dag.file,
            "paused": dag.paused,
            "import_error": dag.import_errors,
        }
        for dag in dags
    ]
    if as_json:
        work.console.json(rows)
        return
    places = work.places(environment)
    work.console.table(
        (row["dag_id"], places.shown(row["file"] or ""), _remarks(row)) for row in rows
    )


def _remarks(row: dict[str, Any]) -> str:
    remarks = {"paused": "(paused)", "import_error": "(its file does not import any more)"}
    return "  ".join(text for name, text in remarks.items() if row[name])


def dags_errors(work: Workspace, *, as_json: bool) -> int:
    """Show import errors; exit code 1 when there are any."""
    from windsock.terminal.broken_files import show_errors  # noqa: PLC0415 - only here

    environment = work.environment()
    settled = ControlClient(environment.control_socket).barrier(timeout=work.settings.up_timeout)
    if as_json:
        work.console.json(settled.errors)
    else:
        answer = work.console.on_stdout
        show_errors(answer, settled.errors, places=work.places(environment))
        if not settled.errors:
            answer.success(f"all files import ({len(settled.dags)} DAGs)")
    return DagError.exit_code if settled.errors else 0


def dags_trigger(
    work: Workspace, *, dag_id: str, conf: str, wait: bool, timeout: float, as_json: bool
) -> int:
    """Trigger a run on exactly what is on disk; with `wait`, exit code 1 unless it succeeds."""
    environment = work.environment()
    configuration = _json_object(conf)
    deadline = time.monotonic() + timeout
    ControlClient(environment.control_socket).barrier(timeout=timeout)
    client = airflow_client(environment)
    if wait and client.dag(dag_id).paused:
        raise ConfigurationError(
            f"{dag_id} is paused: its run would not start",
            f"Unpause it in the UI, or by `invoke shell -- airflow dags unpause {dag_id}`.",
        )
    run = client.trigger(dag_id, conf=configuration)
    url = client.run_url(dag_id, run.run_id)
    if not as_json:
        work.console.success(f"{dag_id}: run {run.run_id} is queued  {url}")
    if wait:
        run = client.wait(dag_id, run.run_id, timeout=max(0.0, deadline - time.monotonic()))
    if as_json:
        work.console.json({"dag_id": dag_id, "run_id": run.run_id, "state": run.state, "url": url})
    elif wait:
        show = work.console.success if run.state == "success" else work.console.failure
        show(f"{dag_id}: {run.state}")
    return DagError.exit_code if wait and run.state != "success" else 0


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


def settings_export(work: Workspace, *, output: str) -> None:
    """Write connections, variables and pools as YAML."""
    from windsock.airflow.settings_export import export  # noqa: PLC0415 - yaml only where it is used

    text = export(airflow_client(work.environment()))
    if not output:
        work.console.write(text.rstrip("\n"))
        return
    path = work.settings.path(output)
    path.write_text(text, encoding="utf-8")
    work.console.success(f"wrote {path}")
