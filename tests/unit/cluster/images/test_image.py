from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.cluster.docker_engine import Engine, docker_engine
from windsock.cluster.images import image
from windsock.cluster.images.engine import variables
from windsock.config import Settings
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[4]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    with docker_engine(monkeypatch) as engine:
        yield engine


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    return Settings(project=tmp_path)


def silent(_: str) -> None:
    pass


def test_images_are_built_once_under_names_that_are_known_before(
    engine: Engine, settings: Settings
) -> None:
    wanted = image.wanted(settings)
    assert not engine.built
    assert image.ensure(settings, progress=silent) == replace(wanted, built=True)
    assert {wanted.airflow, wanted.postgres} == engine.images
    assert image.ensure(settings, progress=silent) == wanted
    assert engine.built == ["postgres", "airflow"]


def test_a_changed_requirement_builds_one_image(engine: Engine, settings: Settings) -> None:
    image.ensure(settings, progress=silent)
    engine.built.clear()
    (settings.project / "docker/requirements.txt").write_text("pandas\n")
    assert image.ensure(settings, progress=silent).built
    assert engine.built == ["airflow"]


def test_each_build_gets_what_all_stages_need_and_no_more(
    engine: Engine, settings: Settings
) -> None:
    (settings.project / "dags").mkdir()
    (settings.project / "dags/secret.py").write_text("")
    image.ensure(settings, progress=silent)
    for names in engine.contexts:
        assert {"docker/postgres.sh", "docker/bootstrap.sh", "docker/certs"} <= names
        assert not any(name.startswith("dags") for name in names)


@pytest.mark.usefixtures("engine")
def test_progress_shows_each_step_and_its_output(settings: Settings) -> None:
    shown: list[str] = []
    image.ensure(settings, progress=shown.append)
    assert "airflow 2/2: RUN sh install.sh" in shown
    assert "airflow 2/2: RUN sh install.sh · Installed 3 packages" in shown
    assert not any("0123456789ab" in line for line in shown)


def test_a_base_image_that_comes_is_counted(engine: Engine, settings: Settings) -> None:
    shown: list[str] = []
    layer = {"status": "Downloading", "progressDetail": {"current": 2 << 20, "total": 8 << 20}}
    engine.answer = [{**layer, "id": "a"}, {**layer, "id": "b"}, {"error": "cut"}]
    with pytest.raises(EnvironmentFailure):
        image.ensure(settings, progress=shown.append)
    assert shown == [
        "base image: 0 of 1 layers, 2 of 8 MiB",
        "base image: 0 of 2 layers, 4 of 16 MiB",
    ]


def test_the_hint_of_a_step_that_failed_is_its_last_lines(
    engine: Engine, settings: Settings
) -> None:
    engine.answer = [
        {"stream": "Step 1/2 : RUN first\n"},
        {"stream": "of no interest\n"},
        {"stream": "Step 2/2 : RUN sh install.sh requirements\n"},
        {"stream": "\x1b[91mNo solution"},
        {"stream": " found: pandas==99\x1b[0m"},
        {"error": "The command '/bin/sh -c …' returned a non-zero code: 1"},
    ]
    with pytest.raises(EnvironmentFailure, match="non-zero code: 1") as caught:
        image.ensure(settings, progress=silent)
    assert "install.sh requirements" in caught.value.hint
    assert "No solution found: pandas==99" in caught.value.hint
    assert "\x1b" not in caught.value.hint
    assert "of no interest" not in caught.value.hint


def test_a_full_disk_is_called_that(engine: Engine, settings: Settings) -> None:
    engine.answer = [{"error": "write /opt/venv: no space left on device"}]
    with pytest.raises(EnvironmentFailure, match="the disk is full"):
        image.ensure(settings, progress=silent)


def test_a_build_that_breaks_off_is_a_failure(engine: Engine, settings: Settings) -> None:
    engine.answer = [{"stream": "Step 1/2 : FROM python:3.12\n"}]
    with pytest.raises(EnvironmentFailure, match="without a word"):
        image.ensure(settings, progress=silent)


def test_without_an_engine_the_hint_is_another_target(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(EnvironmentFailure, match="no Docker engine answers") as caught:
        image.ensure(settings, progress=silent)
    assert "--target local" in caught.value.hint


@pytest.mark.usefixtures("engine")
@pytest.mark.filterwarnings("ignore:docker-credential-none")
def test_a_missing_credential_helper_is_named_when_a_build_sends_the_logins(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"credsStore": "none"}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(EnvironmentFailure, match="docker-credential-none not installed") as caught:
        image.ensure(settings, progress=silent)
    assert "credsStore" in caught.value.hint


def test_the_engine_of_the_current_docker_context_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "colima"
    # Docker names a context's folder by the digest of its name.
    folder = (
        tmp_path / "contexts/meta/f24fd3749c1368328e2b149bec149cb6795619f244c5b584e844961215dadd16"
    )
    folder.mkdir(parents=True)
    endpoint = {"docker": {"Host": "unix:///somewhere/docker.sock"}}
    (folder / "meta.json").write_text(
        json.dumps({"Name": name, "Metadata": {}, "Endpoints": endpoint})
    )
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": name}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert variables({})["DOCKER_HOST"] == "unix:///somewhere/docker.sock"
    assert variables({"DOCKER_HOST": "tcp://mine"})["DOCKER_HOST"] == "tcp://mine"


def test_an_image_is_saved_by_the_name_asked_for(engine: Engine, tmp_path: Path) -> None:
    engine.images.add("windsock-airflow:1")
    image.save("windsock-airflow:1", tmp_path / "image.tar")
    assert (tmp_path / "image.tar").read_text() == "layers of windsock-airflow:1"


def test_an_image_that_docker_does_not_have_cannot_be_saved(engine: Engine, tmp_path: Path) -> None:
    assert engine.images == set()
    with pytest.raises(EnvironmentFailure, match="Docker refused"):
        image.save("windsock-airflow:1", tmp_path / "image.tar")
