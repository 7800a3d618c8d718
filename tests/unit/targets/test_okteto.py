from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.fakes import FakeSync, KeptConsole, environment
from tests.unit.targets.health import answering
from windsock.airflow.health import HEALTH_NAMES
from windsock.cluster import dev_mode, okteto
from windsock.cluster.images.image import Images
from windsock.config import load
from windsock.targets.cluster import processes
from windsock.targets.cluster.okteto import OktetoParts, OktetoTarget
from windsock.targets.location import Location

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[3]
PLACE = Location(target="okteto", context="okteto_example_com", namespace="anna")
DEPLOYED = okteto.Deployment(
    images=Images(airflow="r.example/airflow@sha256:1", postgres="r.example/postgres@sha256:2"),
    recipe="windsock-airflow:old windsock-postgres:old",
    url="https://airflow-api-server-anna.okteto.example.com",
)


def target(values: Mapping[str, Any]) -> OktetoTarget:
    """A target in a namespace where `DEPLOYED` runs."""
    settings = load({"target": "okteto", **values}, project=ROOT)
    parts = OktetoParts(settings=settings, location=PLACE, variables={})
    vars(parts).update(deployment=DEPLOYED)
    return OktetoTarget(parts)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders kube/")
def test_two_machines_apply_the_same_objects(tmp_path: Path) -> None:
    anna, bert = (
        target(
            {
                "state": str(tmp_path / name / "state"),
                "dags": str(tmp_path / name / "project" / "dags"),
                "cluster": {"port": port},
            }
        ).parts.objects()
        for name, port in (("anna", 18080), ("bert", 18090))
    )
    assert anna == bert
    [settings] = [item for item in anna if item["metadata"]["name"] == "airflow-settings"]
    assert settings["data"]["AIRFLOW__API__BASE_URL"] == DEPLOYED.url
    assert settings["metadata"]["annotations"] == {okteto.RECIPE: DEPLOYED.recipe}
    assert str(tmp_path) not in str(anna)


def test_a_warning_names_images_of_other_files_and_nothing_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")  # A build would fail.
    console = KeptConsole()
    target({"state": str(tmp_path / "state")}).parts.images.prepare(console)
    assert "built its images from other files" in console.said
    assert "okteto deploy" in console.said


def test_nothing_is_rebuilt_from_here(tmp_path: Path) -> None:
    here = target({"state": str(tmp_path / "state")})
    assert here.sources() == [here.parts.env_file]  # What it gives to Airflow is no build.
    assert not here.meaning({ROOT / "docker" / "requirements.txt"})


def test_its_end_leaves_what_okteto_deployed(tmp_path: Path) -> None:
    console = KeptConsole()
    here = target({"state": str(tmp_path / "state")})
    vars(here.parts).update(cluster=None)  # To remove anything it would be needed.
    here.end(console)
    assert "left running" in console.said


@pytest.mark.parametrize(("labels", "waited_for"), [({}, True), ({dev_mode.DEV: "true"}, False)])
def test_nobody_waits_for_what_okteto_up_has_replaced(
    tmp_path: Path, sync: FakeSync, labels: dict[str, str], waited_for: bool
) -> None:
    here = target({"state": str(tmp_path / "state")})
    component = {"app.kubernetes.io/component": "triggerer"}
    there = [{"metadata": {"name": "airflow-triggerer", "labels": {**component, **labels}}}]
    vars(here.parts).update(
        cluster=SimpleNamespace(items=lambda *_, **__: there),
        loopback=answering(*(name for name in HEALTH_NAMES if name != "triggerer")),
    )
    up = environment(tmp_path / "state", socket=sync.path)
    health = processes.health(here.parts, up, seconds=1)
    assert ("triggerer" in health) == waited_for
    assert all(health.values()) != waited_for
