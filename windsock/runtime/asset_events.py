"""Give a consumer's run the asset events of its own test, and not those of earlier ones.

Airflow gives an asset-triggered run all events since the consumer's last such run. But the runs of
a test that passed are deleted, the consumer's too, and their events stay: each further test would
see one event more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

OF_A_TEST = "windsock__"
"""How the id of a run begins that a test has started."""

RunKey = tuple[str, str]
"""DAG id, run id."""


def without_deleted(
    events: Sequence[Any], existing: Callable[[Collection[RunKey]], Collection[RunKey]]
) -> list[Any]:
    """The events without those of tests whose runs are deleted; all of them if none would be left.

    A run that only a deleted run has started is nobody's: it stays as Airflow made it.

    Args:
        events: Rows of Airflow's table `asset_event`.
        existing: Which of some runs Airflow still has.
    """
    source = {id(event): (event.source_dag_id or "", event.source_run_id or "") for event in events}
    of_tests = {key for key in source.values() if key[1].startswith(OF_A_TEST)}
    if len(events) < 2 or not of_tests:  # noqa: PLR2004 - one event is the one that started it
        return list(events)
    deleted = of_tests - set(existing(of_tests))
    return [event for event in events if source[id(event)] not in deleted] or list(events)


def forget_deleted_runs() -> None:
    """Have this process, Airflow's scheduler, take such events from each run when it starts."""
    from airflow.listeners import hookimpl  # noqa: PLC0415 - only in Airflow's processes
    from airflow.listeners.listener import get_listener_manager  # noqa: PLC0415 - the same

    class Listener:
        @hookimpl  # type: ignore[untyped-decorator] # Airflow is not installed where this is checked
        def on_dag_run_running(self, dag_run: Any) -> None:
            events = list(dag_run.consumed_asset_events)
            left = without_deleted(events, lambda keys: _existing(dag_run, keys))
            if len(left) < len(events):
                dag_run.consumed_asset_events = left

    get_listener_manager().add_listener(Listener())


def _existing(dag_run: Any, keys: Collection[RunKey]) -> Collection[RunKey]:
    from sqlalchemy import select, tuple_  # noqa: PLC0415 - only in Airflow's processes
    from sqlalchemy.orm import object_session  # noqa: PLC0415 - the same

    session, run = object_session(dag_run), type(dag_run)
    if session is None:
        return keys
    rows = session.execute(
        select(run.dag_id, run.run_id).where(tuple_(run.dag_id, run.run_id).in_(list(keys)))
    )
    return {(dag_id, run_id) for dag_id, run_id in rows}
