"""Store the results of parses in Airflow's database, together where that is possible.

Storing one DAG file takes Airflow some 30 queries. For a save that affects 20 files that was longer
than parsing them. Airflow's own function takes any number of DAGs at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import structlog
from airflow.dag_processing.collection import update_dag_parsing_results_in_db
from airflow.models.dagwarning import DagWarning
from airflow.utils.session import create_session

from windsock.runtime.processor.texts import describe, storable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from airflow.dag_processing.manager import DagFileInfo
    from airflow.dag_processing.processor import DagFileParsingResult

log = structlog.get_logger("windsock")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one file.

    Attributes:
        version: The snapshot that its DAGs belong to.
        parsed: What its parser sent.
        seconds: How long the parse took.
        overtaken: Whether a save has overtaken it, and it is stored all the same.
    """

    file: DagFileInfo
    version: str | None
    parsed: DagFileParsingResult
    seconds: float
    overtaken: bool = False

    @property
    def name(self) -> str:
        """The file's path in its bundle."""
        return str(self.file.rel_path)

    @property
    def dags(self) -> dict[str, int]:
        """DAG id → number of tasks."""
        return {dag.dag_id: len(dag.data["dag"]["tasks"]) for dag in self.parsed.serialized_dags}

    def listed(self, errors: Collection[str]) -> dict[str, int]:
        """DAG id → number of tasks, of what Airflow lists: none of a path that has an error."""
        paths = {dag.dag_id: dag.relative_fileloc for dag in self.parsed.serialized_dags}
        broken = {*errors}
        if self.name in broken:
            return {}
        return {dag_id: tasks for dag_id, tasks in self.dags.items() if paths[dag_id] not in broken}


def store(results: Sequence[Result]) -> Iterator[tuple[Result, dict[str, str]]]:
    """Store results, together where that is possible.

    Yields:
        Each result with its import errors, path → traceback; some are found when it is stored.
    """
    for _, group in groupby(results, key=lambda result: result.version):
        together = list(group)
        if len(together) > 1 and _are_independent(together):
            try:
                found = _store_together(together)
            except Exception:
                log.warning("Storing parse results one by one.", files=len(together), exc_info=True)
            else:
                yield from ((result, _errors_of(result, found)) for result in together)
                continue
        for result in together:
            yield result, _store_alone(result)


def _are_independent(results: Sequence[Result]) -> bool:
    """Whether no two define the same DAG: then the order does not matter."""
    dag_ids = [dag_id for result in results for dag_id in result.dags]
    return len(dag_ids) == len(set(dag_ids))


def _store_alone(result: Result) -> dict[str, str]:
    try:
        return _errors_of(result, _store_together([result]))
    except Exception as error:
        log.exception("Could not store a parse result.", file=result.name)
        reason = f"{result.name}: parsed, but Airflow could not store it: {describe(error)}"
        return {result.name: reason}


def _store_together(results: Sequence[Result]) -> dict[tuple[str, str], str]:
    """One transaction; returns all import errors, by bundle and path."""
    bundle = results[0].file.bundle_name
    errors = {
        (bundle, path): storable(trace)
        for result in results
        for path, trace in (result.parsed.import_errors or {}).items()
    }
    with create_session() as session:
        update_dag_parsing_results_in_db(
            bundle_name=bundle,
            bundle_version=results[0].version,
            version_data=None,
            dags=[dag for result in results for dag in result.parsed.serialized_dags],
            import_errors=errors,  # Errors of serialization are added to it.
            parse_duration=max(result.seconds for result in results),
            warnings={
                DagWarning(**warning) if isinstance(warning, dict) else warning
                for result in results
                for warning in result.parsed.warnings or ()
            },
            session=session,
            files_parsed={(bundle, result.name) for result in results} | errors.keys(),
        )
    return errors


def _errors_of(result: Result, errors: dict[tuple[str, str], str]) -> dict[str, str]:
    """Those of one file; the inner files of a zip are its own too."""
    return {
        path: trace
        for (_, path), trace in errors.items()
        if path == result.name or path.startswith(f"{result.name}/")
    }
