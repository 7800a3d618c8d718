"""A Docker engine in memory: as much of the SDK's client as registries need."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, NotFound

from windsock.cluster.images import engine
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pytest


@dataclass
class FakeContainer:
    """A container, and what is done with it."""

    docker: FakeDocker
    name: str
    labels: dict[str, str]
    networks: list[str]
    port: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    status: str = "running"
    failing: str = ""

    @property
    def ports(self) -> dict[str, list[dict[str, str]]]:
        return {"5000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(self.port)}]}

    @property
    def attrs(self) -> dict[str, Any]:
        return {"NetworkSettings": {"Networks": {name: {} for name in self.networks}}}

    def start(self) -> None:
        if self.port in self.docker.taken:
            raise APIError("port is already allocated")
        self.port = self.port or next(self.docker.free_ports)
        self.status = "running"
        self.docker.record("start", self.name, str(self.port))

    def reload(self) -> None:
        """A fake is always up to date."""

    def remove(self, **_: Any) -> None:
        self.docker.record("remove", self.name)
        self.docker.held.remove(self)

    def exec_run(self, command: list[str]) -> tuple[int, bytes]:
        self.docker.record("exec", self.name, *command)
        return (1, b"connection refused\n") if command[0] == self.failing else (0, b"")


@dataclass
class FakeDocker:
    """An engine; it records what changes something.

    Attributes:
        known: The images that it has.
        pushed: The images that registries have.
        unready: How many questions a registry leaves unanswered.
        refusal: What a registry says to a push or a pull; empty if it takes it.
        logins: With what pushes were made.
        secretive: Whether registries tell nobody what they have.
    """

    known: set[str] = field(default_factory=set)
    pushed: set[str] = field(default_factory=set)
    held: list[FakeContainer] = field(default_factory=list)
    kept: dict[str, dict[str, str]] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    free_ports: Iterator[int] = field(default_factory=lambda: itertools.count(40000))
    unready: int = 0
    refusal: str = ""
    logins: list[dict[str, str]] = field(default_factory=list)
    secretive: bool = False
    calls: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.containers = _Containers(self)
        self.images = _Images(self)
        self.volumes = _Volumes(self)
        self.networks = _Networks(self)
        self.api = _Api(self)

    def record(self, *call: str) -> None:
        self.calls.append(call)

    def done(self, verb: str) -> list[list[str]]:
        return [list(rest) for known, *rest in self.calls if known == verb]

    def connect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let windsock reach this engine instead of a real one."""

        @contextmanager
        def connected(_: int = 0) -> Iterator[FakeDocker]:
            try:
                yield self
            except APIError as error:
                raise EnvironmentFailure("Docker refused", engine.words(error)) from error

        monkeypatch.setattr(engine, "connected", connected)

    def add_node(self, name: str, role: str = "control-plane") -> FakeContainer:
        labels = {"io.x-k8s.kind.cluster": "demo", "io.x-k8s.kind.role": role}
        node = FakeContainer(self, name, labels, networks=["kind"])
        self.held.append(node)
        return node


@dataclass
class _Part:
    docker: FakeDocker


class _Containers(_Part):
    def get(self, name: str) -> FakeContainer:
        for container in self.docker.held:
            if container.name == name:
                return container
        raise NotFound(name)

    def list(self, *, filters: Mapping[str, str], **_options: Any) -> list[FakeContainer]:
        key, _, value = filters["label"].partition("=")
        return [each for each in self.docker.held if each.labels.get(key) == value]

    def create(
        self, image: str, *, name: str, labels: dict[str, str], ports: Any, **options: Any
    ) -> FakeContainer:
        assert image in self.docker.known
        [(address, port)] = ports.values()
        assert address == "127.0.0.1"
        made = FakeContainer(
            self.docker, name, labels, ["bridge"], port=port, options=options, status="created"
        )
        self.docker.held.append(made)
        return made


@dataclass
class FakeImage:
    docker: FakeDocker

    def tag(self, repository: str, tag: str) -> None:
        self.docker.known.add(f"{repository}:{tag}")


class _Images(_Part):
    def get(self, name: str) -> FakeImage:
        if name not in self.docker.known:
            raise NotFound(name)
        return FakeImage(self.docker)

    def remove(self, name: str, **_: Any) -> None:
        self.docker.known.remove(name)

    def pull(self, name: str) -> None:
        if self.docker.refusal:
            raise APIError(self.docker.refusal)
        self.docker.record("pull", name)
        self.docker.known.add(name)

    def get_registry_data(self, name: str, **_: Any) -> None:
        if self.docker.unready:
            self.docker.unready -= 1
            raise APIError("connection refused")
        if self.docker.secretive:
            raise APIError("denied")
        if name not in self.docker.pushed:
            raise NotFound("manifest unknown")


@dataclass
class FakeVolume:
    docker: FakeDocker
    name: str

    def remove(self) -> None:
        del self.docker.kept[self.name]


class _Volumes(_Part):
    def create(self, name: str, *, labels: dict[str, str]) -> None:
        self.docker.kept.setdefault(name, labels)

    def list(self, *, filters: Mapping[str, str]) -> list[FakeVolume]:
        key, _, value = filters["label"].partition("=")
        found = [name for name, labels in self.docker.kept.items() if labels.get(key) == value]
        return [FakeVolume(self.docker, name) for name in found]


@dataclass
class FakeNetwork:
    name: str

    def connect(self, container: FakeContainer) -> None:
        container.networks.append(self.name)


class _Networks(_Part):
    def get(self, name: str) -> FakeNetwork:
        return FakeNetwork(name)


class _Api(_Part):
    def push(
        self, repository: str, *, tag: str, auth_config: dict[str, str], **_: Any
    ) -> Iterator[dict[str, Any]]:
        name = f"{repository}:{tag}"
        assert name in self.docker.known
        self.docker.record("push", name)
        self.docker.logins.append(auth_config)
        detail = {"current": 2 << 20, "total": 8 << 20}
        yield {"status": "Pushing", "id": "a", "progressDetail": detail}
        if self.docker.refusal:
            yield {"error": self.docker.refusal}
        else:
            self.docker.pushed.add(name)
