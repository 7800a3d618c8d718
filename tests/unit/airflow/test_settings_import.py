from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.unit.airflow.fake_airflow import PASSWORD, URL, USER, FakeAirflow
from tests.unit.fakes import environment
from windsock.airflow.api import Airflow
from windsock.airflow.settings_import import RECORD, Changes, forget_imports, import_settings
from windsock.errors import ConfigurationError, EnvironmentFailure

if TYPE_CHECKING:
    from pathlib import Path

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
POOL = "airflow:\n  pools:\n    - {{pool_name: {name}, pool_slot: 1}}\n"


class Project:
    """A settings file, the Airflow that it is imported into, and the record of the imports."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "airflow_settings.yaml"
        self.state = folder / "state"
        self.environment = environment(self.state, socket=folder / "socket")
        self.record = self.state / RECORD
        self.fake = FakeAirflow()

    def run(self, api: Airflow | None = None) -> Changes | None:
        return import_settings(
            self.file,
            self.environment,
            state_folder=self.state,
            client=lambda _: api or self.fake.client(),
        )

    def load(self, text: str) -> Changes:
        """Import a text that was not imported last."""
        self.file.write_text(text, encoding="utf-8")
        changes = self.run()
        assert changes is not None
        return changes

    def load_again(self) -> Changes:
        """Import the text once more, as after a change of a comment in it."""
        return self.load(f"{self.file.read_text(encoding='utf-8')}# changed\n")

    def ids(self, kind: str) -> list[str]:
        return sorted(self.fake.objects[kind].keys() - {"default_pool"})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_an_import_makes_what_the_file_lists(project: Project) -> None:
    changes = project.load(SETTINGS)
    assert changes.summary() == "connections +1, variables +3, pools +1"
    assert project.fake.objects["connections"]["warehouse"]["password"] == "hush"
    assert project.fake.objects["variables"]["version"]["value"] == "1.10"
    assert project.fake.objects["pools"]["supplier"]["slots"] == 1


def test_a_second_import_changes_nothing(project: Project) -> None:
    project.load(SETTINGS)
    project.fake.requests.clear()
    assert project.load_again().summary() == (
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
    assert project.load_again().summary() == "connections +1, variables ~1, pools ~1"
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
    assert project.load_again().variables.updated == ("it",)
    assert project.fake.objects["variables"]["it"]["value"] == in_the_file
    assert project.load_again().variables.unchanged == ("it",)


def test_what_the_file_no_longer_names_is_removed(project: Project) -> None:
    project.load(SETTINGS)
    changes = project.load("airflow:\n")
    assert changes.summary() == "connections -1, variables -3, pools -1"
    assert project.ids("connections") == project.ids("variables") == []
    assert project.load_again().summary() == ""


def test_what_was_made_by_hand_stays(project: Project) -> None:
    project.fake.client().change_objects("variables", write=[{"key": "by_hand", "value": "x"}])
    project.load(SETTINGS)
    project.load("airflow:\n")
    assert project.ids("variables") == ["by_hand"]


def test_the_default_pool_is_resized_and_never_removed(project: Project) -> None:
    project.load("airflow:\n  pools:\n  - {pool_name: default_pool, pool_slot: 64}\n")
    assert project.fake.objects["pools"]["default_pool"]["slots"] == 64
    assert project.fake.objects["pools"]["default_pool"]["description"] == "Default pool"
    project.load("airflow:\n")
    assert "default_pool" in project.fake.objects["pools"]


def test_what_an_import_that_died_made_is_still_known_to_be_ours(project: Project) -> None:
    def change(request: httpx.Request) -> httpx.Response:
        answer = project.fake.handle(request)
        if request.method == "PATCH" and request.url.path.endswith("/variables"):
            raise httpx.ReadError("the connection is cut", request=request)
        return answer

    project.file.write_text(SETTINGS, encoding="utf-8")
    with pytest.raises(EnvironmentFailure, match="the connection is cut"):
        project.run(Airflow(URL, USER, PASSWORD, transport=httpx.MockTransport(change)))
    assert project.ids("variables") == ["api_key", "currency", "version"]
    project.load("airflow:\n")
    assert project.ids("connections") == project.ids("variables") == []


def test_the_record_is_for_its_owner_and_contains_no_secret(project: Project) -> None:
    project.load(SETTINGS)
    assert stat.S_IMODE(project.record.stat().st_mode) == 0o600
    assert "hush" not in project.record.read_text()
    assert not list(project.record.parent.glob("*.new"))


def test_equal_files_have_different_digests_in_different_records(tmp_path: Path) -> None:
    records = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        project = Project(tmp_path / name)
        project.load(SETTINGS)
        records.append(json.loads(project.record.read_text()))
    first, second = records
    assert first["variables"].keys() == second["variables"].keys()
    assert first["variables"]["api_key"] != second["variables"]["api_key"]
    assert first["content"] != second["content"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "00"}'])
def test_a_damaged_record_cannot_be_used(project: Project, text: str) -> None:
    project.record.write_text(text)
    with pytest.raises(EnvironmentFailure, match="cannot be used"):
        project.load(SETTINGS)


def test_what_airflow_does_not_take_is_not_taken_for_done(project: Project) -> None:
    project.load("airflow:\n")
    project.file.write_text(SETTINGS, encoding="utf-8")
    with pytest.raises(EnvironmentFailure):
        project.run(Airflow("http://127.0.0.1:1", "admin", "x", timeout=1))
    assert project.load(SETTINGS).connections.added == ("warehouse",)


def test_a_file_is_imported_once_for_each_content(project: Project) -> None:
    project.load(POOL.format(name="one"))
    assert project.ids("pools") == ["one"]
    asked = len(project.fake.requests)
    assert project.run() is None
    assert len(project.fake.requests) == asked
    project.load(POOL.format(name="two"))
    assert project.ids("pools") == ["two"]


def test_no_file_is_nothing_to_do(project: Project) -> None:
    assert project.run() is None
    assert project.fake.requests == []


def test_a_deleted_file_takes_away_what_it_brought(project: Project) -> None:
    project.load(POOL.format(name="one"))
    project.file.unlink()
    assert project.run()
    assert project.ids("pools") == []
    assert project.run() is None


def test_a_broken_file_changes_nothing_until_it_is_mended(project: Project) -> None:
    project.load(POOL.format(name="one"))
    project.file.write_text("airflow: [")
    with pytest.raises(ConfigurationError):
        project.run()
    with pytest.raises(ConfigurationError):
        project.run()
    assert project.ids("pools") == ["one"]
    project.load(POOL.format(name="two"))
    assert project.ids("pools") == ["two"]


def test_a_fresh_database_gets_everything_again(project: Project) -> None:
    project.load(POOL.format(name="one"))
    project.fake.objects["pools"].pop("one")
    forget_imports(project.state)
    assert project.run()
    assert project.ids("pools") == ["one"]
    forget_imports(project.state)
    forget_imports(project.state)
