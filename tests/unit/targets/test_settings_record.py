from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from windsock.config import Settings, load
from windsock.targets import settings_record
from windsock.targets.location import Location

if TYPE_CHECKING:
    from pathlib import Path


def settings(project: Path, **values: Any) -> Settings:
    (project / "state").mkdir(exist_ok=True)
    return load({"state": "state", **values}, project=project)


def test_the_settings_of_what_is_up_are_found_again_with_those_of_the_command(
    tmp_path: Path,
) -> None:
    up = settings(
        tmp_path,
        dags="../elsewhere",
        airflow={"core.parallelism": "3"},
        sync={"folders": {"include": "include"}},
        cluster={"allowed_contexts": ["old"], "namespace": "anna"},
        tests="old",
    )
    settings_record.save(up, {})
    now = settings(tmp_path, tests="new", up_timeout=7, cluster={"allowed_contexts": ["new"]})
    found = settings_record.load(now)
    assert found is not None
    assert (found.dags, found.airflow, found.sync) == (up.dags, up.airflow, up.sync)
    assert found.cluster.namespace == "anna"
    assert (found.tests, found.up_timeout, found.cluster.allowed_contexts) == ("new", 7, ("new",))
    assert (tmp_path / "state" / settings_record.FILE).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"cluster": {}, "later": 1}'])
def test_a_record_that_cannot_be_used_is_none(tmp_path: Path, text: str) -> None:
    now = settings(tmp_path)
    assert settings_record.load(now) is None
    settings_record.save(now, {})
    path = tmp_path / "state" / settings_record.FILE
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "later": 1}) if "later" in text else text)
    if text != "{}":
        assert settings_record.load(now) is None


def test_differences_name_what_is_up_and_no_value_that_may_be_a_secret(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "dags")
    up = settings(
        tmp_path,
        dags="link",
        parse={"interval": 60},
        airflow={"smtp.password": "one"},
        cluster={"namespace": "anna"},
    )
    assert settings_record.differences(up, up) == []
    same = settings(
        tmp_path, dags=str(tmp_path / "dags"), airflow={"smtp.password": "one"}, rebuild="never"
    )
    assert settings_record.differences(up, same) == []  # The cluster's are not in use.
    Location(target="kind", context="kind-windsock", namespace="anna").save(tmp_path / "state")
    wanted = settings(
        tmp_path,
        dags="other",
        parse={"interval": 30},
        airflow={"smtp.password": "two"},
        sync={"folders": {"include": "include"}},
        local={"port": 9},
    )
    assert settings_record.differences(up, wanted) == [
        "airflow.smtp.password is another one",
        "cluster.namespace is anna, not windsock",
        f"dags is {tmp_path}/dags, not {tmp_path}/other",
        "parse.interval is 60, not 30",
        "sync.folders.include is not set, not include",
    ]
