from __future__ import annotations

import base64
import json
import stat
from typing import TYPE_CHECKING

import pytest

from windsock.errors import EnvironmentFailure
from windsock.local.secrets import FILE, Secrets

if TYPE_CHECKING:
    from pathlib import Path

NAMES = (
    "fernet_key",
    "jwt_secret",
    "api_secret_key",
    "owner_password",
    "database_password",
    "warehouse_password",
    "supervisor_password",
    "admin_password",
)


def test_secrets_are_made_once_and_differ_between_environments(tmp_path: Path) -> None:
    first = Secrets.ensure(tmp_path / "one")
    assert Secrets.ensure(tmp_path / "one") == first
    other = Secrets.ensure(tmp_path / "two")
    values = [getattr(item, name) for item in (first, other) for name in NAMES]
    assert len(set(values)) == 2 * len(NAMES)
    assert len(base64.urlsafe_b64decode(first.fernet_key)) == 32


def test_every_file_is_private_again_after_each_ensure(tmp_path: Path) -> None:
    found = Secrets.ensure(tmp_path / "s")
    for path in (tmp_path / "s").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
    (tmp_path / "s").chmod(0o755)
    Secrets.ensure(tmp_path / "s")
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700
    for path in (found.admin_password_file, found.users_file, tmp_path / "s" / FILE):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_secret_is_shown(tmp_path: Path) -> None:
    found = Secrets.ensure(tmp_path)
    shown = repr(found) + str(found)
    assert not [name for name in NAMES if getattr(found, name) in shown]


def test_the_admin_password_is_kept_for_people_and_for_airflow(tmp_path: Path) -> None:
    found = Secrets.ensure(tmp_path)
    assert found.admin_password_file.read_text() == found.admin_password + "\n"
    assert json.loads(found.users_file.read_text()) == {"admin": found.admin_password}
    with found.users_file.open("r+"):  # as Airflow opens it
        pass
    found.users_file.unlink()
    found.admin_password_file.write_text("something else")
    again = Secrets.ensure(tmp_path)
    assert again == found
    assert json.loads(again.users_file.read_text()) == {"admin": found.admin_password}
    assert again.admin_password_file.read_text().strip() == found.admin_password


def test_a_secret_that_an_older_windsock_did_not_know_is_added(tmp_path: Path) -> None:
    found = Secrets.ensure(tmp_path)
    values = json.loads((tmp_path / FILE).read_text())
    del values["warehouse_password"]
    (tmp_path / FILE).write_text(json.dumps(values))
    again = Secrets.ensure(tmp_path)
    assert again.fernet_key == found.fernet_key
    assert again.warehouse_password not in ("", found.warehouse_password)
    assert Secrets.ensure(tmp_path) == again


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"text"', '{"fernet_key": 3}', '{"jwt_secret": ""}', '{"fernet_key": "short"}'],
)
def test_a_damaged_file_is_told_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    Secrets.ensure(tmp_path)
    (tmp_path / FILE).write_text(text)
    with pytest.raises(EnvironmentFailure, match="is damaged") as caught:
        Secrets.ensure(tmp_path)
    assert "invoke down --volumes" in caught.value.hint
    assert (tmp_path / FILE).read_text() == text


def test_adopted_secrets_win_and_are_kept(tmp_path: Path) -> None:
    own = Secrets.ensure(tmp_path / "s")
    adopted = Secrets.ensure(tmp_path / "s", adopted={"admin_password": "theirs"})
    assert adopted.admin_password == "theirs"
    assert adopted.admin_password_file.read_text() == "theirs\n"
    assert adopted.fernet_key == own.fernet_key
    assert Secrets.ensure(tmp_path / "s") == adopted
