from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from windsock.airflow.settings import BUNDLE, environment_variables, runtime_variables, shared
from windsock.config import load


def _shared(**values: Any) -> dict[str, str]:
    return shared(load(values, project=Path("/project")), store="/state/store")


def test_the_bundle_is_ours_on_the_store() -> None:
    (bundle,) = json.loads(_shared()["dag_processor.dag_bundle_config_list"])
    assert bundle["name"] == BUNDLE
    assert bundle["kwargs"]["store"] == "/state/store"
    module, _, name = bundle["classpath"].rpartition(".")
    path = Path(__file__).parents[3] / (module.replace(".", "/") + ".py")
    assert f"class {name}(" in path.read_text()


def test_the_parse_settings_reach_airflow() -> None:
    values = _shared(
        parse={"processes": 7, "import_timeout": 11.5, "file_timeout": 12, "interval": 13}
    )
    assert values["dag_processor.parsing_processes"] == "7"
    assert values["core.dagbag_import_timeout"] == "11.5"
    assert values["dag_processor.dag_file_processor_timeout"] == "12"
    assert values["dag_processor.min_file_process_interval"] == "13"


def test_an_edit_that_follows_an_edit_is_shown_at_once() -> None:
    assert _shared()["core.min_serialized_dag_update_interval"] == "0"


def test_the_users_own_settings_win() -> None:
    values = _shared(airflow={"core.load_examples": True, "smtp.smtp_host": "mail"})
    assert values["core.load_examples"] == "true"
    assert values["smtp.smtp_host"] == "mail"


def test_every_setting_becomes_the_variable_that_airflow_reads() -> None:
    variables = environment_variables(_shared())
    assert variables["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert all(re.fullmatch(r"AIRFLOW__[A-Z_]+?__[A-Z_]+", name) for name in variables)
    assert len(variables) == len(_shared())


@pytest.mark.parametrize("name", ["core.load_examples", "scheduler.enable_health_check"])
def test_a_switch_is_written_as_airflow_reads_it(name: str) -> None:
    assert _shared()[name] in ("True", "False")


def test_plugins_are_those_of_the_newest_snapshot() -> None:
    assert "core.plugins_folder" not in _shared()
    folders = {"mine": "plugins", "include": "include"}
    assert _shared(sync={"folders": folders})["core.plugins_folder"] == (
        "/state/store/current/plugins"
    )


def test_the_dag_processor_knows_which_folders_have_no_dags() -> None:
    folders = {"mine": "plugins", "shared": "include"}
    settings = load({"sync": {"folders": folders}}, project=Path("/project"))
    assert runtime_variables(settings)["WINDSOCK_FURTHER_FOLDERS"] == "include:plugins"
    assert "WINDSOCK_FURTHER_FOLDERS" not in runtime_variables(load({}, project=Path("/project")))


@pytest.mark.parametrize(
    ("run", "paused", "variable"), [(False, "True", "0"), (True, "False", "1")]
)
def test_one_setting_decides_whether_anything_runs_by_itself(
    run: bool, paused: str, variable: str
) -> None:
    settings = load({"run_schedules": run}, project=Path("/project"))
    assert shared(settings, store="/s")["core.dags_are_paused_at_creation"] == paused
    assert runtime_variables(settings)["WINDSOCK_RUN_SCHEDULES"] == variable
    assert not load({}, project=Path("/project")).run_schedules
