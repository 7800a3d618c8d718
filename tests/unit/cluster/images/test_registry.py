from __future__ import annotations

import pytest

from tests.unit.cluster.fake_docker import FakeContainer, FakeDocker
from windsock.cluster.images import registry
from windsock.cluster.images.registry import IMAGE, OWNER, KindRegistry
from windsock.errors import DeadlineExceeded, EnvironmentFailure

AIRFLOW = "windsock-airflow:1111"
NAME = "demo-registry"


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker(known={AIRFLOW, IMAGE})
    fake.add_node("demo-control-plane")
    fake.connect(monkeypatch)
    return fake


@pytest.fixture
def demo() -> KindRegistry:
    """Its time passes in pauses alone."""
    paused: list[float] = []
    return KindRegistry("demo", clock=lambda: sum(paused), pause=paused.append)


def silent(_: str) -> None:
    pass


def test_an_image_goes_to_the_registry_and_from_there_to_each_node(
    docker: FakeDocker, demo: KindRegistry
) -> None:
    docker.add_node("demo-worker", "worker")
    docker.add_node("demo-balancer", "external-load-balancer")
    shown: list[str] = []
    demo.deliver([AIRFLOW], shown.append)
    assert docker.done("push") == [[f"127.0.0.1:5001/{AIRFLOW}"]]
    pulls = [call for call in docker.done("exec") if call[1] == "crictl"]
    assert pulls == [
        [node, "crictl", "pull", f"demo-registry:5000/{AIRFLOW}"]
        for node in ("demo-control-plane", "demo-worker")
    ]
    assert f"pushing {AIRFLOW}: 0 of 1 layers, 2 of 8 MiB" in shown


def test_the_registry_is_started_once_in_the_network_of_kind_and_gets_an_image_once(
    docker: FakeDocker, demo: KindRegistry
) -> None:
    demo.deliver([AIRFLOW], silent)
    demo.deliver([AIRFLOW], silent)
    assert docker.done("start") == [[NAME, "5001"]]
    assert len(docker.done("push")) == 1
    assert docker.known == {AIRFLOW, IMAGE}  # Names for the push alone are gone.
    container = docker.containers.get(NAME)
    assert container.networks == ["bridge", "kind"]
    assert container.labels == {OWNER: "demo"}
    assert container.options["restart_policy"] == {"Name": "always"}
    assert container.options["cap_drop"] == ["ALL"]


def test_a_node_learns_where_the_registry_is_without_a_shell_reading_any_name(
    docker: FakeDocker, demo: KindRegistry
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


def test_a_taken_port_means_another(docker: FakeDocker, demo: KindRegistry) -> None:
    docker.taken.add(5001)
    demo.deliver([AIRFLOW], silent)
    assert docker.done("push") == [[f"127.0.0.1:40000/{AIRFLOW}"]]
    assert [each.name for each in docker.held] == ["demo-control-plane", NAME]


def test_a_registry_that_stopped_comes_back_with_its_layers(
    docker: FakeDocker, demo: KindRegistry
) -> None:
    demo.deliver([AIRFLOW], silent)
    docker.containers.get(NAME).status = "exited"
    docker.taken.add(5001)
    demo.deliver([AIRFLOW], silent)
    container = docker.containers.get(NAME)
    assert (container.status, container.port) == ("running", 40000)
    assert container.options["volumes"] == {NAME: {"bind": registry.STORAGE, "mode": "rw"}}
    assert docker.kept == {NAME: {OWNER: "demo"}}


def test_a_registry_that_cannot_be_pulled_is_named(docker: FakeDocker, demo: KindRegistry) -> None:
    docker.known.remove(IMAGE)
    docker.refusal = "no such host"
    with pytest.raises(EnvironmentFailure, match=r"registry:3\.0\.0 cannot be pulled") as caught:
        demo.deliver([AIRFLOW], silent)
    assert "no such host" in caught.value.hint
    assert not docker.kept


def test_a_registry_is_pulled_started_and_waited_for(
    docker: FakeDocker, demo: KindRegistry
) -> None:
    docker.known.remove(IMAGE)
    docker.unready = 3
    demo.deliver([AIRFLOW], silent)
    assert docker.done("pull") == [[IMAGE]]
    assert docker.done("push")


def test_a_registry_that_never_answers_is_a_failure(docker: FakeDocker, demo: KindRegistry) -> None:
    docker.unready = 10**6
    with pytest.raises(DeadlineExceeded, match="demo-registry does not answer"):
        demo.deliver([AIRFLOW], silent)


def test_a_refused_push_is_a_failure(docker: FakeDocker, demo: KindRegistry) -> None:
    docker.refusal = "no space left on device"
    with pytest.raises(EnvironmentFailure, match="cannot be pushed") as caught:
        demo.deliver([AIRFLOW], silent)
    assert "no space left" in caught.value.hint
    assert docker.known == {AIRFLOW, IMAGE}


def test_a_node_that_cannot_reach_the_registry_is_a_failure(
    docker: FakeDocker, demo: KindRegistry
) -> None:
    docker.containers.get("demo-control-plane").failing = "crictl"
    with pytest.raises(EnvironmentFailure, match="demo-control-plane") as caught:
        demo.deliver([AIRFLOW], silent)
    assert caught.value.hint == "connection refused"


def test_without_nodes_in_docker_nothing_is_started(docker: FakeDocker, demo: KindRegistry) -> None:
    docker.held.clear()
    with pytest.raises(EnvironmentFailure, match="no node of the kind cluster demo"):
        demo.deliver([AIRFLOW], silent)
    assert not docker.held


def test_a_container_of_somebody_else_is_left_alone(docker: FakeDocker, demo: KindRegistry) -> None:
    theirs = FakeContainer(docker, NAME, {}, ["bridge"], port=5001)
    docker.held.append(theirs)
    with pytest.raises(EnvironmentFailure, match="windsock did not make"):
        demo.deliver([AIRFLOW], silent)
    demo.remove()
    assert theirs in docker.held


def test_what_windsock_made_is_removed(docker: FakeDocker, demo: KindRegistry) -> None:
    demo.deliver([AIRFLOW], silent)
    docker.kept["precious"] = {}
    demo.remove()
    demo.remove()
    assert [each.name for each in docker.held] == ["demo-control-plane"]
    assert docker.kept == {"precious": {}}


def test_images_have_the_names_of_the_nodes_while_they_are_loaded(
    docker: FakeDocker, demo: KindRegistry
) -> None:
    with demo.named([AIRFLOW]) as names:
        assert names == [demo.reference(AIRFLOW)] == [f"demo-registry:5000/{AIRFLOW}"]
        assert set(names) <= docker.known
    assert docker.known == {AIRFLOW, IMAGE}
