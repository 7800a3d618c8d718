"""The environment's keys and passwords as a Kubernetes Secret, made once.

The Secret in the namespace is the truth: the database was made with its passwords, and a colleague
or another machine may have made it. Its values are copied into this machine's secrets folder, whose
admin password the commands use.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from typing import TYPE_CHECKING, Any

from windsock.cluster.api.client import MANAGED
from windsock.cluster.api.failures import CONFLICT, Refusal
from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.local.secrets import ADMIN, Secrets

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from windsock.cluster.api.client import Cluster

NAME = "airflow-secrets"
VARIABLES = "airflow-variables"
"""The Secret of what the project gives to Airflow's processes; it may not exist."""
DATABASE = "airflow"
WAREHOUSE = "warehouse"
WAREHOUSE_VARIABLE = "AIRFLOW_CONN_WAREHOUSE"
HOST = "postgres"

KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
"""A key of a Secret."""

_KEYS = {
    "fernet_key": "AIRFLOW__CORE__FERNET_KEY",
    "jwt_secret": "AIRFLOW__API_AUTH__JWT_SECRET",
    "api_secret_key": "AIRFLOW__API__SECRET_KEY",
    "owner_password": "POSTGRES_OWNER_PASSWORD",
    "database_password": "POSTGRES_AIRFLOW_PASSWORD",
    "warehouse_password": "POSTGRES_WAREHOUSE_PASSWORD",
}
"""Field of `Secrets` → key of the Secret, where the value is the field's own."""


def ensure(cluster: Cluster, folder: Path) -> Secrets:
    """The environment's secrets, now also in this folder; the Secret is made if there is none.

    Raises:
        EnvironmentFailure: The Secret lacks a key, or may not be read or made.
    """
    found = cluster.get("v1", "Secret", NAME)
    if found is None:
        own = Secrets.ensure(folder)
        try:
            cluster.create(_secret(own))
        except Refusal as error:
            found = cluster.get("v1", "Secret", NAME) if error.code == CONFLICT else None
            if found is None:  # Else somebody made it since we looked.
                raise
        else:
            return own
    return Secrets.ensure(folder, adopted=_values(found.get("data") or {}))


def ensure_variables(cluster: Cluster, variables: Mapping[str, str]) -> list[str]:
    """Make the Secret of the project's variables equal to them; without any there is no Secret.

    It is made anew: an account need not be allowed to change Secrets.

    Returns:
        The names of those that have changed.

    Raises:
        ConfigurationError: A name cannot be a key of a Secret; nothing is changed then.
    """
    if refused := sorted(name for name in variables if not KEY.fullmatch(name)):
        raise ConfigurationError(
            f"Kubernetes refuses these names of variables: {', '.join(map(repr, refused))}",
            "Give them others, in `.env` or your shell: letters, digits, `_`, `-` and `.`.",
        )
    found = cluster.get("v1", "Secret", VARIABLES)
    before = (found.get("data") or {}) if found else {}
    wanted = {
        name: base64.b64encode(value.encode()).decode()
        for name, value in variables.items()
        if name != WAREHOUSE_VARIABLE
    }
    changed = sorted(name for name in {*before, *wanted} if before.get(name) != wanted.get(name))
    if not changed:
        return []
    if found is not None:
        cluster.delete(found)
    if wanted:
        cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": VARIABLES, "labels": dict(MANAGED)},
                "type": "Opaque",
                "data": wanted,
            }
        )
    return changed


def digest(variables: Mapping[str, str], secrets: Secrets) -> str:
    """What changes with the variables, and does not give them away; empty if there are none."""
    if not variables:
        return ""
    text = json.dumps(variables, sort_keys=True).encode()
    return hmac.new(secrets.jwt_secret.encode(), text, hashlib.sha256).hexdigest()[:16]


def _secret(secrets: Secrets) -> dict[str, Any]:
    airflow = f"{DATABASE}:{secrets.database_password}@{HOST}:5432/{DATABASE}"
    warehouse = f"{WAREHOUSE}:{secrets.warehouse_password}@{HOST}:5432/{WAREHOUSE}"
    values = {key: getattr(secrets, name) for name, key in _KEYS.items()}
    values |= {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{airflow}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://{airflow}",
        WAREHOUSE_VARIABLE: f"postgres://{warehouse}",
        "users.json": json.dumps({ADMIN: secrets.admin_password}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME, "labels": dict(MANAGED)},
        "type": "Opaque",
        "stringData": values,
    }


def _values(data: Mapping[str, str]) -> dict[str, str]:
    """The fields of `Secrets` in a Secret's base64 data."""
    try:
        keys = [*_KEYS.values(), "users.json"]
        texts = {key: base64.b64decode(data[key]).decode() for key in keys}
        values = {name: texts[key] for name, key in _KEYS.items()}
        values["admin_password"] = json.loads(texts["users.json"])[ADMIN]
    except (KeyError, ValueError) as error:
        raise EnvironmentFailure(
            f"the Secret {NAME} in the cluster cannot be used: {error}",
            "`invoke down --volumes` removes it with the database that it belongs to.",
        ) from error
    return values
