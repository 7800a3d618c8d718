from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from tests.unit.airflow.fake_airflow import FakeAirflow
from tests.unit.fakes import environment
from windsock.airflow.api import Airflow
from windsock.airflow.settings_import import RECORD, forget_imports, import_settings
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from pathlib import Path

    from windsock.model import Environment

POOL = "airflow:\n  pools:\n    - pool_name: {name}\n      pool_slot: 1\n"


class Project:
    """A settings file, an Airflow to import it into, and what is remembered between."""

    def __init__(self, folder: Path, airflow: FakeAirflow) -> None:
        self.airflow = airflow
        self.file = folder / "airflow_settings.yaml"
        self.state = folder / "state"
        self.environment: Environment = environment(self.state, socket=folder / "socket")

    def write(self, name: str) -> None:
        self.file.write_text(POOL.format(name=name))

    def run(self) -> str | None:
        changes = import_settings(self.file, self.environment, state_folder=self.state)
        return None if changes is None else changes.summary()

    @property
    def pools(self) -> set[str]:
        return set(self.airflow.objects["pools"]) - {"default_pool"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    airflow = FakeAirflow()
    monkeypatch.setattr(Airflow, "of", lambda _environment: airflow.client())
    return Project(tmp_path, airflow)


def test_a_file_is_imported_once_for_each_content(project: Project) -> None:
    project.write("one")
    assert project.run()
    assert project.pools == {"one"}
    asked = len(project.airflow.requests)
    assert project.run() is None
    assert len(project.airflow.requests) == asked
    project.write("two")
    assert project.run()
    assert project.pools == {"two"}


def test_no_file_is_nothing_to_do(project: Project) -> None:
    assert project.run() is None
    assert project.airflow.requests == []


def test_a_deleted_file_takes_away_what_it_brought(project: Project) -> None:
    project.write("one")
    project.run()
    project.file.unlink()
    assert project.run()
    assert project.pools == set()
    assert project.run() is None


def test_a_failure_is_tried_again_the_next_time(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("one")
    works = Airflow.of
    monkeypatch.setattr(
        Airflow, "of", lambda _: Airflow("http://127.0.0.1:1", "admin", "x", timeout=1)
    )
    with pytest.raises(EnvironmentFailure):
        project.run()
    monkeypatch.setattr(Airflow, "of", works)
    assert project.run()
    assert project.pools == {"one"}


def test_a_broken_file_changes_nothing_until_it_is_mended(project: Project) -> None:
    project.write("one")
    project.run()
    project.file.write_text("airflow: [")
    with pytest.raises(ConfigurationError):
        project.run()
    with pytest.raises(ConfigurationError):
        project.run()
    assert project.pools == {"one"}
    project.write("two")
    project.run()
    assert project.pools == {"two"}


def test_a_fresh_database_gets_everything_again(project: Project) -> None:
    project.write("one")
    project.run()
    project.airflow.objects["pools"].pop("one")
    forget_imports(project.state)
    assert project.run()
    assert project.pools == {"one"}
    forget_imports(project.state)
    forget_imports(project.state)


def test_the_digest_of_a_file_is_keyed_and_for_its_owner(project: Project, tmp_path: Path) -> None:
    project.write("one")
    project.run()
    (tmp_path / "other").mkdir()
    other = Project(tmp_path / "other", project.airflow)
    other.write("one")
    other.run()
    records = []
    for each in (project, other):
        file = each.state / RECORD
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        records.append(json.loads(file.read_text()))
    assert records[0]["content"] != records[1]["content"]
