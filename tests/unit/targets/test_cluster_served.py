"""A cluster that does not serve a kind: said before anything is made or built for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.cluster.fake_api import FakeApi
from tests.unit.fakes import KeptConsole
from windsock.cluster.images import image
from windsock.cluster.images.image import Images
from windsock.cluster.manifests import render as manifests
from windsock.config import load
from windsock.errors import EnvironmentFailure
from windsock.targets.cluster.parts import Parts
from windsock.targets.cluster.target import ClusterTarget
from windsock.targets.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been built."""
    done: list[str] = []

    def ensure(*_: object, **__: object) -> Images:
        done.append("images")
        return Images(airflow="windsock-airflow:1", postgres="windsock-postgres:1")

    monkeypatch.setattr(image, "ensure", ensure)
    monkeypatch.setattr(manifests, "render", lambda *_: RENDERED)
    return done


def target(api: FakeApi, folder: Path, *, skip_unserved: bool) -> ClusterTarget:
    (folder / "dags").mkdir()
    settings = load({"cluster": {"skip_unserved": skip_unserved}}, project=folder)
    place = Location(target="context", context="fake", namespace=NAMESPACE)
    made = ClusterTarget(Parts(settings=settings, location=place, variables={}))
    vars(made.parts).update(cluster=api.cluster(NAMESPACE))
    return made


def test_a_kind_that_is_not_served_is_named_before_anything_is_made_or_built(
    api: FakeApi, built: list[str], tmp_path: Path
) -> None:
    with pytest.raises(EnvironmentFailure, match=r"Weathercock cock \(windsock.dev/v1\)") as failed:
        target(api, tmp_path, skip_unserved=False).prepare(KeptConsole())
    assert "--skip-unserved" in failed.value.hint
    assert built == []
    assert api.writes() == []


def test_one_may_go_on_without_it(api: FakeApi, built: list[str], tmp_path: Path) -> None:
    target(api, tmp_path, skip_unserved=True).prepare(KeptConsole())
    assert built == ["images"]
