from __future__ import annotations

import json
from pathlib import Path

import yaml

from windsock.cluster.manifests import settings
from windsock.config import Settings

ROOT = Path(__file__).parents[4]


def variables(**changes: object) -> dict[str, str]:
    return settings.variables(
        Settings(project=Path(), **changes),  # type: ignore[arg-type] # names of its fields
        base_url="http://127.0.0.1:8080",
        dags_folder="dags",
    )


def test_kube_applied_by_hand_gives_the_same_airflow() -> None:
    base = yaml.safe_load((ROOT / "kube/base/settings.yaml").read_text())["data"]
    assert {name: base.get(name) for name in variables()} == variables()


def test_the_executor_is_the_one_of_kube_unless_the_project_names_another() -> None:
    assert "AIRFLOW__CORE__EXECUTOR" not in variables()
    changed = variables(airflow={"core.executor": "LocalExecutor"})
    assert changed["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"


def test_a_setting_of_the_project_wins() -> None:
    changed = variables(airflow={"core.parallelism": "4", "smtp.smtp_host": "mail"})
    assert changed["AIRFLOW__CORE__PARALLELISM"] == "4"
    assert changed["AIRFLOW__SMTP__SMTP_HOST"] == "mail"


def test_the_bundle_reads_the_volume_of_snapshots() -> None:
    (bundle,) = json.loads(variables()["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert bundle["kwargs"]["store"] == settings.STORE
    mounts = (ROOT / "kube/base/dag-processor.yaml").read_text()
    assert f"mountPath: {settings.STORE}" in mounts
    assert settings.PROCESSOR_SOCKET in mounts


def test_no_secret_is_among_the_settings() -> None:
    for name in variables():
        assert not any(word in name for word in ("SECRET", "FERNET", "SQL_ALCHEMY", "_CONN_"))
