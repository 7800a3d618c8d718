"""The same cases on the fake of the unit tests and on a real Airflow.

The real one is the environment of `$WINDSOCK_STATE` if that is set; else the session fixture
`environment` of tests/conftest.py brings one up. `pytest -m "not e2e"` leaves the real one out.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.airflow.fake_airflow import FakeAirflow, FakeDag, FakeTask, line_of
from windsock.airflow.api import Airflow
from windsock.errors import EnvironmentFailure
from windsock.model import Environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.project import Project

DAG_IDS = (
    *("contract_consumer", "contract_counter", "contract_endless", "contract_failing"),
    *("contract_group", "contract_producer", "contract_shapes"),
)
DAG_FILE = "windsock_contract_dags.py"
BROKEN_FILE = "windsock_contract_broken.py"
PATIENCE = 60.0


def eventually(condition: Callable[[], bool], *, what: str) -> None:
    """Look until a condition holds; fail after `PATIENCE` seconds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.1)


class Subject:
    """An Airflow under contract, and how to break a DAG file of it."""

    def __init__(self, api: Airflow, *, break_file: Callable[[bool], None]) -> None:
        self.api = api
        self.break_file = break_file
        self.run_id = f"windsock__contract__{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def real_environment(request: pytest.FixtureRequest) -> Environment:
    """The environment that is up."""
    folder = os.environ.get("WINDSOCK_STATE")
    if folder:
        return Environment.load(Path(folder))
    project: Project = request.getfixturevalue("environment")
    return Environment.load(project.state)


@pytest.fixture(scope="module")
def real_airflow(real_environment: Environment) -> Iterator[Airflow]:
    """The environment's Airflow, with the contract's DAGs in its folder."""
    folder = Path(real_environment.dags_folder)
    shutil.copy(Path(__file__).with_name("contract_dags.py"), folder / DAG_FILE)
    with Airflow.of(real_environment) as api:
        try:
            eventually(
                lambda: {*DAG_IDS} <= {dag.dag_id for dag in api.dags()},
                what="Airflow lists the contract's DAGs",
            )
            yield api
        finally:
            for dag_id in DAG_IDS:
                delete_runs(api, dag_id)
            (folder / DAG_FILE).unlink(missing_ok=True)


def delete_runs(api: Airflow, dag_id: str, *, run_id_prefix: str = "") -> None:
    """Delete the runs of a DAG, those that go on too."""

    def are_gone() -> bool:
        # The scheduler may have locked the rows of a run; Airflow answers 500 then.
        with suppress(EnvironmentFailure):
            for run in api.runs(dag_id, run_id_prefix=run_id_prefix):
                if not run.finished:
                    api.stop(dag_id, run.run_id)
                api.delete_run(dag_id, run.run_id)
            return True
        return False

    eventually(are_gone, what=f"the runs of {dag_id} are deleted")


def make_fake() -> FakeAirflow:
    """A fake whose DAGs turn out as those in contract_dags.py."""
    squares = [FakeTask("square", map_index=i, xcom=(i + 1) ** 2) for i in range(3)]
    pair = {"__classname__": "builtins.tuple", "__version__": 1, "__data__": [1, 2]}
    return FakeAirflow(
        FakeDag(
            "contract_shapes",
            file=DAG_FILE,
            starts="contract_consumer",
            tasks=[
                FakeTask("number", xcom=3, log=[line_of("loaded three rows")]),
                FakeTask("pair", xcom=pair),
                FakeTask("nothing"),
                FakeTask("items", xcom=[1, 2, 3]),
                FakeTask("flaky", xcom="second", tries=2),
                FakeTask("publish"),
                *squares,
            ],
        ),
        FakeDag("contract_consumer", file=DAG_FILE, tasks=[FakeTask("consume", xcom="consumed")]),
        FakeDag("contract_producer", file=DAG_FILE, tasks=[FakeTask("change")]),
        FakeDag("contract_counter", file=DAG_FILE, tasks=[FakeTask("count", xcom=1)]),
        FakeDag(
            "contract_failing",
            file=DAG_FILE,
            state="failed",
            tasks=[
                FakeTask("explode", state="failed"),
                FakeTask("after", state="upstream_failed", tries=0),
            ],
        ),
        FakeDag(
            "contract_group",
            file=DAG_FILE,
            state="failed",
            tasks=[FakeTask("explode", state="failed", log=[_line_with_a_group()])],
        ),
        FakeDag(
            "contract_endless",
            file=DAG_FILE,
            looks=10**9,
            tasks=[FakeTask("sleep", state="running")],
        ),
    )


def line_of_the_group() -> int:
    """Where contract_dags.py raises its group."""
    lines = Path(__file__).with_name("contract_dags.py").read_text(encoding="utf-8").splitlines()
    [index] = [index for index, line in enumerate(lines) if "raise ExceptionGroup" in line]
    return index + 1


def _line_with_a_group() -> dict[str, Any]:
    def recorded(kind: str, value: str, **more: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {"exc_notes": [], "syntax_error": None, "is_cause": False}
        fields |= {"frames": [], "is_group": False, "exceptions": []}
        return {"exc_type": kind, "exc_value": value, **fields, **more}

    held = [
        [recorded("ValueError", "no day", exc_notes=["see the settings"])],
        [recorded("KeyError", "'region'")],
    ]
    file = f"/store/snapshots/{'0f' * 16}/{DAG_FILE}"
    group = recorded(
        "ExceptionGroup",
        "bad config (2 sub-exceptions)",
        frames=[{"filename": file, "lineno": line_of_the_group(), "name": "explode"}],
        is_group=True,
        exceptions=held,
    )
    return line_of("Task failed with exception", level="error", error_detail=[group])


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.e2e)])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """The Airflow under contract."""
    if request.param == "fake":
        fake = make_fake()

        def break_fake(broken: bool) -> None:
            fake.import_errors = {BROKEN_FILE: "ModuleNotFoundError"} if broken else {}

        yield Subject(fake.client(), break_file=break_fake)
        return
    api: Airflow = request.getfixturevalue("real_airflow")
    environment: Environment = request.getfixturevalue("real_environment")
    broken_file = Path(environment.dags_folder) / BROKEN_FILE

    def break_real(broken: bool) -> None:
        if broken:
            broken_file.write_text("import airflow.sdk, no_such_module  # not a dag\n")
        else:
            broken_file.unlink(missing_ok=True)

    found = Subject(api, break_file=break_real)
    yield found
    break_real(broken=False)
    for dag_id in DAG_IDS:
        delete_runs(api, dag_id, run_id_prefix=found.run_id)
