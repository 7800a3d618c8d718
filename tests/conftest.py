"""The environment that the end-to-end tests share: one real Airflow for the whole session.

To run single tests again and again, keep one up: name an empty folder in WINDSOCK_E2E, and the
tests bring their environment up there once, reuse it, and leave it running:

    WINDSOCK_E2E=/tmp/windsock-e2e pytest tests/e2e/test_loop.py
    INVOKE_WINDSOCK_STATE=/tmp/windsock-e2e/state invoke down --volumes
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.folder import Folder
    from tests.e2e.project import Project

KEPT = "WINDSOCK_E2E"

# The same examples each time, so that a run fails because of a change and not by luck. To search
# for new ones: `pytest tests/unit --hypothesis-profile=default`.
# How fast the machine is at the moment is no fault of a test.
# The tests of DAGs run with what running needs, which is without hypothesis.
with suppress(ModuleNotFoundError):
    import hypothesis

    hypothesis.settings.register_profile(
        "repeatable", derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("repeatable")

# A shell ignores SIGINT in what it runs in the background, and so would every command that a test
# starts there and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

SETTINGS = {
    # Faults that wait for a timeout should not take the default minutes.
    "INVOKE_WINDSOCK_PARSE_IMPORT_TIMEOUT": "6",
    "INVOKE_WINDSOCK_PARSE_FILE_TIMEOUT": "10",
    "INVOKE_WINDSOCK_PARSE_MEMORY_LIMIT_MB": "2048",
    # Whatever is parsed is so because of a save.
    "INVOKE_WINDSOCK_PARSE_INTERVAL": "3600",
    # So few that each save would collect what a run still needs, if nothing prevented it.
    "INVOKE_WINDSOCK_SYNC_KEEP_SNAPSHOTS": "3",
}


LONGEST = 300
"""Seconds that a test may take; `--timeout` and `@pytest.mark.timeout` change that."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """End a test of windsock that hangs. The tests of DAGs have no such limit."""
    if not config.pluginmanager.hasplugin("timeout") or config.getoption("timeout") is not None:
        return
    ours = [config.rootpath / folder for folder in config.getini("testpaths")]
    for item in items:
        is_ours = any(item.path.is_relative_to(folder) for folder in ours)
        if is_ours and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONGEST))


@pytest.fixture(scope="session")
def environment() -> Iterator[Project]:
    """A project on a copy of the example DAGs, whose environment is up."""
    from tests.e2e.folder import Folder  # noqa: PLC0415 - unit tests need none of this
    from tests.e2e.project import Project  # noqa: PLC0415 - the same

    kept = os.environ.get(KEPT)
    # No tmp_path: PostgreSQL's own user must pass through it, which pytest takes back each time
    # that it starts.
    home = Path(kept or tempfile.mkdtemp(prefix="windsock-e2e-")).resolve()
    project = Project(home=home, variables={**SETTINGS, **_ports(kept=bool(kept))})
    project.dags.mkdir(parents=True, exist_ok=True)
    Folder(project).restore()
    with _sigterm_as_interrupt():
        try:
            project.up()
            yield project
        finally:
            project.close()
            if not kept:
                _take_down(project)


def _ports(*, kept: bool) -> dict[str, str]:
    from tests.e2e.machine import free_port  # noqa: PLC0415 - see above

    return {"INVOKE_WINDSOCK_LOCAL_PORT": "18733" if kept else str(free_port())}


def _take_down(project: Project) -> None:
    from tests.e2e.machine import assert_nothing_runs  # noqa: PLC0415 - see above

    down = project.invoke("down", "--volumes")
    try:
        assert down.returncode == 0, down.stderr
        assert not project.state.exists()
        assert_nothing_runs(project)
    finally:
        shutil.rmtree(project.home, ignore_errors=True)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """A CI system that cancels a job sends SIGTERM: take the environment down then, too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def folder(environment: Project) -> Iterator[Folder]:
    """The DAG folder of the shared environment; in the end the examples are there, and no more."""
    from tests.e2e.folder import Folder  # noqa: PLC0415 - see above

    folder = Folder(environment)
    try:
        yield folder
    finally:
        for run in environment.airflow.runs():
            if not run.finished:  # a test failed before its end
                environment.airflow.stop(run.dag_id, run.run_id)
        folder.restore()
        folder.settle()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of windsock's own tests."""
    parser.addoption(
        "--random-trees",
        type=int,
        default=25,
        metavar="N",
        help="how many random trees test_random_trees.py drops into the DAG folder",
    )
