"""How images get to the nodes of a kind cluster."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from windsock.cluster.images.delivery import ToKind
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

AIRFLOW, POSTGRES = "windsock-airflow:1111", "windsock-postgres:2222"
HOST = "windsock-registry:5000"


class FakeKind:
    """A kind cluster, and the images that were loaded onto its nodes."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load(self, images: Sequence[str], **_: Any) -> None:
        self.loaded.extend(images)


class FakeRegistry:
    """A registry, and the images that were delivered by it."""

    def __init__(self) -> None:
        self.delivered: list[str] = []
        self.failure: EnvironmentFailure | None = None

    def reference(self, name: str) -> str:
        return f"{HOST}/{name}"

    def deliver(self, images: Sequence[str], _: Callable[[str], None]) -> None:
        if self.failure is not None:
            raise self.failure
        self.delivered.extend(images)

    @contextmanager
    def named(self, images: Sequence[str]) -> Iterator[list[str]]:
        yield [self.reference(name) for name in images]


class Rig:
    """A delivery to a kind cluster of fakes."""

    def __init__(self) -> None:
        self.kind: Any = FakeKind()
        self.registry: Any = FakeRegistry()
        self.on_nodes: set[str] = set()

    def deliver(self) -> str:
        delivery = ToKind(kind=self.kind, registry=self.registry, on_nodes=lambda: self.on_nodes)
        return delivery.deliver([AIRFLOW, POSTGRES], lambda _: None).warning


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_only_what_the_nodes_lack_is_delivered(rig: Rig) -> None:
    rig.on_nodes = {f"{HOST}/{POSTGRES}"}
    assert rig.deliver() == ""
    assert rig.registry.delivered == [AIRFLOW]
    rig.on_nodes.add(f"{HOST}/{AIRFLOW}")
    rig.deliver()
    assert rig.registry.delivered == [AIRFLOW]
    assert rig.kind.loaded == []


def test_an_image_under_another_name_is_not_the_one_that_pods_ask_for(rig: Rig) -> None:
    rig.on_nodes = {AIRFLOW, POSTGRES}
    rig.deliver()
    assert rig.registry.delivered == [AIRFLOW, POSTGRES]


def test_without_a_registry_images_are_loaded_whole_and_a_warning_has_the_reason(rig: Rig) -> None:
    rig.registry.failure = EnvironmentFailure("registry:3.0.0 cannot be pulled", "no such\nhost")
    warning = rig.deliver()
    assert warning == "images were loaded whole: registry:3.0.0 cannot be pulled. no such host"
    assert rig.kind.loaded == [f"{HOST}/{AIRFLOW}", f"{HOST}/{POSTGRES}"]
