"""How images get onto a kind cluster's nodes, and what the manifests call them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.fakes import KeptConsole
from windsock.cluster.images import image
from windsock.cluster.images.delivery import Delivered
from windsock.cluster.images.image import Images
from windsock.cluster.manifests import render as manifests
from windsock.config import Settings
from windsock.errors import EnvironmentFailure
from windsock.targets.cluster import parts
from windsock.targets.cluster.parts import Parts
from windsock.targets.cluster.target import ClusterTarget, delete_cluster
from windsock.targets.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from windsock.errors import WindsockError

AIRFLOW, POSTGRES = "windsock-airflow:1111", "windsock-postgres:2222"
HOST = "windsock-registry:5000"


class FakeCluster:
    """A cluster whose nodes have some images."""

    def __init__(self) -> None:
        self.images: set[str] = set()

    def version(self) -> str:
        return "1.31"

    def served(self, _: object) -> set[tuple[str, str]]:
        return set()

    def node_images(self) -> set[str]:
        return self.images


class FakeKind:
    """A kind cluster that is there, and what was loaded onto it."""

    name = "windsock"

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.deleted = False

    def ensure(self, _: Callable[[str], None]) -> bool:
        return False

    def load(self, images: Sequence[str], **_: Any) -> None:
        self.loaded.extend(images)

    def deletable(self, **_: Any) -> bool:
        return False

    def delete(self, **_: Any) -> None:
        self.deleted = True


class FakeRegistry:
    """A registry, and what was delivered by it."""

    def __init__(self) -> None:
        self.delivered: list[str] = []
        self.failure: WindsockError | None = None
        self.removed = False

    def reference(self, name: str) -> str:
        return f"{HOST}/{name}"

    def deliver(self, images: Sequence[str], _: Callable[[str], None]) -> None:
        if self.failure is not None:
            raise self.failure
        self.delivered.extend(images)

    @contextmanager
    def named(self, images: Sequence[str]) -> Iterator[list[str]]:
        yield [self.reference(name) for name in images]

    def remove(self) -> None:
        self.removed = True


class Rig:
    """A target whose cluster, kind and registry are fakes."""

    def __init__(self, settings: Settings, target: str = "kind") -> None:
        self.cluster, self.kind, self.registry = FakeCluster(), FakeKind(), FakeRegistry()
        self.console = KeptConsole()
        place = Location(target=target, context="kind-windsock", namespace="windsock")
        self.target = ClusterTarget(Parts(settings=settings, location=place, variables={}))
        vars(self.target.parts).update(cluster=self.cluster, kind=self.kind, registry=self.registry)

    def prepare(self) -> None:
        self.target.prepare(self.console)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "dags").mkdir()
    (tmp_path / ".windsock").mkdir()
    images = Images(airflow=AIRFLOW, postgres=POSTGRES)
    monkeypatch.setattr(image, "ensure", lambda _, **__: images)
    monkeypatch.setattr(image, "wanted", lambda _: images)
    monkeypatch.setattr(manifests, "render", lambda *_: [])
    return Settings(project=tmp_path)


@pytest.fixture
def rig(settings: Settings) -> Rig:
    return Rig(settings)


def test_only_what_the_nodes_lack_is_delivered(rig: Rig) -> None:
    rig.cluster.images = {f"{HOST}/{POSTGRES}"}
    rig.prepare()
    assert rig.registry.delivered == [AIRFLOW]
    assert rig.kind.loaded == []
    rig.cluster.images.add(f"{HOST}/{AIRFLOW}")
    rig.prepare()
    assert rig.registry.delivered == [AIRFLOW]


def test_an_image_under_another_name_is_not_the_one_that_pods_ask_for(rig: Rig) -> None:
    rig.cluster.images = {AIRFLOW, POSTGRES}
    rig.prepare()
    assert rig.registry.delivered == [AIRFLOW, POSTGRES]


def test_without_a_registry_images_are_loaded_whole_and_a_line_says_why(rig: Rig) -> None:
    rig.registry.failure = EnvironmentFailure("registry:3.0.0 cannot be pulled", "no such\nhost")
    rig.prepare()
    assert rig.kind.loaded == [f"{HOST}/{AIRFLOW}", f"{HOST}/{POSTGRES}"]
    [line] = [line for line in rig.console.said.splitlines() if "whole" in line]
    assert "registry:3.0.0 cannot be pulled. no such host" in line


def named_in_manifests(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    asked: dict[str, Any] = {}

    def objects(_: Path, **options: Any) -> list[Any]:
        asked.update(options)
        return []

    monkeypatch.setattr(manifests, "objects", objects)
    rig.target.parts.objects()
    return asked["airflow_image"], asked["postgres_image"]


def test_manifests_call_the_images_as_the_nodes_do(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert named_in_manifests(rig, monkeypatch) == (f"{HOST}/{AIRFLOW}", f"{HOST}/{POSTGRES}")


def test_another_cluster_gets_the_images_by_their_own_names(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(settings, target="context")
    assert named_in_manifests(rig, monkeypatch) == (AIRFLOW, POSTGRES)
    rig.prepare()
    assert rig.registry.delivered == []


class FakeNamedRegistry:
    """The registry of the settings, and what it has."""

    destination = "ghcr.io/anna"

    def __init__(self) -> None:
        self.held: set[str] = set()

    def reference(self, name: str) -> str:
        return f"{self.destination}/{name}"

    def deliver(self, images: Sequence[str], _: Callable[[str], None]) -> Delivered:
        missing = [name for name in images if name not in self.held]
        self.held.update(missing)
        return Delivered(detail=f"pushed to {self.destination}" if missing else "")


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> FakeNamedRegistry:
    fake = FakeNamedRegistry()
    monkeypatch.setattr(parts, "NamedRegistry", lambda address: {fake.destination: fake}[address])
    return fake


def with_registry(settings: Settings, target: str) -> Rig:
    own = replace(settings.cluster, registry=FakeNamedRegistry.destination)
    return Rig(replace(settings, cluster=own), target=target)


def test_images_go_by_the_registry_that_the_settings_name(
    settings: Settings, named: FakeNamedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = with_registry(settings, "context")
    rig.prepare()
    assert named.held == {AIRFLOW, POSTGRES}
    assert "images: unchanged, pushed to ghcr.io/anna" in rig.console.said
    wanted = (f"ghcr.io/anna/{AIRFLOW}", f"ghcr.io/anna/{POSTGRES}")
    assert named_in_manifests(rig, monkeypatch) == wanted


def test_a_second_time_nothing_is_said_to_be_pushed(
    settings: Settings, named: FakeNamedRegistry
) -> None:
    named.held = {AIRFLOW, POSTGRES}
    rig = with_registry(settings, "context")
    rig.prepare()
    assert "images: unchanged (" in rig.console.said


def test_kind_keeps_to_the_registry_beside_it(
    settings: Settings, named: FakeNamedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = with_registry(settings, "kind")
    rig.prepare()
    assert named.held == set()
    assert named_in_manifests(rig, monkeypatch) == (f"{HOST}/{AIRFLOW}", f"{HOST}/{POSTGRES}")


def test_the_registry_goes_with_the_cluster(rig: Rig) -> None:
    delete_cluster(rig.target.parts, rig.console)
    assert rig.kind.deleted
    assert rig.registry.removed
