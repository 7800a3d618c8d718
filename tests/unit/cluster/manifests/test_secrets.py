from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from windsock.cluster.api.failures import CONFLICT, FORBIDDEN, Refusal
from windsock.cluster.manifests import secrets
from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.local.secrets import Secrets

if TYPE_CHECKING:
    from pathlib import Path


class FakeCluster:
    """A namespace with at most one Secret.

    Attributes:
        unseen: How many looks do not show the Secret yet.
        refusal: The code of each refusal to create it; 0 means that it may be created.
    """

    def __init__(self, *, refusal: int = 0) -> None:
        self.secret: dict[str, Any] | None = None
        self.unseen = 0
        self.refusal = refusal

    def get(self, version: str, kind: str, name: str) -> dict[str, Any] | None:
        assert (version, kind, name) == ("v1", "Secret", secrets.NAME)
        self.unseen -= 1
        return self.secret if self.unseen < 0 else None

    def create(self, thing: dict[str, Any]) -> None:
        if self.refusal or self.secret is not None:
            raise Refusal("no", code=self.refusal or CONFLICT)
        data = {
            key: base64.b64encode(value.encode()).decode()
            for key, value in thing["stringData"].items()
        }
        self.secret = {**thing, "data": data}


def ensure(cluster: FakeCluster, folder: Path) -> Secrets:
    return secrets.ensure(cluster, folder)  # type: ignore[arg-type] # a fake


def test_the_secret_is_made_once_and_another_machine_copies_its_values(tmp_path: Path) -> None:
    cluster = FakeCluster()
    first = ensure(cluster, tmp_path / "one")
    assert ensure(cluster, tmp_path / "one") == first
    second = ensure(cluster, tmp_path / "two")
    assert second.admin_password == first.admin_password
    assert second.fernet_key == first.fernet_key
    assert second.supervisor_password != first.supervisor_password, "that one is this machine's"


def test_of_two_who_make_it_at_the_same_moment_the_second_takes_over_what_the_first_made(
    tmp_path: Path,
) -> None:
    cluster = FakeCluster()
    first = ensure(cluster, tmp_path / "one")
    cluster.unseen = 1
    second = ensure(cluster, tmp_path / "two")
    assert second.fernet_key == first.fernet_key
    assert second.database_password == first.database_password
    assert Secrets.ensure(tmp_path / "two") == second, "the values are stored on this machine"


@pytest.mark.parametrize("code", [CONFLICT, FORBIDDEN])
def test_a_secret_that_can_neither_be_made_nor_read_is_a_refusal(tmp_path: Path, code: int) -> None:
    with pytest.raises(Refusal):
        ensure(FakeCluster(refusal=code), tmp_path / "one")


def test_urls_contain_the_passwords_of_their_roles(tmp_path: Path) -> None:
    cluster = FakeCluster()
    own = ensure(cluster, tmp_path / "one")
    assert cluster.secret is not None
    values = cluster.secret["stringData"]
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


# --- the project's variables ----------------------------------------------------------------------


class Namespace:
    """A namespace with at most one Secret, that of the variables."""

    def __init__(self) -> None:
        self.secret: dict[str, Any] | None = None
        self.writes: list[str] = []

    def get(self, version: str, kind: str, name: str) -> dict[str, Any] | None:
        assert (version, kind, name) == ("v1", "Secret", secrets.VARIABLES)
        return self.secret

    def create(self, thing: dict[str, Any]) -> None:
        assert self.secret is None
        self.secret = thing
        self.writes.append("create")

    def delete(self, thing: dict[str, Any]) -> bool:
        assert thing == self.secret
        self.secret = None
        self.writes.append("delete")
        return True


def test_the_variables_of_the_project_are_a_secret_that_follows_them() -> None:
    namespace = Namespace()

    def ensure(**variables: str) -> list[str]:
        return secrets.ensure_variables(namespace, variables)  # type: ignore[arg-type] # a fake

    assert ensure() == []
    assert ensure(AIRFLOW_VAR_A="é", B="2", AIRFLOW_CONN_WAREHOUSE="x") == ["AIRFLOW_VAR_A", "B"]
    assert namespace.secret is not None
    assert base64.b64decode(namespace.secret["data"]["AIRFLOW_VAR_A"]).decode() == "é"
    assert ensure(AIRFLOW_VAR_A="é", B="2") == []
    assert ensure(AIRFLOW_VAR_A="é", B="3") == ["B"]
    assert ensure() == ["AIRFLOW_VAR_A", "B"]
    assert namespace.secret is None
    assert namespace.writes == ["create", "delete", "create", "delete"]


def test_a_name_that_kubernetes_refuses_is_told_before_anything_is_deleted() -> None:
    namespace = Namespace()
    secrets.ensure_variables(namespace, {"A": "1"})  # type: ignore[arg-type] # a fake
    with pytest.raises(ConfigurationError, match="'A/B', 'PRIX_É'") as caught:
        secrets.ensure_variables(namespace, {"A": "2", "PRIX_É": "x3", "A/B": ""})  # type: ignore[arg-type] # a fake
    assert "x3" not in str(caught.value)
    assert namespace.writes == ["create"]


def test_the_digest_of_variables_is_keyed(tmp_path: Path) -> None:
    one, other = Secrets.ensure(tmp_path / "one"), Secrets.ensure(tmp_path / "other")
    assert secrets.digest({}, one) == ""
    assert secrets.digest({"A": "1"}, one) == secrets.digest({"A": "1"}, one)
    assert secrets.digest({"A": "1"}, one) != secrets.digest({"A": "2"}, one)
    assert secrets.digest({"A": "1"}, one) != secrets.digest({"A": "1"}, other)
