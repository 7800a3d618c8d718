"""A cluster that does not serve a kind: the error comes before anything is made or built."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.unit.cluster.docker_engine import Engine, docker_engine
from tests.unit.cluster.fake_api import FakeApi
from tests.unit.cluster.kubectl import put_kubectl
from tests.unit.fakes import KeptConsole
from windsock.config import load
from windsock.errors import EnvironmentFailure
from windsock.targets.cluster.parts import Parts
from windsock.targets.cluster.target import ClusterTarget
from windsock.targets.location import Location
from windsock.targets.plan import run_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
RENDERED = [
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "airflow-settings"}},
    {"apiVersion": "windsock.dev/v1", "kind": "Weathercock", "metadata": {"name": "cock"}},
]
NAMESPACE = "not-there-yet"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeApi]:
    with FakeApi(tmp_path) as api:
        yield api


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    with docker_engine(monkeypatch) as engine:
        yield engine


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose overlay has an object of a kind that no cluster serves."""
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    (tmp_path / "dags").mkdir()
    (tmp_path / "kube" / "overlays" / "context").mkdir(parents=True)
    put_kubectl(tmp_path, output=yaml.safe_dump_all(RENDERED))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def target(api: FakeApi, folder: Path, *, skip_unserved: bool) -> ClusterTarget:
    settings = load({"cluster": {"skip_unserved": skip_unserved}}, project=folder)
    place = Location(target="context", context="fake", namespace=NAMESPACE)
    made = ClusterTarget(Parts(settings=settings, location=place, variables={}))
    vars(made.parts).update(cluster=api.cluster(NAMESPACE))
    return made


def test_a_kind_that_is_not_served_is_named_before_anything_is_made_or_built(
    api: FakeApi, engine: Engine, project: Path
) -> None:
    with pytest.raises(EnvironmentFailure, match=r"Weathercock cock \(windsock.dev/v1\)") as failed:
        run_steps(target(api, project, skip_unserved=False).prepare(), KeptConsole())
    assert "--skip-unserved" in failed.value.hint
    assert engine.built == []
    assert api.writes() == []


def test_one_may_go_on_without_it(api: FakeApi, engine: Engine, project: Path) -> None:
    run_steps(target(api, project, skip_unserved=True).prepare(), KeptConsole())
    assert engine.built == ["postgres", "airflow"]
