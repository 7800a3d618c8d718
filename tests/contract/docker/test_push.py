"""What a real Docker engine sends to a registry: the layers it lacks, once."""

from __future__ import annotations

import gc
import io
import tarfile
import uuid
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.contract.docker.stand_in import Held, serving
from windsock.cluster import engine
from windsock.cluster.registry import Registry
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from docker import DockerClient

DOCKERFILE = b"FROM scratch\nCOPY dependencies /dependencies\nCOPY code /code\n"
DEPENDENCIES = b"a large layer" * 1000


@pytest.fixture
def client() -> Iterator[DockerClient]:
    with ExitStack() as stack:
        client, problem = None, ""
        try:
            client = stack.enter_context(engine.connected())
        except EnvironmentFailure as error:
            problem = error.message
        if client is None:
            _collect_what_the_sdk_left_open()
            pytest.skip(problem)
        yield client


def _collect_what_the_sdk_left_open() -> None:
    """Docker's SDK leaves its socket to the garbage collector where no engine listens."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def held() -> Iterator[Held]:
    with serving() as held:
        yield held


class Image:
    """An image of two layers, of which the second changes; each version has a tag of its own."""

    def __init__(self, client: DockerClient) -> None:
        self._client = client
        self.name = f"windsock-push-{uuid.uuid4().hex[:8]}"
        self.tags: list[str] = []

    def build(self, version: str) -> str:
        tag = f"{self.name}:{version}"
        files = {
            "Dockerfile": DOCKERFILE,
            "dependencies": self.name.encode() + DEPENDENCIES,
            "code": version.encode(),
        }
        for message in self._client.api.build(
            fileobj=_archive(files), custom_context=True, tag=tag, rm=True, decode=True
        ):
            assert "error" not in message
        self.tags.append(tag)
        return tag

    def remove(self) -> None:
        for tag in self.tags:
            self._client.images.remove(tag)


def _archive(files: Mapping[str, bytes]) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    stream.seek(0)
    return stream


@pytest.fixture
def image(client: DockerClient) -> Iterator[Image]:
    image = Image(client)
    yield image
    image.remove()


def push(client: DockerClient, tag: str, held: Held) -> None:
    Registry("windsock-test").push(client, tag, held.address, lambda _: None)


def test_a_changed_layer_is_all_that_a_second_push_uploads(
    client: DockerClient, image: Image, held: Held
) -> None:
    push(client, image.build("1"), held)
    assert len(held.uploaded) == 3
    held.uploaded.clear()

    push(client, image.build("2"), held)
    dependencies, code = held.layers(image.name, "2")
    assert dependencies == held.layers(image.name, "1")[0]
    assert sorted(held.uploaded) == sorted([code, held.config(image.name, "2")])


def test_an_image_that_the_registry_has_is_not_pushed_again(
    client: DockerClient, image: Image, held: Held
) -> None:
    tag = image.build("1")
    push(client, tag, held)
    push(client, tag, held)
    assert held.tagged == [tag]


def test_nothing_of_a_push_stays_in_docker(client: DockerClient, image: Image, held: Held) -> None:
    tag = image.build("1")
    push(client, tag, held)
    assert client.images.get(tag).tags == [tag]


def test_a_refused_push_is_told(client: DockerClient, image: Image, held: Held) -> None:
    tag = image.build("1")
    held.refuses = True
    with pytest.raises(EnvironmentFailure, match="cannot be pushed") as caught:
        push(client, tag, held)
    assert "denied" in caught.value.hint
    assert client.images.get(tag).tags == [tag]
