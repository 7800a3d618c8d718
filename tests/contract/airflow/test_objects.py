from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from windsock.airflow.settings_export import export
from windsock.airflow.settings_file import read
from windsock.airflow.settings_import import ImportRecord, apply

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.airflow.conftest import Subject

SETTINGS = """\
airflow:
  connections:
    - conn_id: windsock_contract
      conn_type: postgres
      conn_host: localhost
      conn_password: not-told
      conn_port: 5432
      conn_extra: {token: not-told-either, sslmode: disable}
    - conn_id: windsock_contract_uri
      conn_uri: http://https://example.invalid:8443/x?timeout=5
  pools:
    - {pool_name: windsock/contract, pool_slot: 1, pool_description: one}
  variables:
    - {variable_name: windsock/contract ü, variable_value: 1.10}
    - {variable_name: windsock_contract_password, variable_value: not-told}
    - variable_name: windsock_contract_nested
      variable_value: {crates: [1, 2], password: not-told}
"""
NOTHING = "airflow:\n"


def test_an_import_is_done_once_exported_and_taken_back(subject: Subject, tmp_path: Path) -> None:
    file, record = tmp_path / "airflow_settings.yaml", tmp_path / "imported.json"

    def imported(text: str) -> str:
        file.write_text(text, encoding="utf-8")
        return apply(read(file), subject.api, record=ImportRecord(record)).summary()

    try:
        assert imported(SETTINGS) == "connections +2, variables +3, pools +1"
        unchanged = "connections unchanged (2), variables unchanged (3), pools unchanged (1)"
        assert imported(SETTINGS) == unchanged
        text = export(subject.api)
        assert "not-told" not in text
        exported = yaml.safe_load(text)["airflow"]["connections"]
        assert [item for item in exported if item["conn_id"] == "windsock_contract_uri"] == [
            {
                "conn_id": "windsock_contract_uri",
                "conn_type": "http",
                "conn_host": "https://example.invalid",
                "conn_schema": "x",
                "conn_port": 8443,
                "conn_extra": {"timeout": 5},
            }
        ]
        without = SETTINGS.replace("      conn_password: not-told\n", "")
        assert imported(without).startswith("connections ~1, variables unchanged")
    finally:
        assert imported(NOTHING) == "connections -2, variables -3, pools -1"
    assert imported(NOTHING) == ""
