"""The images of a cluster's pods: their names in the manifests, and their step of `up`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.cluster.docker_engine import docker_engine
from tests.unit.fakes import KeptConsole
from windsock.cluster.images import image
from windsock.cluster.images.delivery import Delivered, SharedEngine
from windsock.config import Settings, load
from windsock.targets.cluster.images import BuiltImages
from windsock.targets.cluster.parts import Parts
from windsock.targets.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("docker", "kube"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders kube/")
@pytest.mark.parametrize(
    ("target", "registry", "place"),
    [
        ("kind", "", "windsock-registry:5000/"),
        ("kind", "ghcr.io/anna", "windsock-registry:5000/"),
        ("context", "", ""),
        ("context", "ghcr.io/anna", "ghcr.io/anna/"),
    ],
)
def test_manifests_name_the_images_as_the_nodes_know_them(
    project: Path, target: str, registry: str, place: str
) -> None:
    settings = load({"cluster": {"registry": registry}}, project=project)
    location = Location(target=target, context="any", namespace="mine")
    objects = Parts(settings=settings, location=location, variables={}).objects()
    pods = [item["spec"]["template"]["spec"] for item in objects if item["kind"] == "StatefulSet"]
    pods += [item["spec"]["template"]["spec"] for item in objects if item["kind"] == "Deployment"]
    wanted = image.wanted(settings)
    assert {pod["containers"][0]["image"] for pod in pods} == {
        f"{place}{wanted.airflow}",
        f"{place}{wanted.postgres}",
    }


class Pushing(SharedEngine):
    """A delivery that pushes once."""

    def __init__(self) -> None:
        self.delivered: list[str] = []

    def deliver(self, images: Sequence[str], progress: Callable[[str], None]) -> Delivered:
        del progress
        if self.delivered:
            return Delivered()
        self.delivered += images
        return Delivered(detail="pushed to ghcr.io/anna", warning="slowly")


def test_images_are_built_and_pushed_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, delivery = Settings(project=project), Pushing()
    images, first, second = BuiltImages(settings, delivery), KeptConsole(), KeptConsole()
    with docker_engine(monkeypatch) as engine:
        images.prepare(first)
        images.prepare(second)
    assert set(delivery.delivered) == engine.images
    assert "images: built, pushed to ghcr.io/anna" in first.said
    assert "slowly" in first.said
    assert "images: unchanged (" in second.said
