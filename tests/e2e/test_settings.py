"""Variables and connections of `airflow_settings.yaml`: what is on disk is what runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.e2e.events import Events
from tests.e2e.folder import assert_in_step, dag_source
from tests.e2e.machine import component_pid, kill_9
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.folder import Folder
    from tests.e2e.project import Project

pytestmark = pytest.mark.e2e

READS = """
from airflow.sdk import Connection, Variable
PLACES = Variable.get("places").split() + [Connection.get("harbour").host]
"""
READER = dag_source("reader", task_id="PLACES[0] + '_' + PLACES[-1]", top=READS)


def with_settings(*, places: str, host: str) -> str:
    return f"""
airflow:
  variables:
    - variable_name: places
      variable_value: {places}
  connections:
    - conn_id: harbour
      conn_type: http
      conn_host: {host}
"""


@pytest.fixture
def settings(environment: Project, folder: Folder) -> Iterator[Path]:
    """The settings file; it is in the end what it was."""
    before = environment.settings.read_text()
    yield environment.settings
    environment.settings.write_text(before)
    folder.settle()


def test_a_saved_variable_or_connection_has_its_readers_parsed_and_no_others(
    environment: Project, folder: Folder, settings: Path
) -> None:
    folder.write("reader.py", READER)
    [error] = folder.settle().errors.values()
    assert "places" in error

    with Events(environment) as seen:
        for places, host in (("north", "east"), ("south", "east"), ("south", "west")):
            settings.write_text(with_settings(places=places, host=host))
            assert folder.settle().errors == {}
            assert environment.airflow.tasks("reader") == [f"{places}_{host}"]
        parsing = seen.of("parsing")
    assert {file for event in parsing for file in event["files"]} == {"reader.py"}
    assert parsing[-1]["settings"] == ["connections/harbour"]

    kill_9(component_pid(environment, "sync"))
    settings.write_text(with_settings(places="while", host="away"))
    assert_in_step(environment, dags=["reader"])
    assert environment.airflow.tasks("reader") == ["while_away"]

    settings.write_text("airflow: [")
    with pytest.raises(EnvironmentFailure, match=re.escape(f"{settings.name}:1")):
        folder.settle()


def test_a_variable_of_the_environment_file_is_taken_by_the_next_up(
    environment: Project, folder: Folder
) -> None:
    environment.env_file.write_text("AIRFLOW_VAR_MASTER=anna-1\nGREETING='two words'\n")
    said = environment.up().stderr  # The file stays: no test needs Airflow without it.
    assert "variables changed: AIRFLOW_VAR_MASTER, GREETING; restarting api-server" in said
    assert "anna-1" not in said

    top = "import os\nfrom airflow.sdk import Variable\nNAMES = [Variable.get('master')]"
    task_id = "NAMES[0] + '_'.join(os.environ['GREETING'].split())"
    folder.save("master.py", dag_source("master", task_id=task_id, top=top))
    assert environment.airflow.tasks("master") == ["anna-1two_words"]
