from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.unit.airflow.fake_airflow import FakeAirflow
from windsock.airflow.settings_export import export
from windsock.airflow.settings_file import read
from windsock.airflow.settings_import import Changes, ImportRecord, apply
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from pathlib import Path

    from windsock.airflow.api import Airflow

SETTINGS = """\
airflow:
  connections:
    - conn_id: warehouse
      conn_type: postgres
      conn_host: localhost
      conn_password: hush
      conn_extra: {token: hush-hush, sslmode: disable}
  pools:
    - {pool_name: supplier, pool_slot: 1, pool_description: one at a time}
  variables:
    - {variable_name: currency, variable_value: EUR}
    - {variable_name: version, variable_value: 1.10}
    - {variable_name: api_key, variable_value: hush}
"""


class Project:
    """A settings file and the Airflow that it is imported into."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "airflow_settings.yaml"
        self.record = folder / "imported.json"
        self.fake = FakeAirflow()
        self.api: Airflow = self.fake.client()

    def load(self, text: str) -> Changes:
        self.file.write_text(text, encoding="utf-8")
        return apply(read(self.file), self.api, record=ImportRecord.load(self.record))

    def ids(self, kind: str) -> list[str]:
        return sorted(self.fake.objects[kind])


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_an_import_makes_what_the_file_says(project: Project) -> None:
    changes = project.load(SETTINGS)
    assert changes.summary() == "connections +1, variables +3, pools +1"
    assert project.fake.objects["connections"]["warehouse"]["password"] == "hush"
    assert project.fake.objects["variables"]["version"]["value"] == "1.10"
    assert project.fake.objects["pools"]["supplier"]["slots"] == 1


def test_a_second_import_changes_nothing(project: Project) -> None:
    project.load(SETTINGS)
    project.fake.requests.clear()
    changes = project.load(SETTINGS)
    assert not changes
    assert changes.summary() == (
        "connections unchanged (1), variables unchanged (3), pools unchanged (1)"
    )
    assert project.fake.paths("PATCH") == []


def test_a_new_secret_is_imported_though_airflow_masks_both(project: Project) -> None:
    project.load(SETTINGS)
    changes = project.load(SETTINGS.replace("conn_password: hush", "conn_password: new"))
    assert changes.connections.updated == ("warehouse",)
    assert project.fake.objects["connections"]["warehouse"]["password"] == "new"


def test_a_password_taken_out_of_the_file_is_gone(project: Project) -> None:
    project.load(SETTINGS)
    changes = project.load(SETTINGS.replace("      conn_password: hush\n", ""))
    assert changes.connections.updated == ("warehouse",)
    assert not project.fake.objects["connections"]["warehouse"]["password"]


def test_what_was_changed_by_hand_is_put_right(project: Project) -> None:
    project.load(SETTINGS)
    project.fake.objects["pools"]["supplier"]["slots"] = 9
    project.fake.objects["variables"]["currency"]["value"] = "USD"
    del project.fake.objects["connections"]["warehouse"]
    changes = project.load(SETTINGS)
    assert changes.summary() == "connections +1, variables ~1, pools ~1"
    assert project.fake.objects["variables"]["currency"]["value"] == "EUR"


@pytest.mark.parametrize(
    ("in_the_file", "in_the_ui"),
    [("true", "1"), ("1", "true"), ("0", ""), ("0", "false"), ("1", "1.0"), ('"a"', "b")],
)
def test_what_only_looks_alike_is_put_right(
    project: Project, in_the_file: str, in_the_ui: str
) -> None:
    text = f"airflow:\n  variables:\n  - variable_name: it\n    variable_value: '{in_the_file}'\n"
    project.load(text)
    project.fake.objects["variables"]["it"]["value"] = in_the_ui
    assert project.load(text).variables.updated == ("it",)
    assert project.fake.objects["variables"]["it"]["value"] == in_the_file
    assert not project.load(text)


def test_what_the_file_no_longer_names_is_removed(project: Project) -> None:
    project.load(SETTINGS)
    changes = project.load("airflow:\n")
    assert changes.summary() == "connections -1, variables -3, pools -1"
    assert project.ids("connections") == project.ids("variables") == []
    assert project.load("airflow:\n").summary() == ""


def test_what_was_made_by_hand_is_left_alone(project: Project) -> None:
    project.api.change_objects("variables", write=[{"key": "by_hand", "value": "x"}])
    project.load(SETTINGS)
    project.load("airflow:\n")
    assert project.ids("variables") == ["by_hand"]


def test_the_default_pool_is_resized_and_never_removed(project: Project) -> None:
    project.load("airflow:\n  pools:\n  - {pool_name: default_pool, pool_slot: 64}\n")
    assert project.fake.objects["pools"]["default_pool"]["slots"] == 64
    assert project.fake.objects["pools"]["default_pool"]["description"] == "Default pool"
    project.load("airflow:\n")
    assert project.ids("pools") == ["default_pool"]


def test_what_an_import_that_died_made_is_still_known_to_be_ours(project: Project) -> None:
    class Died(Exception):
        pass

    class DyingApi:
        def objects(self, kind: str) -> list[dict[str, object]]:
            return project.api.objects(kind)

        def change_objects(self, kind: str, **changes: list[dict[str, object]]) -> None:
            project.api.change_objects(kind, **changes)  # type: ignore[arg-type] # passes on
            if kind == "variables":
                raise Died

    project.file.write_text(SETTINGS, encoding="utf-8")
    entries = read(project.file)
    record = ImportRecord.load(project.record)
    with pytest.raises(Died):
        apply(entries, DyingApi(), record=record)  # type: ignore[arg-type] # a stub
    assert project.ids("variables") == ["api_key", "currency", "version"]
    project.load("airflow:\n")
    assert project.ids("connections") == project.ids("variables") == []


def test_the_record_is_for_its_owner_and_holds_no_secret(project: Project) -> None:
    project.load(SETTINGS)
    assert stat.S_IMODE(project.record.stat().st_mode) == 0o600
    assert "hush" not in project.record.read_text()
    assert not list(project.record.parent.glob("*.new"))


def test_equal_secrets_leave_different_digests_in_different_records(
    project: Project, tmp_path: Path
) -> None:
    project.load(SETTINGS)
    (tmp_path / "other").mkdir()
    other = Project(tmp_path / "other")
    other.load(SETTINGS)
    first, second = (json.loads(item.record.read_text()) for item in (project, other))
    assert first["variables"].keys() == second["variables"].keys()
    assert first["variables"]["api_key"] != second["variables"]["api_key"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "00"}'])
def test_a_damaged_record_is_told(project: Project, text: str) -> None:
    project.record.write_text(text)
    with pytest.raises(EnvironmentFailure, match="cannot be used"):
        project.load(SETTINGS)


def test_what_airflow_refuses_is_told_and_not_taken_for_done(project: Project) -> None:
    project.load("airflow:\n")

    def refuse(kind: str, **_: object) -> None:
        raise ConfigurationError(f"no {kind}")

    project.api.change_objects = refuse  # type: ignore[method-assign] # the failing edge
    with pytest.raises(ConfigurationError, match="no connections"):
        project.load(SETTINGS)
    project.api = project.fake.client()
    assert project.load(SETTINGS).connections.added == ("warehouse",)


def test_an_export_is_a_settings_file_with_the_masks_that_airflow_shows(project: Project) -> None:
    project.load(SETTINGS)
    text = export(project.api)
    assert "Airflow's API shows no secrets" in text
    assert "hush" not in text
    entries = yaml.safe_load(text)["airflow"]
    assert entries["connections"] == [
        {
            "conn_id": "warehouse",
            "conn_type": "postgres",
            "conn_host": "localhost",
            "conn_password": "***",
            "conn_extra": {"token": "***", "sslmode": "disable"},
        }
    ]
    assert [item["pool_name"] for item in entries["pools"]] == ["supplier"]


def test_an_export_whose_masks_were_not_replaced_is_not_imported(project: Project) -> None:
    project.load(SETTINGS)
    with pytest.raises(ConfigurationError, match=r"\*\*\* is the mask"):
        project.load(export(project.api))


def test_an_export_without_secrets_imports_as_it_is(project: Project) -> None:
    project.api.change_objects("variables", write=[{"key": "a", "value": "ümlaut: {x}"}])
    changes = project.load(export(project.api))
    assert changes.variables.updated == ("a",)  # ours from now on
    assert project.fake.objects["variables"]["a"]["value"] == "ümlaut: {x}"
    assert not project.load(export(project.api))
