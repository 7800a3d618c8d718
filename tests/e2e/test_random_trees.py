"""Nothing that stands in the DAG folder stops the dag-processor, or yields nothing in silence."""

from __future__ import annotations

import itertools
import shutil
import statistics
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.e2e.folder import Folder, dag_source
from tests.e2e.machine import component_pid
from tests.e2e.random_trees import trees
from windsock.runtime.store import is_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.e2e.project import Project
    from tests.e2e.random_trees import Entry

pytestmark = pytest.mark.e2e


@pytest.mark.timeout(7200)
def test_no_tree_stops_the_loop(
    environment: Project, folder: Folder, request: pytest.FixtureRequest
) -> None:
    processor = psutil.Process(component_pid(environment, "dag-processor"))
    numbers = itertools.count()
    seconds: list[float] = []
    folder.write("tiny.py", dag_source("tiny"))

    @settings(
        max_examples=request.config.getoption("random_trees"),
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(trees)
    def plant(tree: Sequence[Entry]) -> None:
        clear(folder.path)
        for entry in tree:
            entry.plant(folder.path)
        task = f"task_{next(numbers)}"
        folder.write("tiny.py", dag_source("tiny", [task]))
        began = time.monotonic()
        settled = folder.settle()
        seconds.append(time.monotonic() - began)
        assert processor.is_running(), "the dag-processor ended"
        assert "tiny" in settled.dags, settled
        assert environment.airflow.tasks("tiny") == [task]
        assert silent_files(environment) == set()

    try:
        plant()
    finally:
        clear(folder.path)
    # For the long form, with `-s`: no test fails by a time.
    late = sorted(seconds)[int(0.95 * len(seconds))]
    print(  # noqa: T201
        f"{len(seconds)} trees; the folder was parsed after {statistics.median(seconds):.2f} s "
        f"(p50), {late:.2f} s (p95), {max(seconds):.2f} s at most; "
        f"{sum(each <= 1 for each in seconds)} within a second"
    )


def silent_files(project: Project) -> set[str]:
    """The files in the DAG folder that should define a DAG, yield none, and have no reason."""
    sync = project.control.status()
    told = {*sync["errors"], *sync["problems"], *(each["file"] for each in sync["warnings"])}
    others = " ".join(each["message"] for each in sync["warnings"])  # Two files with one DAG.
    owners = {dag.file for dag in project.airflow.dags()}
    used = {path for file, paths in project.control.used().items() for path in {*paths} - {file}}
    return {
        name
        for name in dag_files(project.dags)
        if not told.intersection({name, *map(str, PurePosixPath(name).parents)})
        and name not in owners | used
        and name not in others
    }


def dag_files(folder: Path) -> set[str]:
    """The modules and archives of a folder by their names, as windsock prints them."""
    return {
        bytes(path.relative_to(folder)).decode("utf-8", "backslashreplace")
        for path in folder.rglob("*")
        if path.suffix.lower() in {".py", ".zip"} and path.name != "__init__.py" and is_file(path)
    }


def clear(folder: Path) -> None:
    """Remove all but the file that is always there: an empty folder halts the sync."""
    for path in list(folder.iterdir()):
        if not path.is_symlink() and path.is_dir():
            shutil.rmtree(path)
        elif path.name != "tiny.py":
            path.unlink()
