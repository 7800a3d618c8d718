"""The registry that the settings name: what is pushed there, with whose login, and its errors."""

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


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of Docker's own configuration."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def configure(home: Path, **content: Any) -> None:
    (home / "config.json").write_text(json.dumps(content))


def log_in(home: Path, host: str) -> None:
    configure(home, auths={host: {"auth": base64.b64encode(b"anna:secret").decode()}})


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker(known={AIRFLOW, POSTGRES})
    fake.connect(monkeypatch)
    return fake


def silent(_: str) -> None:
    pass


def deliver(*images: str, address: str = ADDRESS) -> str:
    return NamedRegistry(address).deliver(images, silent).detail


def hint(docker: FakeDocker, refusal: str) -> str:
    docker.refusal = refusal
    with pytest.raises(EnvironmentFailure, match=r"cannot be pushed to ghcr\.io/anna") as caught:
        deliver(AIRFLOW)
    assert refusal in caught.value.message
    return caught.value.hint


def test_what_the_registry_has_is_not_pushed_again(docker: FakeDocker) -> None:
    assert deliver(AIRFLOW) == "pushed to ghcr.io/anna"
    assert deliver(AIRFLOW, POSTGRES) == "pushed to ghcr.io/anna"
    assert docker.done("push") == [[f"{ADDRESS}/{AIRFLOW}"], [f"{ADDRESS}/{POSTGRES}"]]
    assert docker.known == {AIRFLOW, POSTGRES}, "a name for the push stays in Docker"
    assert deliver(AIRFLOW, POSTGRES) == ""


def test_a_name_that_a_node_has_pulled_stays_in_docker(docker: FakeDocker) -> None:
    docker.known.add(f"{ADDRESS}/{AIRFLOW}")
    deliver(AIRFLOW)
    assert f"{ADDRESS}/{AIRFLOW}" in docker.known


def test_a_registry_that_does_not_tell_what_it_has_is_pushed_to(docker: FakeDocker) -> None:
    docker.secretive = True
    deliver(AIRFLOW)
    assert docker.done("push") == [[f"{ADDRESS}/{AIRFLOW}"]]


def test_the_login_of_docker_is_used_for_its_own_host_alone(docker: FakeDocker, home: Path) -> None:
    log_in(home, "ghcr.io")
    deliver(AIRFLOW)
    deliver(AIRFLOW, address="127.0.0.1:5000")
    anna, nobody = docker.logins
    assert (anna["username"], anna["password"]) == ("anna", "secret")
    assert nobody == {}


@pytest.mark.parametrize("address", ["docker.io/anna", "index.docker.io/anna"])
def test_the_login_of_docker_hub_is_found_by_each_of_its_names(
    docker: FakeDocker, home: Path, address: str
) -> None:
    log_in(home, "https://index.docker.io/v1/")
    deliver(AIRFLOW, address=address)
    assert docker.logins[0]["username"] == "anna"


def test_a_missing_credential_helper_is_named(docker: FakeDocker, home: Path) -> None:
    configure(home, credsStore="no-such-helper")
    with pytest.raises(EnvironmentFailure, match="docker-credential-no-such-helper") as caught:
        deliver(AIRFLOW)
    assert "docker login ghcr.io" in caught.value.hint
    assert docker.done("push") == []


@pytest.mark.usefixtures("docker")
def test_a_damaged_login_is_named(home: Path) -> None:
    configure(home, auths={"ghcr.io": {"auth": "x"}})
    with pytest.raises(EnvironmentFailure, match=r"login for ghcr\.io cannot be read"):
        deliver(AIRFLOW)


@pytest.mark.parametrize(
    "refusal",
    [
        "unauthorized: authentication required",
        "no basic auth credentials",
        "denied: requested access to the resource is denied",
    ],
)
def test_without_a_login_the_hint_is_to_log_in(docker: FakeDocker, refusal: str) -> None:
    assert hint(docker, refusal) == "Log in and try again: `docker login ghcr.io`."


def test_a_login_that_may_not_push_has_a_hint_of_its_own(docker: FakeDocker, home: Path) -> None:
    log_in(home, "ghcr.io")
    advice = hint(docker, "denied: permission_denied: write_package")
    assert "may not push there" in advice
    assert "docker login ghcr.io" in advice


def test_for_a_registry_without_tls_the_hint_names_the_setting_of_docker(
    docker: FakeDocker,
) -> None:
    advice = hint(docker, "http: server gave HTTP response to HTTPS client")
    assert "insecure-registries" in advice


def test_for_a_registry_that_does_not_answer_the_hint_names_its_setting(
    docker: FakeDocker,
) -> None:
    advice = hint(docker, "dial tcp: lookup ghcr.io: no such host")
    assert "docker login ghcr.io" in advice
    assert "windsock.cluster.registry" in advice
