"""A real Docker engine, and registries for it: one in memory, and a real one if it is installed."""

from __future__ import annotations

import gc
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.contract.docker import real, stand_in
from windsock.cluster.images import engine
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from docker import DockerClient


class Registry(Protocol):
    """A registry, seen from behind."""

    address: str

    def stored(self) -> set[str]:
        """The digests of the layers and configurations that it has."""

    def stamp(self, name: str, tag: str) -> object:
        """Something that is another each time that the image is pushed."""

    def layers(self, name: str, tag: str) -> list[str]:
        """The digests of an image's layers."""

    def config(self, name: str, tag: str) -> str:
        """The digest of an image's configuration."""


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


@pytest.fixture(params=["stand-in", "real"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the two registries."""
    if request.param == "real" and real.program() is None:
        pytest.skip("no program docker-registry or registry is installed")
    return str(request.param)


def _serving(kind: str, folder: Path, login: str) -> AbstractContextManager[Registry]:
    if kind == "real":
        return real.serving(folder, login=login)
    return stand_in.serving(login=login)


@pytest.fixture
def registry(client: DockerClient, kind: str, tmp_path: Path) -> Iterator[Registry]:
    """A registry that asks nobody who he is."""
    del client  # No registry is started where no engine is.
    with _serving(kind, tmp_path, "") as registry:
        yield registry


@pytest.fixture
def guarded(client: DockerClient, kind: str, tmp_path: Path) -> Iterator[Registry]:
    """A registry that wants the login `real.LOGIN`."""
    del client
    with _serving(kind, tmp_path, real.LOGIN) as registry:
        yield registry
