from __future__ import annotations

from pathlib import Path

import pytest

from windsock.config import load
from windsock.errors import ConfigurationError
from windsock.targets import choose


@pytest.mark.parametrize("name", ["auto", "local"])
def test_this_version_runs_locally(tmp_path: Path, name: str) -> None:
    settings = load({"target": name}, project=tmp_path)
    assert choose.target(settings).name == "local"
    assert choose.explain(settings).startswith("local")


def test_auto_explains_its_choice(tmp_path: Path) -> None:
    assert "needs no Docker" in choose.explain(load({}, project=tmp_path))


def test_making_a_target_touches_nothing(tmp_path: Path) -> None:
    choose.target(load({}, project=tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [None, "", "apache-airflow-core==3.3.2\n# apache-airflow==1\n"])
def test_a_lock_without_airflow_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "docker").mkdir()
        (tmp_path / "docker" / "requirements.lock").write_text(text)
    with pytest.raises(ConfigurationError, match=r"requirements\.lock"):
        choose.airflow_version(load({}, project=tmp_path))


def test_the_projects_own_lock_pins_airflow() -> None:
    project = Path(__file__).parents[3]
    assert choose.airflow_version(load({}, project=project)) == "3.3.2"
