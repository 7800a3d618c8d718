"""The secrets of one environment: generated once, stored in 0600 files, shown to nobody.

Airflow's users file has the form that SimpleAuthManager reads, `{"admin": "<password>"}`. Airflow
opens it for appending even when nothing is missing in it, so it is a file of its own.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import string
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from windsock.errors import EnvironmentFailure
from windsock.files import cannot, private_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ADMIN = "admin"
"""The user of Airflow's UI and API."""

FILE = "secrets.json"
ADMIN_PASSWORD_FILE = "admin-password"  # noqa: S105 - a file name
USERS_FILE = "airflow-users.json"


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """Every secret of an environment. Its repr shows none of them.

    Attributes:
        folder: The 0700 folder they are stored in.
        fernet_key: Encrypts connections and variables in Airflow's database.
        jwt_secret: Signs the tokens between Airflow's components.
        api_secret_key: Airflow's `[api] secret_key`.
        owner_password: Of PostgreSQL's superuser.
        database_password: Of the role `airflow`.
        warehouse_password: Of the role `warehouse`, which DAGs use.
        supervisor_password: For the supervisor's socket.
        admin_password: For the user `admin` of Airflow's UI and API.
    """

    folder: Path
    fernet_key: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    api_secret_key: str = field(repr=False)
    owner_password: str = field(repr=False)
    database_password: str = field(repr=False)
    warehouse_password: str = field(repr=False)
    supervisor_password: str = field(repr=False)
    admin_password: str = field(repr=False)

    @classmethod
    def ensure(cls, folder: Path, *, adopted: Mapping[str, str] | None = None) -> Secrets:
        """Read the secrets of `folder`, and make those that do not exist yet.

        Args:
            folder: It may not exist.
            adopted: Name of a field → a secret that replaces the one in the folder.

        Raises:
            EnvironmentFailure: A file is damaged, or cannot be read or written.
        """
        private_folder(folder)
        _make_private(folder, 0o700)
        file = folder / FILE
        stored = _read(file)
        values = _generate() | stored | dict(adopted or {})
        if values != stored:
            write_whole(file, json.dumps(values, indent=2) + "\n")
        found = cls(folder=folder, **values)
        _write_if_changed(found.admin_password_file, found.admin_password + "\n")
        _write_if_changed(found.users_file, json.dumps({ADMIN: found.admin_password}) + "\n")
        for path in (file, found.admin_password_file, found.users_file):
            _make_private(path, 0o600)
        return found

    @property
    def admin_password_file(self) -> Path:
        """Nothing but the admin password."""
        return self.folder / ADMIN_PASSWORD_FILE

    @property
    def users_file(self) -> Path:
        """For `[core] simple_auth_manager_passwords_file`."""
        return self.folder / USERS_FILE


_NAMES = tuple(item.name for item in fields(Secrets) if item.name != "folder")


def _generate() -> dict[str, str]:
    letters = string.ascii_letters + string.digits
    made = {name: secrets.token_urlsafe(32) for name in _NAMES}
    made["jwt_secret"] = secrets.token_urlsafe(64)  # HS512 wants a key of its own length
    made["fernet_key"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    # Typed by people: letters and digits only, still 119 bits.
    made["admin_password"] = "".join(secrets.choice(letters) for _ in range(20))
    return made


def _read(file: Path) -> dict[str, str]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise cannot(f"read {file}", error) from error
    except ValueError as error:
        raise _damaged(file, "it is no JSON") from error
    if not isinstance(values, dict):
        raise _damaged(file, "it is no mapping")
    stored = {name: values[name] for name in _NAMES if name in values}
    for name, value in stored.items():
        if not isinstance(value, str) or not value:
            raise _damaged(file, f"{name} is no text")
    if "fernet_key" in stored and not _is_fernet_key(stored["fernet_key"]):
        raise _damaged(file, "fernet_key is no Fernet key")
    return stored


def _is_fernet_key(text: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(text)) == 32  # noqa: PLR2004 - Fernet's key size
    except (binascii.Error, ValueError):
        return False


def _damaged(file: Path, why: str) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"{file} is damaged: {why}",
        "It holds the keys of this environment's database. Restore the file if you can;\n"
        "otherwise `invoke down --volumes` wipes the environment and the next `up` is fresh.",
    )


def _write_if_changed(path: Path, text: str) -> None:
    with suppress(OSError, ValueError):
        if path.read_text(encoding="utf-8") == text:
            return
    write_whole(path, text)


def _make_private(path: Path, mode: int) -> None:
    try:
        if path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)
    except OSError as error:
        raise cannot(f"make {path} private", error) from error
