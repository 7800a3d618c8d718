from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.unit.airflow.test_settings_import import SETTINGS, Project
from windsock.airflow.settings_export import export
from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_an_export_is_a_settings_file_with_the_masks_that_airflow_shows(project: Project) -> None:
    project.load(SETTINGS)
    text = export(project.fake.client())
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
        project.load(export(project.fake.client()))


def test_an_export_without_secrets_imports_as_it_is(project: Project) -> None:
    api = project.fake.client()
    api.change_objects("variables", write=[{"key": "a", "value": "ümlaut: {x}"}])
    changes = project.load(export(api))
    assert changes.variables.updated == ("a",)  # windsock's own from now on
    assert project.fake.objects["variables"]["a"]["value"] == "ümlaut: {x}"
    assert project.load_again().variables.unchanged == ("a",)
