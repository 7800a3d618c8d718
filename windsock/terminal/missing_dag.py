"""Why there is no DAG to run: its file does not import, or nothing on disk defines it."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from windsock.errors import ConfigurationError, DagError
from windsock.terminal.import_error import explain
from windsock.terminal.unsynced import all_unsynced

if TYPE_CHECKING:
    from collections.abc import Iterable

    from windsock.errors import WindsockError
    from windsock.model import ParsedSnapshot
    from windsock.terminal.places import Places


def broken_dag(dag_id: str, file: str, traceback: str, *, places: Places) -> DagError:
    """The error of a DAG whose file does not import.

    Args:
        dag_id: Of the DAG.
        file: In the snapshot.
        traceback: Of its import.
        places: Where the author's files are.
    """
    error = explain(traceback, places=places, path=file)
    shown = places.shown(file)
    lines = [f"{error.place or shown}  {error.headline}", *error.details, error.remedy]
    hint = "\n".join(line for line in lines if line)
    return DagError(f"{dag_id}: its file {shown} does not import", hint)


def missing_dag(
    dag_id: str, known: Iterable[str], settled: ParsedSnapshot, *, places: Places
) -> WindsockError:
    """The error of a DAG that Airflow does not list.

    Args:
        dag_id: As it was asked for.
        known: The ids that Airflow lists.
        settled: What Airflow made of the folder.
        places: Where the author's files are.

    Returns:
        A DagError if a file that does not import has the id in it, else a ConfigurationError.
    """
    for file, traceback in sorted(settled.errors.items()):
        if _names(Path(places.dags) / file, dag_id):
            return broken_dag(dag_id, file, traceback, places=places)
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
