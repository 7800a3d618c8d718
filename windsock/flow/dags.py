"""DAGs, and connections, variables and pools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windsock.errors import DagError
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
    """Show import errors, warnings, and what is not synced; exit code 1 if there are errors."""
    from windsock.terminal.broken_files import show_errors  # noqa: PLC0415 - only here
    from windsock.terminal.file_warnings import show_warnings  # noqa: PLC0415 - only here
    from windsock.terminal.unsynced import show_unsynced  # noqa: PLC0415 - only here

    environment = work.environment()
    settled = ControlClient(environment.control_socket).barrier(timeout=work.settings.up_timeout)
    if as_json:
        work.console.json(settled.errors)
    else:
        answer = work.console.on_stdout
        show_errors(answer, settled.errors, places=work.places(environment))
        if not settled.errors:
            answer.success(f"all files import ({len(settled.dags)} DAGs)")
        show_warnings(answer, settled.warnings, places=work.places(environment))
        show_unsynced(answer, settled.problems, places=work.places(environment))
    return DagError.exit_code if settled.errors else 0


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
