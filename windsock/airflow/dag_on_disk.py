"""The DAG of what is on disk, or why there is none to run: no file has it, or its own is broken."""

from __future__ import annotations

import difflib
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.airflow.rest import NotFound
from windsock.errors import ConfigurationError, DagError
from windsock.terminal.import_error import explain
from windsock.terminal.unsynced import all_unsynced

if TYPE_CHECKING:
    from collections.abc import Iterable

    from windsock.airflow.api import Airflow
    from windsock.airflow.records import Dag
    from windsock.errors import WindsockError
    from windsock.model import ParsedSnapshot
    from windsock.terminal.places import Places


def listed_dag(airflow: Airflow, dag_id: str, settled: ParsedSnapshot, *, places: Places) -> Dag:
    """The DAG, as Airflow lists it.

    Args:
        airflow: Which has parsed the folder.
        dag_id: Of the DAG.
        settled: What Airflow made of the folder.
        places: Where the author's files are.

    Raises:
        DagError: A file that does not import has the id in it.
        ConfigurationError: Nothing on disk has it.
    """
    dag = None
    with suppress(NotFound):
        dag = airflow.dag(dag_id)
    if dag is None or dag.stale:
        known = (each.dag_id for each in airflow.dags())
        raise _missing(dag_id, known, settled, places=places)
    return dag


def sound_dag(airflow: Airflow, dag_id: str, settled: ParsedSnapshot, *, places: Places) -> Dag:
    """The same, of a file that imports.

    Raises:
        DagError: Its file does not import.
        ConfigurationError: Nothing on disk has it.
    """
    dag = listed_dag(airflow, dag_id, settled, places=places)
    if dag.file in settled.errors:
        raise _broken(dag_id, dag.file, settled.errors[dag.file], places=places)
    return dag


def _broken(dag_id: str, file: str, traceback: str, *, places: Places) -> DagError:
    error = explain(traceback, places=places, path=file)
    shown = places.shown(file)
    lines = [f"{error.place or shown}  {error.headline}", *error.details, error.remedy]
    hint = "\n".join(line for line in lines if line)
    return DagError(f"{dag_id}: its file {shown} does not import", hint)


def _missing(
    dag_id: str, known: Iterable[str], settled: ParsedSnapshot, *, places: Places
) -> WindsockError:
    """The error of a DAG that is not among those that Airflow lists."""
    for file, traceback in sorted(settled.errors.items()):
        if _names(Path(places.dags) / file, dag_id):
            return _broken(dag_id, file, traceback, places=places)
    ids = sorted({*settled.dags, *known})
    near = difflib.get_close_matches(dag_id, ids, 3)
    hint = [f"Did you mean {', '.join(near)}?" if near else f"There are: {', '.join(ids)}."]
    for file, traceback in sorted(settled.errors.items()):
        error = explain(traceback, places=places, path=file)
        hint.append(f"{error.place or places.shown(file)} does not import: {error.headline}")
    hint += all_unsynced(settled.problems, places=places)
    return ConfigurationError(f"there is no DAG {dag_id!r}", "\n".join(hint))


def _names(file: Path, dag_id: str) -> bool:
    """Whether a DAG file contains the id: then it most likely defines the DAG."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.search(rf"\b{re.escape(dag_id)}\b", text) is not None
