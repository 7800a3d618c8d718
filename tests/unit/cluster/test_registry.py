from __future__ import annotations

import itertools
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from docker.errors import APIError, NotFound

from windsock.cluster import engine, registry
from windsock.cluster.registry import IMAGE, NODE_OF, OWNER, ROLE, Registry
from windsock.errors import DeadlineExceeded, EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

AIRFLOW = "windsock-airflow:1111"
NAME = "demo-registry"


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
    """An engine, as far as the registry needs one; it records what changes something."""

    known: set[str] = field(default_factory=lambda: {AIRFLOW, IMAGE})
    pushed: set[str] = field(default_factory=set)
    held: list[FakeContainer] = field(default_factory=list)
    kept: dict[str, dict[str, str]] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    free_ports: Iterator[int] = field(default_factory=lambda: itertools.count(40000))
    unready: int = 0
    refusal: str = ""
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

    def add_node(self, name: str, role: str = "control-plane") -> FakeContainer:
        labels = {NODE_OF: "demo", ROLE: role}
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
    def push(self, repository: str, *, tag: str, **_: Any) -> Iterator[dict[str, Any]]:
        name = f"{repository}:{tag}"
        assert name in self.docker.known
        self.docker.record("push", name)
        detail = {"current": 2 << 20, "total": 8 << 20}
        yield {"status": "Pushing", "id": "a", "progressDetail": detail}
        if self.docker.refusal:
            yield {"error": self.docker.refusal}
        else:
            self.docker.pushed.add(name)


class Clock:
    """Time that passes only in pauses."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker()
    fake.add_node("demo-control-plane")

    @contextmanager
    def connected(_: int = 0) -> Iterator[FakeDocker]:
        try:
            yield fake
        except APIError as error:
            raise EnvironmentFailure("Docker refused", engine.words(error)) from error

    monkeypatch.setattr(engine, "connected", connected)
    return fake


@pytest.fixture
def demo() -> Registry:
    clock = Clock()
    return Registry("demo", clock=clock, pause=clock.pause)


def silent(_: str) -> None:
    pass


def test_an_image_goes_to_the_registry_and_from_there_to_each_node(
    docker: FakeDocker, demo: Registry
) -> None:
    docker.add_node("demo-worker", "worker")
    docker.add_node("demo-balancer", "external-load-balancer")
    said: list[str] = []
    demo.deliver([AIRFLOW], said.append)
    assert docker.done("push") == [[f"127.0.0.1:5001/{AIRFLOW}"]]
    pulls = [call for call in docker.done("exec") if call[1] == "crictl"]
    assert pulls == [
        [node, "crictl", "pull", f"demo-registry:5000/{AIRFLOW}"]
        for node in ("demo-control-plane", "demo-worker")
    ]
    assert f"pushing {AIRFLOW}: 2 of 8 MiB" in said


def test_the_registry_is_started_once_and_joins_the_network_of_kind(
    docker: FakeDocker, demo: Registry
) -> None:
    demo.deliver([AIRFLOW], silent)
    demo.deliver([AIRFLOW], silent)
    assert docker.done("start") == [[NAME, "5001"]]
    container = docker.containers.get(NAME)
    assert container.networks == ["bridge", "kind"]
    assert container.labels == {OWNER: "demo"}
    assert container.options["restart_policy"] == {"Name": "always"}
    assert container.options["cap_drop"] == ["ALL"]


def test_an_image_that_the_registry_has_is_not_pushed_again(
    docker: FakeDocker, demo: Registry
) -> None:
    demo.deliver([AIRFLOW], silent)
    demo.deliver([AIRFLOW], silent)
    assert len(docker.done("push")) == 1
    assert docker.known == {AIRFLOW, IMAGE}  # Names for the push alone are gone.


def test_a_node_learns_where_the_registry_is_without_a_shell_reading_any_name(
    docker: FakeDocker, demo: Registry
) -> None:
    demo.deliver([AIRFLOW], silent)
    [node, shell, option, script, *arguments] = docker.done("exec")[0]
    assert (node, shell, option) == ("demo-control-plane", "sh", "-c")
    assert "demo" not in script
    assert arguments == [
        "sh",
        "/etc/containerd/certs.d/demo-registry:5000",
        '[host."http://demo-registry:5000"]\n',
    ]


def test_a_taken_port_means_another(docker: FakeDocker, demo: Registry) -> None:
    docker.taken.add(5001)
    demo.deliver([AIRFLOW], silent)
    assert docker.done("push") == [[f"127.0.0.1:40000/{AIRFLOW}"]]
    assert [each.name for each in docker.held] == ["demo-control-plane", NAME]


def test_a_registry_that_stopped_comes_back_with_its_layers(
    docker: FakeDocker, demo: Registry
) -> None:
    demo.deliver([AIRFLOW], silent)
    docker.containers.get(NAME).status = "exited"
    docker.taken.add(5001)
    demo.deliver([AIRFLOW], silent)
    container = docker.containers.get(NAME)
    assert (container.status, container.port) == ("running", 40000)
    assert container.options["volumes"] == {NAME: {"bind": registry.STORAGE, "mode": "rw"}}
    assert docker.kept == {NAME: {OWNER: "demo"}}


def test_a_registry_that_cannot_be_pulled_is_said_to_be_that(
    docker: FakeDocker, demo: Registry
) -> None:
    docker.known.remove(IMAGE)
    docker.refusal = "no such host"
    with pytest.raises(EnvironmentFailure, match=r"registry:3\.0\.0 cannot be pulled") as caught:
        demo.deliver([AIRFLOW], silent)
    assert "no such host" in caught.value.hint
    assert not docker.kept


def test_its_image_is_pulled_if_docker_does_not_have_it(docker: FakeDocker, demo: Registry) -> None:
    docker.known.remove(IMAGE)
    demo.deliver([AIRFLOW], silent)
    assert docker.done("pull") == [[IMAGE]]


def test_a_registry_that_has_just_started_is_waited_for(docker: FakeDocker, demo: Registry) -> None:
    docker.unready = 3
    demo.deliver([AIRFLOW], silent)
    assert docker.done("push")


def test_a_registry_that_never_answers_is_a_failure(docker: FakeDocker, demo: Registry) -> None:
    docker.unready = 10**6
    with pytest.raises(DeadlineExceeded, match="demo-registry does not answer"):
        demo.deliver([AIRFLOW], silent)


def test_a_refused_push_is_a_failure(docker: FakeDocker, demo: Registry) -> None:
    docker.refusal = "no space left on device"
    with pytest.raises(EnvironmentFailure, match="cannot be pushed") as caught:
        demo.deliver([AIRFLOW], silent)
    assert "no space left" in caught.value.hint
    assert docker.known == {AIRFLOW, IMAGE}


def test_a_node_that_cannot_reach_the_registry_is_a_failure(
    docker: FakeDocker, demo: Registry
) -> None:
    docker.containers.get("demo-control-plane").failing = "crictl"
    with pytest.raises(EnvironmentFailure, match="demo-control-plane") as caught:
        demo.deliver([AIRFLOW], silent)
    assert caught.value.hint == "connection refused"


def test_without_nodes_in_docker_nothing_is_started(docker: FakeDocker, demo: Registry) -> None:
    docker.held.clear()
    with pytest.raises(EnvironmentFailure, match="no node of the kind cluster demo"):
        demo.deliver([AIRFLOW], silent)
    assert not docker.held


def test_a_container_of_somebody_else_is_left_alone(docker: FakeDocker, demo: Registry) -> None:
    theirs = FakeContainer(docker, NAME, {}, ["bridge"], port=5001)
    docker.held.append(theirs)
    with pytest.raises(EnvironmentFailure, match="windsock did not make"):
        demo.deliver([AIRFLOW], silent)
    demo.remove()
    assert theirs in docker.held


def test_what_windsock_made_is_removed(docker: FakeDocker, demo: Registry) -> None:
    demo.deliver([AIRFLOW], silent)
    docker.kept["precious"] = {}
    demo.remove()
    demo.remove()
    assert [each.name for each in docker.held] == ["demo-control-plane"]
    assert docker.kept == {"precious": {}}


def test_images_have_the_names_of_the_nodes_while_they_are_loaded(
    docker: FakeDocker, demo: Registry
) -> None:
    with demo.named([AIRFLOW]) as names:
        assert names == [demo.reference(AIRFLOW)] == [f"demo-registry:5000/{AIRFLOW}"]
        assert set(names) <= docker.known
    assert docker.known == {AIRFLOW, IMAGE}
