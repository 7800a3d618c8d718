"""The pytest plugin: the `airflow` fixture, `--affected`, and what a failing test shows.

pytest loads this module wherever windsock is installed, so it imports nothing heavy: httpx and the
rest come when the first test asks for `airflow`.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from windsock.errors import WindsockError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from windsock.airflow.api import Airflow
    from windsock.model import Environment
    from windsock.sync_process.control import ControlClient
    from windsock.testing.affected import Known
    from windsock.testing.running import RunningAirflow
    from windsock.testing.runs import Run

_FAILED = pytest.StashKey[bool]()
_RUNNING = pytest.StashKey["RunningAirflow"]()
_AFFECTED = pytest.StashKey[list[str]]()
"""Why which tests are chosen."""
_KNOWN = pytest.StashKey["Known"]()
_FROM_WORKERS = "windsock_affected"
"""What xdist's main process gives to its workers and gets from them."""
_NO_AIRFLOW = "No module named 'airflow'"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add windsock's options."""
    group = parser.getgroup("windsock", "end-to-end tests of Airflow DAGs")
    group.addoption(
        "--windsock-state",
        metavar="FOLDER",
        help="the state folder of the environment to test on "
        "(else $WINDSOCK_STATE, the setting windsock_state, .windsock)",
    )
    group.addoption(
        "--windsock-keep-runs",
        action="store_true",
        help="do not delete the finished DAG runs of tests that passed",
    )
    group.addoption(
        "--affected",
        metavar="REF",
        help="only the tests whose DAGs a change since this git ref can affect",
    )
    parser.addini("windsock_state", "the state folder of the environment, relative to the rootdir")


def pytest_configure(config: pytest.Config) -> None:
    """Register windsock's marker."""
    config.addinivalue_line(
        "markers", "dag(dag_id, ...): the DAGs that the test depends on, for --affected"
    )


def pytest_report_header(config: pytest.Config) -> list[str]:
    """The line by which an xdist session, too, shows that `--affected` is used."""
    reference = config.getoption("--affected")
    return [f"windsock: only tests affected by changes since {reference}"] if reference else []


def state_folder(config: pytest.Config) -> Path:
    """The environment's state folder: the option, the variable, the setting or `.windsock`."""
    given = config.getoption("--windsock-state") or os.environ.get("WINDSOCK_STATE")
    if given:
        return config.invocation_params.dir / given
    return config.rootpath / (config.getini("windsock_state") or ".windsock")


@dataclass(frozen=True)
class Session:
    """The environment and the connections to it, opened once for all tests of a process."""

    environment: Environment
    api: Airflow
    control: ControlClient

    @classmethod
    def open(cls, config: pytest.Config) -> Session:
        """Find the environment of a test session.

        Raises:
            WindsockError: None is up.
        """
        from windsock.airflow.api import Airflow  # noqa: PLC0415 - heavy, and only tests of DAGs use it
        from windsock.model import Environment  # noqa: PLC0415 - the same
        from windsock.sync_process.control import ControlClient  # noqa: PLC0415 - the same

        environment = Environment.load(state_folder(config))
        control = ControlClient(environment.control_socket)
        return cls(environment, Airflow.of(environment), control)


@pytest.fixture(scope="session")
def windsock_session(pytestconfig: pytest.Config) -> Iterator[Session]:
    """The running environment; the test fails, it is not skipped, if there is none."""
    failure = ""
    try:
        session = Session.open(pytestconfig)
    except WindsockError as error:
        failure = f"{error}\n(looked in {state_folder(pytestconfig)}; `invoke test` brings it up)"
    if failure:  # outside the handler, else pytest shows both errors
        pytest.fail(failure, pytrace=False)
    yield session
    session.api.close()


@pytest.fixture
def airflow(
    windsock_session: Session, request: pytest.FixtureRequest, pytestconfig: pytest.Config
) -> Iterator[RunningAirflow]:
    """The running Airflow: `run = airflow.run("my_dag")`; see docs/testing.md."""
    from windsock.testing.running import RunningAirflow  # noqa: PLC0415 - heavy, late on purpose

    session, item = windsock_session, request.node

    def record(run: Run) -> None:
        item.user_properties.append(("windsock.dag_id", run.dag_id))
        item.user_properties.append(("windsock.run_id", run.run_id))
        item.user_properties.append(("windsock.run_url", run.url))

    running = RunningAirflow(
        session.api,
        control=session.control,
        dags_folder=Path(session.environment.dags_folder),
        further=session.environment.further,
        test_name=item.name,
        patience=session.environment.patience,
        parallelism=session.environment.parallelism,
        on_run=record,
    )
    item.stash[_RUNNING] = running
    yield running
    keep = pytestconfig.getoption("--windsock-keep-runs") or item.stash.get(_FAILED, False)
    problems = running.clean_up(keep_finished=keep)
    if problems:
        pytest.fail(
            "These DAG runs could not be stopped or deleted:\n" + "\n".join(problems), pytrace=False
        )


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Say where a test can run that imports Airflow itself, as a test with a DagBag does."""
    report = yield
    if report.failed and _NO_AIRFLOW in report.longreprtext:
        report.sections.append(_how_to_import_airflow(collector.path, collector.config))
    return report


def _how_to_import_airflow(test: Path, config: pytest.Config) -> tuple[str, str]:
    """A section of a report."""
    shown = os.path.relpath(test, config.invocation_params.dir)
    text = (
        "`invoke dags.check` imports every DAG there, as such a test does. To run the test itself "
        "there, add pytest to docker/requirements.txt, then:\n"
        f"    invoke shell -- python -m pytest {shown}"
    )
    return "Airflow has another Python environment than the tests", text


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the runs of a failing test to its report."""
    report = yield
    if report.failed and _NO_AIRFLOW in report.longreprtext:
        report.sections.append(_how_to_import_airflow(item.path, item.config))
    if report.failed and report.when != "teardown":
        item.stash[_FAILED] = True
        running = item.stash.get(_RUNNING, None)
        if running is not None and running.runs:
            from windsock.testing.report import section  # noqa: PLC0415 - only failures need it

            # On a cluster this folder does not exist: the store is in a pod.
            store = state_folder(item.config) / "store"
            report.sections += [
                section(run, places=running.places, store=store) for run in running.runs
            ]
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that no change can affect, if `--affected` asks for it."""
    reference = config.getoption("--affected")
    # With xdist the workers collect; the controller has no items.
    if not reference or not items:
        return
    from windsock.testing.affected import Known, select  # noqa: PLC0415 - only this option needs it

    given = getattr(config, "workerinput", {}).get(_FROM_WORKERS)
    known = Known(**given) if given else _known(config)
    selection = select(items, reference=reference, known=known)
    config.stash[_AFFECTED] = selection.summary
    if hasattr(config, "workeroutput"):
        config.workeroutput[_FROM_WORKERS] = selection.summary
    if selection.left_out:
        config.hook.pytest_deselected(items=selection.left_out)
        items[:] = selection.chosen


def _known(config: pytest.Config) -> Known:
    """What `--affected` needs to know, once Airflow has parsed what is on disk."""
    from windsock.testing.affected import Known, changes  # noqa: PLC0415 - only this option needs it

    try:
        session = Session.open(config)
        try:
            settled = session.control.barrier(timeout=session.environment.patience)
            dags_folder = Path(session.environment.dags_folder).resolve()
            changed, notes = changes(
                config.getoption("--affected"),
                folders={**_test_folders(config), dags_folder: "the DAG folder"},
                others=[
                    config.invocation_params.dir,
                    *map(Path, session.environment.further.values()),
                ],
            )
            return Known(
                changed=sorted(map(str, changed)),
                notes=notes,
                dags={dag.dag_id: dag.file for dag in session.api.dags()},
                broken=sorted(settled.errors),
                used=session.control.used(),
                dags_folder=str(dags_folder),
            )
        finally:
            session.api.close()
    except WindsockError as error:
        raise pytest.UsageError(str(error)) from error


def _test_folders(config: pytest.Config) -> dict[Path, str]:
    """The folders of the tests that pytest was asked for."""
    paths = [config.invocation_params.dir / arg.partition("::")[0] for arg in config.args]
    folders = [path if path.is_dir() else path.parent for path in paths if path.exists()]
    return dict.fromkeys(folders or [config.invocation_params.dir], "the tests")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker of xdist what the choice is made of: one process waits and asks git for all."""
    config: pytest.Config = node.config
    if config.getoption("--affected"):
        if _KNOWN not in config.stash:
            config.stash[_KNOWN] = _known(config)
        node.workerinput[_FROM_WORKERS] = asdict(config.stash[_KNOWN])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the choice of a worker, which is that of all workers."""
    summary = getattr(node, "workeroutput", {}).get(_FROM_WORKERS)
    if summary:
        node.config.stash[_AFFECTED] = summary


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say which tests `--affected` chose, and why."""
    return config.stash.get(_AFFECTED, [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say the same at the end of a session of xdist, whose main process collects nothing."""
    if _KNOWN in config.stash:
        for line in config.stash.get(_AFFECTED, []):
            terminalreporter.write_line(line)
