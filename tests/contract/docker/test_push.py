"""What a real Docker engine sends to a registry: the layers it lacks, with the user's login."""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.contract.docker import real, stand_in
from windsock.cluster.images.named_registry import NamedRegistry
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from docker import DockerClient

    from tests.contract.docker.conftest import Registry

DOCKERFILE = b"FROM scratch\nCOPY dependencies /dependencies\nCOPY code /code\n"
DEPENDENCIES = b"a large layer" * 1000
NOBODY = "127.0.0.1:1"
"""Where nothing listens."""


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


@pytest.fixture(autouse=True)
def docker_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Docker's programs keep logins: not the user's own."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


def deliver(tag: str, address: str) -> str:
    return NamedRegistry(address).deliver([tag], lambda _: None).detail


# --- layers ---------------------------------------------------------------------------------------


def test_a_changed_layer_is_all_that_a_second_push_uploads(
    image: Image, registry: Registry
) -> None:
    deliver(image.build("1"), registry.address)
    before = registry.stored()
    assert len(before) == 3

    deliver(image.build("2"), registry.address)
    dependencies, code = registry.layers(image.name, "2")
    assert dependencies == registry.layers(image.name, "1")[0]
    assert registry.stored() - before == {code, registry.config(image.name, "2")}


def test_the_progress_of_a_push_counts_layers(image: Image, registry: Registry) -> None:
    tag, said = image.build("1"), list[str]()
    NamedRegistry(registry.address).deliver([tag], said.append)
    assert f"pushing {tag}: 2 of 2 layers" in said[-1]


def test_an_image_that_the_registry_has_is_not_pushed_again(
    image: Image, registry: Registry
) -> None:
    tag = image.build("1")
    assert deliver(tag, registry.address) == f"pushed to {registry.address}"
    before = registry.stamp(image.name, "1")
    assert deliver(tag, registry.address) == ""
    assert registry.stamp(image.name, "1") == before


def test_what_was_pushed_is_pulled_by_the_name_in_the_manifests(
    client: DockerClient, image: Image, registry: Registry
) -> None:
    tag = image.build("1")
    deliver(tag, registry.address)
    known = client.images.get(tag).id
    image.remove()
    image.tags.clear()
    pulled = client.images.pull(NamedRegistry(registry.address).reference(tag))
    image.tags.append(pulled.tags[0])
    assert pulled.id == known


def test_nothing_of_a_push_stays_in_docker(
    client: DockerClient, image: Image, registry: Registry
) -> None:
    tag = image.build("1")
    deliver(tag, registry.address)
    assert client.images.get(tag).tags == [tag]


def test_a_path_in_the_registry_is_a_part_of_the_name(image: Image, registry: Registry) -> None:
    deliver(image.build("1"), f"{registry.address}/anna/dev")
    assert len(registry.layers(f"anna/dev/{image.name}", "1")) == 2


# --- logins ---------------------------------------------------------------------------------------


def log_in(folder: Path, address: str, login: str) -> None:
    """As `docker login` does where there is no credential helper."""
    word = base64.b64encode(login.encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {address: {"auth": word}}}))


def test_without_a_login_the_push_is_refused_with_how_to_log_in(
    image: Image, guarded: Registry
) -> None:
    with pytest.raises(EnvironmentFailure, match="cannot be pushed") as caught:
        deliver(image.build("1"), guarded.address)
    assert f"docker login {guarded.address}" in caught.value.hint
    assert guarded.stored() == set()


def test_a_wrong_login_is_refused_with_how_to_log_in(
    image: Image, guarded: Registry, docker_folder: Path
) -> None:
    log_in(docker_folder, guarded.address, "anna:wrong")
    with pytest.raises(EnvironmentFailure, match="cannot be pushed") as caught:
        deliver(image.build("1"), guarded.address)
    assert f"docker login {guarded.address}" in caught.value.hint


def test_the_login_of_dockers_configuration_is_used(
    image: Image, guarded: Registry, docker_folder: Path
) -> None:
    log_in(docker_folder, guarded.address, real.LOGIN)
    tag = image.build("1")
    assert deliver(tag, guarded.address) == f"pushed to {guarded.address}"
    assert deliver(tag, guarded.address) == ""
    assert len(guarded.layers(image.name, "1")) == 2


def test_the_login_of_a_credential_helper_is_used(
    image: Image, guarded: Registry, docker_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, _, password = real.LOGIN.partition(":")
    helper = docker_folder / "docker-credential-test"
    answer = json.dumps({"ServerURL": guarded.address, "Username": user, "Secret": password})
    # A build asks for what there is, a push for one of them.
    helper.write_text(f"#!/bin/sh\ncase $1 in get) echo '{answer}' ;; list) echo '{{}}' ;; esac\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker_folder}{os.pathsep}{os.environ['PATH']}")
    (docker_folder / "config.json").write_text(json.dumps({"credsStore": "test"}))
    tag = image.build("1")
    assert deliver(tag, guarded.address) == f"pushed to {guarded.address}"


# --- failures -------------------------------------------------------------------------------------


def test_a_denied_push_is_told(client: DockerClient, image: Image, docker_folder: Path) -> None:
    with stand_in.serving(login=real.LOGIN) as held:
        held.refuses = True
        log_in(docker_folder, held.address, real.LOGIN)
        tag = image.build("1")
        with pytest.raises(EnvironmentFailure, match="denied") as caught:
            deliver(tag, held.address)
    assert "may not push there" in caught.value.hint
    assert client.images.get(tag).tags == [tag]


def test_a_registry_that_nobody_runs_is_told(image: Image) -> None:
    with pytest.raises(EnvironmentFailure, match="connection refused") as caught:
        deliver(image.build("1"), NOBODY)
    assert f"docker login {NOBODY}" in caught.value.hint
