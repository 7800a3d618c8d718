from __future__ import annotations

from pathlib import Path

import pytest

from windsock.config import load
from windsock.errors import ConfigurationError
from windsock.targets import versions


@pytest.mark.parametrize("text", [None, "", "apache-airflow-core==3.3.2\n# apache-airflow==1\n"])
def test_a_lock_without_airflow_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "docker").mkdir()
        (tmp_path / "docker" / "requirements.lock").write_text(text)
    with pytest.raises(ConfigurationError, match=r"requirements\.lock"):
        versions.airflow_version(load({}, project=tmp_path))


def test_the_projects_own_lock_pins_airflow() -> None:
    project = Path(__file__).parents[3]
    assert versions.airflow_version(load({}, project=project)) == "3.3.2"
