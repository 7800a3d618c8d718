"""The registry that the settings name: what is pushed there, with whose login, and what is said."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.cluster.fake_docker import FakeDocker
from windsock.cluster.images.named_registry import NamedRegistry
from windsock.errors import EnvironmentFailure

if TYPE_CHECKING:
    from pathlib import Path

AIRFLOW, POSTGRES = "windsock-airflow:1111", "windsock-postgres:2222"
ADDRESS = "ghcr.io/anna"


class Configuration:
    """Docker's own configuration of the user."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, **content: Any) -> None:
        (self._folder / "config.json").write_text(json.dumps(content))

    def log_in(self, host: str) -> None:
        word = base64.b64encode(b"anna:secret").decode()
        self.write(auths={host: {"auth": word}})


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    return Configuration(tmp_path)


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker(known={AIRFLOW, POSTGRES})
    fake.connect(monkeypatch)
    return fake


def silent(_: str) -> None:
    pass


def deliver(*images: str, address: str = ADDRESS) -> list[str]:
    return list(NamedRegistry(address).deliver(images, silent).images)


def refused(docker: FakeDocker, said: str) -> EnvironmentFailure:
    docker.refusal = said
    with pytest.raises(EnvironmentFailure, match=r"cannot be pushed to ghcr\.io/anna") as caught:
        deliver(AIRFLOW)
    assert said in caught.value.message
    return caught.value


def test_what_the_registry_has_is_not_pushed_again(docker: FakeDocker) -> None:
    assert deliver(AIRFLOW) == [AIRFLOW]
    assert deliver(AIRFLOW, POSTGRES) == [POSTGRES]
    assert docker.done("push") == [[f"{ADDRESS}/{AIRFLOW}"], [f"{ADDRESS}/{POSTGRES}"]]


def test_the_name_for_the_push_does_not_stay_in_docker(docker: FakeDocker) -> None:
    deliver(AIRFLOW)
    assert docker.known == {AIRFLOW, POSTGRES}


def test_a_name_that_a_node_has_pulled_stays_in_docker(docker: FakeDocker) -> None:
    docker.known.add(f"{ADDRESS}/{AIRFLOW}")
    deliver(AIRFLOW)
    assert f"{ADDRESS}/{AIRFLOW}" in docker.known


def test_a_registry_that_does_not_tell_what_it_has_is_pushed_to(docker: FakeDocker) -> None:
    docker.secretive = True
    assert deliver(AIRFLOW) == [AIRFLOW]


def test_the_login_of_docker_is_used_for_its_own_host_alone(
    docker: FakeDocker, configuration: Configuration
) -> None:
    configuration.log_in("ghcr.io")
    deliver(AIRFLOW)
    deliver(AIRFLOW, address="127.0.0.1:5000")
    anna, nobody = docker.logins
    assert (anna["username"], anna["password"]) == ("anna", "secret")
    assert nobody == {}


@pytest.mark.parametrize("address", ["docker.io/anna", "index.docker.io/anna"])
def test_the_login_of_docker_hub_is_found_by_each_of_its_names(
    docker: FakeDocker, configuration: Configuration, address: str
) -> None:
    configuration.log_in("https://index.docker.io/v1/")
    deliver(AIRFLOW, address=address)
    assert docker.logins[0]["username"] == "anna"


def test_a_missing_credential_helper_is_named(
    docker: FakeDocker, configuration: Configuration
) -> None:
    configuration.write(credsStore="no-such-helper")
    with pytest.raises(EnvironmentFailure, match="docker-credential-no-such-helper") as caught:
        deliver(AIRFLOW)
    assert "docker login ghcr.io" in caught.value.hint
    assert docker.done("push") == []


@pytest.mark.usefixtures("docker")
def test_a_damaged_login_is_told(configuration: Configuration) -> None:
    configuration.write(auths={"ghcr.io": {"auth": "x"}})
    with pytest.raises(EnvironmentFailure, match=r"login for ghcr\.io cannot be read"):
        deliver(AIRFLOW)


@pytest.mark.parametrize(
    "said",
    [
        "unauthorized: authentication required",
        "no basic auth credentials",
        "denied: requested access to the resource is denied",
    ],
)
def test_without_a_login_the_hint_is_to_log_in(docker: FakeDocker, said: str) -> None:
    assert refused(docker, said).hint == "Log in and try again: `docker login ghcr.io`."


def test_a_login_that_may_not_push_is_told_apart(
    docker: FakeDocker, configuration: Configuration
) -> None:
    configuration.log_in("ghcr.io")
    hint = refused(docker, "denied: permission_denied: write_package").hint
    assert "may not push there" in hint
    assert "docker login ghcr.io" in hint


def test_a_registry_without_tls_is_told_what_docker_makes_of_it(docker: FakeDocker) -> None:
    hint = refused(docker, "http: server gave HTTP response to HTTPS client").hint
    assert "insecure-registries" in hint


def test_a_registry_that_does_not_answer_is_told_by_its_setting(docker: FakeDocker) -> None:
    hint = refused(docker, "dial tcp: lookup ghcr.io: no such host").hint
    assert "docker login ghcr.io" in hint
    assert "windsock.cluster.registry" in hint
