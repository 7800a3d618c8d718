"""The DAGs: listed, run, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windsock.commands.command import command, workspace
from windsock.commands.late import LateModule

if TYPE_CHECKING:
    from invoke import Context

    from windsock import flow
else:
    flow = LateModule("windsock.flow")


@command(help={"json": "For scripts: one JSON document on stdout."})
def list_(context: Context, json: bool = False) -> None:
    """List the DAGs that Airflow knows."""
    flow.dags_list(workspace(context), as_json=json)


@command(
    positional=["dag_id"],
    help={
        "dag-id": "The DAG to run.",
        "conf": "The run's configuration, as a JSON object.",
        "wait": "Wait until the run has ended; the exit code says whether it succeeded.",
        "timeout": "Seconds to wait at most.",
        "json": "For scripts: one JSON document on stdout.",
    },
)
def trigger(
    context: Context,
    dag_id: str,
    conf: str = "",
    wait: bool = False,
    timeout: float = 300.0,
    json: bool = False,
) -> int:
    """Run a DAG, on exactly the files that are on disk now."""
    return flow.dags_trigger(
        workspace(context), dag_id=dag_id, conf=conf, wait=wait, timeout=timeout, as_json=json
    )


@command(help={"json": "For scripts: one JSON document on stdout."})
def errors(context: Context, json: bool = False) -> int:
    """Show every DAG file that does not import, with its traceback."""
    return flow.dags_errors(workspace(context), as_json=json)


@command(help={"json": "For scripts: one JSON document on stdout.", "dags": "The DAG folder."})
def check(context: Context, json: bool = False, dags: str = "") -> int:
    """Import every DAG without a running Airflow: the quick check before a commit."""
    work = workspace(context, dags=dags)
    return flow.dags_check(work if dags else work.with_dags_of_what_is_up(), as_json=json)
