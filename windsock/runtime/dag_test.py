"""`dag.test()` and `airflow dags test`, beside a scheduler that runs.

Airflow stores the run as one that is running, and its tasks as scheduled, so the scheduler runs
them a second time. It passes over the runs of a DAG that is paused: the DAG is so during the test.
"""

from __future__ import annotations

import atexit
import functools
from typing import Any

SHELL_VARIABLE = "WINDSOCK_SHELL"
"""Set where a person's own commands run, by `invoke shell`."""


def run_once() -> None:
    """Let `dag.test()` in this process run each task once."""
    from airflow.models import dagrun  # noqa: PLC0415 - heavy, and only here

    original = getattr(dagrun, "get_or_create_dagrun", None)
    if original is None or hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def create(*, dag: Any, **more: Any) -> Any:
        if _pause(dag.dag_id, paused=True):
            resume = _Once(lambda: _pause(dag.dag_id, paused=False))
            atexit.register(resume)  # After an interrupt or an error.
            run = original(dag=dag, **more)
            run.update_state = _and_then(run, resume)
            return run
        return original(dag=dag, **more)

    dagrun.get_or_create_dagrun = create


class _Once:
    """A call that is made once, however often it is asked for."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


def _and_then(run: Any, resume: _Once) -> Any:
    """The run's own `update_state`, which also calls `resume` once the run has ended."""
    update = run.update_state

    def update_state(*arguments: Any, **options: Any) -> Any:
        answer = update(*arguments, **options)
        if str(run.state) != "running":
            resume()
        return answer

    return update_state


def _pause(dag_id: str, *, paused: bool) -> bool:
    """Pause a DAG or let it go on; returns whether that changed anything."""
    from airflow.models.dag import DagModel  # noqa: PLC0415 - as above
    from airflow.utils.session import create_session  # noqa: PLC0415
    from sqlalchemy import update  # noqa: PLC0415

    change = (
        update(DagModel)
        .where(DagModel.dag_id == dag_id, DagModel.is_paused.is_(not paused))
        .values(is_paused=paused)
        .execution_options(synchronize_session=False)
    )
    with create_session(scoped=False) as session:
        return bool(session.execute(change).rowcount)
