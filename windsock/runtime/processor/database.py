"""What the live dag-processor reads and writes in Airflow's metadata database, beyond Airflow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from airflow.models.dagrun import DagRun
from airflow.models.errors import ParseImportError
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from sqlalchemy import delete, exists, or_, select, union, update

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import ColumnElement

UNFINISHED = DagRun.state.in_([DagRunState.QUEUED, DagRunState.RUNNING])


def point_to(bundle: str, snapshot: str, *, except_files: Sequence[str]) -> None:
    """Let the next run of every DAG that a save did not affect start with the new snapshot.

    A task may import, when it runs, a module that its DAG file never opened; without this its next
    run would still see that module as it was at the DAG file's last parse.
    """
    with create_session() as session:
        session.execute(
            update(DagModel)
            .where(
                DagModel.bundle_name == bundle,
                DagModel.is_stale.is_(False),
                DagModel.relative_fileloc.not_in(except_files),
            )
            .values(bundle_version=snapshot)
            .execution_options(synchronize_session=False)
        )


def references(bundles: Sequence[str]) -> set[str]:
    """Every snapshot that something may still run: DAGs, and runs that have not ended."""
    of_dags = select(DagModel.bundle_version).where(
        DagModel.bundle_name.in_(bundles), DagModel.is_stale.is_(False)
    )
    of_runs = select(DagRun.bundle_version).where(UNFINISHED)
    # Callbacks that the scheduler asks for use the task's DAG version.
    of_tasks = (
        select(DagVersion.bundle_version)
        .join(TaskInstance, TaskInstance.dag_version_id == DagVersion.id)
        .join(
            DagRun,
            (DagRun.dag_id == TaskInstance.dag_id) & (DagRun.run_id == TaskInstance.run_id),
        )
        .where(UNFINISHED)
    )
    with create_session() as session:
        return set(filter(None, session.scalars(union(of_dags, of_runs, of_tasks))))


def keep_running(bundle: str, files: Sequence[str]) -> None:
    """Let the unfinished runs of files that were just broken go on.

    Airflow marks the DAGs of a file that does not import as stale, and its scheduler passes over
    the runs of stale DAGs; but a run is pinned to the snapshot that it started with.
    """
    if not files:
        return
    unfinished = exists().where(DagRun.dag_id == DagModel.dag_id, UNFINISHED)
    with create_session() as session:
        session.execute(
            update(DagModel)
            .where(DagModel.bundle_name == bundle, _in_files(files), unfinished)
            .values(is_stale=False)
            .execution_options(synchronize_session=False)
        )


def replace_errors(bundle: str, errors: Mapping[str, str], *, gone: Collection[str]) -> None:
    """Make these the import errors of some paths.

    Args:
        bundle: The name of the bundle.
        errors: Path → text.
        gone: Paths that have none any more.
    """
    with create_session() as session:
        session.execute(
            delete(ParseImportError).where(
                ParseImportError.bundle_name == bundle,
                ParseImportError.filename.in_([*errors, *gone]),
            )
        )
        session.add_all(
            ParseImportError(
                bundle_name=bundle, filename=path, stacktrace=text, timestamp=datetime.now(tz=UTC)
            )
            for path, text in errors.items()
        )


def deactivate_vanished(bundle: str, present: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """Deactivate the DAGs that files defined before and define no longer.

    Args:
        bundle: The name of the bundle.
        present: File → the DAGs that it defines now.

    Returns:
        File → the DAGs that were deactivated.
    """
    if not present:
        return {}
    vanished: dict[str, list[str]] = {}
    with create_session() as session:
        known = session.execute(
            select(DagModel.relative_fileloc, DagModel.dag_id)
            .where(
                DagModel.bundle_name == bundle,
                DagModel.is_stale.is_(False),
                _in_files(list(present)),
            )
            .order_by(DagModel.dag_id)
        )
        for path, dag_id in known:
            file = next(name for name in present if f"{path}/".startswith(f"{name}/"))
            if dag_id not in present[file]:
                vanished.setdefault(file, []).append(dag_id)
        gone = [dag_id for dag_ids in vanished.values() for dag_id in dag_ids]
        if gone:
            session.execute(update(DagModel).where(DagModel.dag_id.in_(gone)).values(is_stale=True))
    return vanished


def paused(dag_ids: Collection[str]) -> dict[str, str]:
    """DAG id → its schedule, of those DAGs that would run by themselves if they were not paused."""
    if not dag_ids:
        return {}
    with create_session() as session:
        found = session.execute(
            select(DagModel.dag_id, DagModel.timetable_summary).where(
                DagModel.dag_id.in_(dag_ids), DagModel.is_paused.is_(True)
            )
        )
        # "None" is Airflow's word for a DAG without a schedule.
        return {dag_id: schedule for dag_id, schedule in found if schedule not in (None, "None")}


def _in_files(files: Sequence[str]) -> ColumnElement[bool]:
    """Whether a DAG is in one of these files; a DAG in a zip has the zip's path before its own."""
    path = DagModel.relative_fileloc
    inside = (path.startswith(f"{file}/", autoescape=True) for file in files)
    return or_(path.in_(files), *inside)
