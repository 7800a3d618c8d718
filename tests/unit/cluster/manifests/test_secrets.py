from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from windsock.cluster.api.failures import CONFLICT, FORBIDDEN, Refusal
from windsock.cluster.manifests import secrets
from windsock.errors import EnvironmentFailure
from windsock.local.secrets import Secrets

if TYPE_CHECKING:
    from pathlib import Path


class FakeCluster:
    """A namespace that holds at most one Secret."""

    def __init__(self) -> None:
        self.secret: dict[str, Any] | None = None

    def get(self, version: str, kind: str, name: str) -> dict[str, Any] | None:
        assert (version, kind, name) == ("v1", "Secret", secrets.NAME)
        return self.secret

    def create(self, thing: dict[str, Any]) -> None:
        if self.secret is not None:
            raise Refusal("there is one", code=CONFLICT)
        data = {
            key: base64.b64encode(value.encode()).decode()
            for key, value in thing["stringData"].items()
        }
        self.secret = {**thing, "data": data}


def ensure(cluster: FakeCluster, folder: Path) -> Secrets:
    return secrets.ensure(cluster, folder)  # type: ignore[arg-type] # a fake


def test_the_secret_is_made_once_and_then_kept(tmp_path: Path) -> None:
    cluster = FakeCluster()
    first = ensure(cluster, tmp_path / "one")
    assert ensure(cluster, tmp_path / "one") == first


def test_another_machine_takes_over_what_the_cluster_has(tmp_path: Path) -> None:
    cluster = FakeCluster()
    first = ensure(cluster, tmp_path / "one")
    second = ensure(cluster, tmp_path / "two")
    assert second.admin_password == first.admin_password
    assert second.fernet_key == first.fernet_key
    assert second.supervisor_password != first.supervisor_password, "that one is this machine's"


def test_of_two_who_make_it_at_the_same_moment_the_second_takes_over_what_the_first_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = FakeCluster()
    first = ensure(cluster, tmp_path / "one")
    looks = iter([None, cluster.secret])
    monkeypatch.setattr(cluster, "get", lambda *_: next(looks))
    second = ensure(cluster, tmp_path / "two")
    assert second.fernet_key == first.fernet_key
    assert second.database_password == first.database_password
    assert Secrets.ensure(tmp_path / "two") == second, "it is kept here"


@pytest.mark.parametrize("code", [CONFLICT, FORBIDDEN])
def test_a_secret_that_can_neither_be_made_nor_read_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(_: object) -> None:
        raise Refusal("no", code=code)

    cluster = FakeCluster()
    monkeypatch.setattr(cluster, "create", refuse)
    with pytest.raises(Refusal):
        ensure(cluster, tmp_path / "one")


def test_urls_hold_the_passwords_of_their_roles(tmp_path: Path) -> None:
    own = Secrets.ensure(tmp_path / "s")
    values = secrets.secret_object(own)["stringData"]
    assert own.database_password in values["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert own.database_password in values["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"]
    assert own.warehouse_password in values["AIRFLOW_CONN_WAREHOUSE"]


def test_a_secret_that_lacks_a_key_is_named(tmp_path: Path) -> None:
    cluster = FakeCluster()
    ensure(cluster, tmp_path / "one")
    assert cluster.secret is not None
    del cluster.secret["data"]["users.json"]
    with pytest.raises(EnvironmentFailure, match="airflow-secrets"):
        ensure(cluster, tmp_path / "two")
